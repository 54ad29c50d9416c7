"""A fitted Gaussian process as a predictor file: as a graph that computes it, or as a list of its answers for all genomes. Needs onnx.

The list is for spaces whose own code takes part in the views (see :mod:`~layerclock.predictors.transfer.views`): it is exact, and small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import PredictorError
from layerclock.predictors.encoding import masked_one_hot
from layerclock.predictors.graph import GraphBuilder
from layerclock.predictors.matern import add_matern
from layerclock.predictors.transfer.covariances import LENGTH, components_of
from layerclock.predictors.transfer.mixture import MEAN_VARIANCE
from layerclock.predictors.transfer.views import every_genome

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from layerclock.predictors.portable import OnnxPredictor, PredictorCard
    from layerclock.predictors.transfer.covariances import Component
    from layerclock.predictors.transfer.gaussian import FittedGaussian
    from layerclock.predictors.transfer.source_models import SourceModels
    from layerclock.space import GenomeArray

    FloatArray = npt.NDArray[np.float64]

__all__ = ["build_transfer_predictor"]

# The file computes in float32; what it answers may differ from the fitted process by this much.
_TOLERANCE = 1e-3


def build_transfer_predictor(fitted: FittedGaussian, measured: GenomeArray, card: PredictorCard) -> OnnxPredictor:
    """The predictor file of a process fitted to the networks ``measured`` int64[K, G].

    A network's coverage is the share of its active choices that occur in these. Raises :class:`PredictorError` if float32 does not suffice.
    """
    index = fitted.prior.views.index
    seen_choices = np.asarray(masked_one_hot(index, measured).any(axis=0))
    listed = None if fitted.prior.views.portable else every_genome(index)
    if listed is not None:
        return _list(fitted, listed, seen_choices, card)
    predictor = _compute(fitted, seen_choices, card)
    off = float(np.abs(np.log(predictor.predict(measured).latency_ms) - fitted.predict(measured).mean).max())
    if not off <= _TOLERANCE:
        raise PredictorError(f"the ONNX form of the Gaussian process answers {off:.1%} off in float32", "give fewer source devices")
    return predictor


def _list(fitted: FittedGaussian, listed: GenomeArray, seen_choices: npt.NDArray[np.bool_], card: PredictorCard) -> OnnxPredictor:
    index = fitted.prior.views.index
    told = fitted.predict(listed)
    hot = masked_one_hot(index, listed)
    reach = fitted.interval_factor * told.std
    columns = {
        "latency": np.exp(told.mean),
        "lower": np.exp(told.mean - reach),
        "upper": np.exp(told.mean + reach),
        "share_seen": hot @ seen_choices / np.maximum(hot.sum(axis=1), 1.0),
    }
    graph = GraphBuilder()
    radix = np.array([[int(np.prod(index.cardinality[gene + 1 :]))] for gene in range(len(index.genes))], dtype=np.int64)
    number = graph.add("Squeeze", [graph.options(radix, np.zeros(1, dtype=np.int64), "numbers"), _axis(graph, 1)], "number")
    names = {
        name: graph.add("Gather", [graph.constant(f"{name}_list", values.astype(np.float32)), number], name)
        for name, values in columns.items()
    }
    return graph.finish(names["latency"], names["share_seen"], card, bounds=(names["lower"], names["upper"]))


def _compute(fitted: FittedGaussian, seen_choices: npt.NDArray[np.bool_], card: PredictorCard) -> OnnxPredictor:
    prior, posterior = fitted.prior, fitted.posterior
    graph = GraphBuilder()
    views = prior.views.add_to(graph)
    hot = "masked_one_hot"
    if prior.sources is not None:
        views |= _through_sources(graph, prior.sources, views)
    parts, summed, owns = [], [], []
    for number, component in enumerate(prior.components):
        name = f"component{number}"
        across = _between(graph, component, views[component.view], fitted.known[component.view], name)
        parts.append(across)
        weight = np.array(posterior.weights[number], dtype=np.float32)
        summed.append(graph.add("Mul", [across, graph.constant(f"{name}_weight", weight)], f"{name}_weighted"))
        if component.shape == "linear":
            squares = _squares(graph, views[component.view], f"{name}_squares")
            owns.append(graph.add("Mul", [squares, f"{name}_weight"], f"{name}_own"))
    joined = graph.add("Concat", parts, "covariances", axis=1)
    products = _times(graph, joined, posterior.coefficients.reshape(-1, len(posterior.share)), "products")
    by_mixture = graph.add("Add", [products, graph.constant("constants", posterior.constants.astype(np.float32))], "by_mixture")
    share = posterior.share[:, None]
    column = _times(graph, by_mixture, share, "mean_column")
    mean = graph.add("Squeeze", [column, _axis(graph, 1)], "mean")
    apart = graph.add("Sub", [by_mixture, column], "apart")
    between = graph.add(
        "Squeeze", [_times(graph, graph.add("Mul", [apart, apart], "apart_squares"), share, "between_column"), _axis(graph, 1)], "between"
    )
    log_latency = _affine(graph, mean, fitted.spread, fitted.centre, "log_latency")
    latency = graph.add("Exp", [log_latency], "latency")
    # The variance of a new measurement (see Posterior.tell), and with it both ends of the interval.
    covariance = _sum(graph, summed, MEAN_VARIANCE, "covariance")
    explained_parts = graph.add("Mul", [_times(graph, covariance, posterior.inverse, "solved"), covariance], "explained_parts")
    explained = graph.sum_columns(explained_parts, "explained")
    constant_own = sum(
        float(weight) for weight, component in zip(posterior.weights, prior.components, strict=True) if component.shape != "linear"
    )
    own = _sum(graph, owns, MEAN_VARIANCE + constant_own, "own")
    left = graph.add("Max", [graph.add("Sub", [own, explained], "unexplained"), _number(graph, "nought", 0.0)], "at_least_nought")
    within = _affine(graph, left, posterior.scale, posterior.scale * posterior.noise, "within")
    variance = graph.add("Add", [within, between], "variance")
    deviation = graph.add("Sqrt", [variance], "deviation")
    reach = graph.add("Mul", [deviation, _number(graph, "reach_factor", fitted.interval_factor * fitted.spread)], "reach")
    lower = graph.add("Exp", [graph.add("Sub", [log_latency, reach], "log_lower")], "lower")
    upper = graph.add("Exp", [graph.add("Add", [log_latency, reach], "log_upper")], "upper")
    seen = graph.add("MatMul", [hot, graph.constant("seen", seen_choices.astype(np.float32))], "seen_choices")
    coverage = graph.add("Div", [seen, graph.sum_columns(hot, "choices")], "share_seen")
    return graph.finish(latency, coverage, card, bounds=(lower, upper))


def _through_sources(graph: GraphBuilder, models: SourceModels, views: Mapping[str, str]) -> dict[str, str]:
    """The views through other devices: their predicted latencies, and the directions in which these differ."""
    components = components_of(tuple(models.inducing))
    parts = [
        _between(graph, component, views[component.view], models.inducing[component.view], f"source{number}")
        for number, component in enumerate(components)
    ]
    summed = _sum(graph, parts, 0.0, "source_covariance")
    width = np.sqrt(models.weights.shape[1])
    told = _times(graph, summed, models.weights / len(components), "source_sums")
    centred = graph.add("Sub", [told, graph.constant("source_centre", models.centre.astype(np.float32))], "source_latencies")
    return {
        "devices": graph.add("Mul", [centred, _number(graph, "per_device", 1 / width)], "devices"),
        "directions": _times(graph, centred, models.whitening / width, "directions"),
    }


def _between(graph: GraphBuilder, component: Component, view: str, known: FloatArray, name: str) -> str:
    """Covariances float32[N, K] of networks by their view, and K known ones float64[K, F]; see :meth:`Component.between`."""
    if component.shape == "linear":
        return _times(graph, view, known.T, f"{name}_products")
    return add_matern(graph, view, known, LENGTH, name)


def _squares(graph: GraphBuilder, tensor: str, name: str) -> str:
    """The rows' squared lengths, float32[N]."""
    return graph.sum_columns(graph.add("Mul", [tensor, tensor], f"{name}_parts"), name)


def _times(graph: GraphBuilder, tensor: str, matrix: FloatArray, name: str) -> str:
    return graph.add("MatMul", [tensor, graph.constant(f"{name}_matrix", matrix.astype(np.float32))], name)


def _sum(graph: GraphBuilder, tensors: list[str], constant: float, name: str) -> str:
    return graph.add("Sum", [*tensors, _number(graph, f"{name}_constant", constant)], name)


def _affine(graph: GraphBuilder, tensor: str, factor: float, offset: float, name: str) -> str:
    scaled = graph.add("Mul", [tensor, _number(graph, f"{name}_factor", factor)], f"{name}_scaled")
    return graph.add("Add", [scaled, _number(graph, f"{name}_offset", offset)], name)


def _number(graph: GraphBuilder, name: str, value: float) -> str:
    return graph.constant(name, np.array(value, dtype=np.float32))


def _axis(graph: GraphBuilder, axis: int) -> str:
    return graph.constant(f"axis{axis}", np.array([axis], dtype=np.int64))
