"""The end-to-end predictor: from the masked one-hot encoding and exact sizes to whole-network latency, by any regressor.

It needs no kernel times, only end-to-end ones: what can be had from any device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import ArgumentError, PredictorError
from layerclock.predictors.encoding import add_features, features
from layerclock.predictors.fitting import calibrated_half_width, make_card, measured_networks, training_networks
from layerclock.predictors.graph import GraphBuilder
from layerclock.predictors.grouping import GroupedSites
from layerclock.predictors.regressors import REGRESSORS, Chosen, choose_regressor
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable, NetworkTimes
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import GenomeArray

    FloatArray = npt.NDArray[np.float64]

__all__ = ["fit_endtoend"]

# The file computes in float32; what it answers may differ from the fitted regressor's answer by this much.
_TOLERANCE = 1e-3
# No answer is below this share of the fastest network of the fit: a line that falls beyond what was measured ends below zero.
_LOWEST_SHARE = 0.5


def fit_endtoend(table: LatencyTable, space: SearchSpace, model: str = "", estimator: Any = None) -> OnnxPredictor:
    """Fit to the profiled networks of ``table``; held-out networks are never looked at.

    ``model`` names one of :data:`~layerclock.predictors.regressors.REGRESSORS`; by default cross-validation chooses. Or
    ``estimator`` is any scikit-learn regressor that skl2onnx can write: it is cloned, and sees features float64[N, F] and latencies
    with mean 0 and standard deviation 1. Intervals are conformal, on the table's networks for calibration or, without them, on
    the cross-validation's predictions. No answer is below half of the fastest network's latency (``lowest_ms`` in the card).

    Raises :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks,
    :class:`ArgumentError` for an unknown model, and :class:`PredictorError` if the regressor cannot be written as ONNX.
    """
    if model and model not in REGRESSORS:
        raise ArgumentError(f"there is no model {model!r}", f"models: {', '.join(REGRESSORS)}")
    index = SiteIndex.of(space)
    networks = training_networks(table, space, index)
    known = features(index, networks.genomes)
    names = (model,) if model else tuple(REGRESSORS)
    while True:
        chosen = _choose(known, networks.latency_ms, names, estimator)
        try:
            return _written(chosen, table, index, networks, known)
        except PredictorError:
            names = tuple(name for name in names if name != chosen.name)
            if model or estimator is not None or not names:
                raise


def _written(chosen: Chosen, table: LatencyTable, index: SiteIndex, networks: NetworkTimes, known: FloatArray) -> OnnxPredictor:
    """The chosen regressor as a file. Raises :class:`PredictorError` if that answers otherwise."""
    lowest_ms = _LOWEST_SHARE * float(networks.latency_ms.min())

    def answers(genomes: GenomeArray) -> FloatArray:
        bounded: FloatArray = np.maximum(chosen.predict(features(index, genomes)), lowest_ms)
        return bounded

    residuals = networks.latency_ms / np.maximum(chosen.left_out, lowest_ms) - 1
    unseen = measured_networks(table, "calibration")
    unseen_residuals = unseen.latency_ms / answers(unseen.genomes) - 1 if len(unseen) else np.array([])
    half_width = calibrated_half_width(unseen_residuals, residuals, networks.mean_noise)
    parameters = {f"{name}_error": error for name, error in chosen.errors.items()} | {"lowest_ms": lowest_ms}
    card = make_card("endtoend", table, index, networks, half_width, parameters, chosen.name)
    # Coverage: the share of a network's active choices that the fit has seen.
    seen = np.asarray(known[:, :-2].any(axis=0))

    def separable(genomes: GenomeArray) -> FloatArray:
        encoded = features(index, genomes)
        latency_ms = np.ravel(chosen.estimator.predict(encoded)) * chosen.scale + chosen.offset
        return np.column_stack([latency_ms, encoded[:, :-2] @ seen, encoded[:, :-2].sum(axis=1)])

    graph = GraphBuilder()
    # What is a sum over groups of genes, as a linear regressor is, is looked up: ten times faster than encoding every genome.
    grouped = GroupedSites.of_function(index, separable) if hasattr(chosen.estimator, "coef_") else None
    if grouped:
        latency, seen_choices, choices = grouped.add_to(graph)
    else:
        latency, seen_choices, choices = _add_regressor(graph, index, chosen, seen, known.shape[1])
    latency = graph.add("Max", [latency, graph.constant("lowest_ms", np.array(lowest_ms, dtype=np.float32))], "bounded_ms")
    coverage = graph.add("Div", [seen_choices, choices], "share_seen")
    predictor = graph.finish(latency, coverage, card)
    off = float(np.abs(predictor.predict(networks.genomes).latency_ms / answers(networks.genomes) - 1).max())
    if not off <= _TOLERANCE:
        raise PredictorError(f"the ONNX form of {chosen.name} answers {off:.1%} off in float32", "choose another model")
    return predictor


def _add_regressor(graph: GraphBuilder, index: SiteIndex, chosen: Chosen, seen: npt.NDArray[np.bool_], width: int) -> tuple[str, str, str]:
    """The encoding and the regressor itself: latency, seen choices and all choices, float32[N] each."""
    encoded, one_hot = add_features(graph, index)
    relative = graph.add_estimator(chosen.estimator, encoded, width)
    scaled = graph.add("Mul", [relative, graph.constant("scale_ms", np.array(chosen.scale, dtype=np.float32))], "scaled_ms")
    latency = graph.add("Add", [scaled, graph.constant("offset_ms", np.array(chosen.offset, dtype=np.float32))], "shifted_ms")
    seen_choices = graph.add("MatMul", [one_hot, graph.constant("seen", seen.astype(np.float32))], "seen_choices")
    return latency, seen_choices, graph.sum_columns(one_hot, "choices")


def _choose(known: FloatArray, latency_ms: FloatArray, names: tuple[str, ...], estimator: Any) -> Chosen:
    if estimator is None:
        return choose_regressor(known, latency_ms, names)
    return choose_regressor(known, latency_ms, {type(estimator).__name__: lambda: estimator})
