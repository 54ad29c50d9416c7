"""The end-to-end predictor: from a network's choices and exact sizes to its latency, by any regressor.

It needs no kernel times, only end-to-end ones: what can be had from any device. Most regressors see the masked one-hot encoding; two see
what the network's layers add up to (:mod:`~layerclock.predictors.layer_sums`), and often need far fewer networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import ArgumentError, PredictorError
from layerclock.predictors.additive import MATERN_LENGTH, AdditiveRegressor
from layerclock.predictors.encoding import add_features, add_masked_one_hot, features, masked_one_hot
from layerclock.predictors.fitting import calibrated_half_width, make_card, measured_networks, training_networks
from layerclock.predictors.graph import FLOAT, GraphBuilder
from layerclock.predictors.grouping import GroupedSites
from layerclock.predictors.layer_sums import LayerSums
from layerclock.predictors.matern import add_matern
from layerclock.predictors.regressors import REGRESSORS, Candidate, Chosen, choose_regressor
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable, NetworkTimes
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import GenomeArray

    FloatArray = npt.NDArray[np.float64]

__all__ = ["MODELS", "EndToEnd", "fit_endtoend"]

# The models that cross-validation chooses among, in order of what an answer costs.
MODELS = ("additive", *REGRESSORS, "additive-matern")
_OF_SUMS = ("additive", "additive-matern")
# Groups of columns whose distance the curved covariance takes: the network's sizes and its choices.
_CURVED = 2
# The file computes in float32; what it answers may differ from the fitted regressor's answer by this much.
_TOLERANCE = 1e-3
# No answer is below this share of the fastest network of the fit: a line that falls beyond what was measured ends below zero.
_LOWEST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class EndToEnd:
    """A regressor of networks, chosen by cross-validation and fitted: ``choose(...)``, then ``model.predict(genomes)``."""

    index: SiteIndex
    chosen: Chosen
    sums: LayerSums | None = None

    @classmethod
    def choose(
        cls, index: SiteIndex, genomes: npt.ArrayLike, values: FloatArray, names: Sequence[str] = MODELS, estimator: Any = None
    ) -> EndToEnd:
        """The best of ``names`` for ``values`` float64[N] of genomes int64[N, G], or ``estimator`` alone; raises what the regressors do."""
        known = features(index, genomes)
        if estimator is not None:
            return cls(index, choose_regressor({type(estimator).__name__: Candidate(lambda: estimator, known)}, values))
        candidates = {name: Candidate(make, known) for name, make in REGRESSORS.items()}
        sums = LayerSums.of(index) if set(names) & set(_OF_SUMS) else None
        if sums:
            layers, groups = sums(genomes), sums.groups
            candidates["additive"] = Candidate(lambda: AdditiveRegressor(groups), layers)
            candidates["additive-matern"] = Candidate(lambda: AdditiveRegressor(groups, _CURVED), layers)
        chosen = choose_regressor({name: candidates[name] for name in names}, values)
        return cls(index, chosen, sums if chosen.name in _OF_SUMS else None)

    @property
    def linear(self) -> bool:
        """Whether a value is a weighted sum of what the regressor sees."""
        estimator = self.chosen.estimator
        return not estimator.curved if self.sums else hasattr(estimator, "coef_")

    def predict(self, genomes: npt.ArrayLike) -> FloatArray:
        """Values float64[N] of genomes int64[N, G]."""
        return self.chosen.predict(self.sums(genomes) if self.sums else features(self.index, genomes))

    def add_to(self, graph: GraphBuilder, one_hot: str) -> str:
        """Add the regressor to a graph of the masked one-hot encoding: the name of its values, float32[N].

        Raises :class:`PredictorError` if it cannot be written.
        """
        if self.sums:
            (linear,) = GroupedSites.of_sites(self.index, option_values(self.chosen, self.sums)[:, None]).add_to(graph)
            return graph.add("Add", [linear, _add_curved(graph, self.chosen, self.sums)], "told_ms") if not self.linear else linear
        encoded = add_features(graph, self.index, one_hot)
        relative = graph.add_estimator(self.chosen.estimator, encoded, int(self.index.cardinality.sum()) + 2)
        scaled = graph.add("Mul", [relative, graph.constant("scale_ms", np.array(self.chosen.scale, dtype=np.float32))], "scaled_ms")
        return graph.add("Add", [scaled, graph.constant("offset_ms", np.array(self.chosen.offset, dtype=np.float32))], "told_ms")


def option_values(chosen: Chosen, sums: LayerSums) -> FloatArray:
    """Of a regressor of sums of layers, but for what is curved: what each option adds to the value, float64[T]."""
    by_column = chosen.estimator.coef_ / sums.scale * chosen.scale
    constant = chosen.estimator.intercept_ * chosen.scale + chosen.offset - float(sums.centre @ by_column)
    values: FloatArray = sums.table @ by_column + constant / len(sums.index.sites)
    return values


def _add_curved(graph: GraphBuilder, chosen: Chosen, sums: LayerSums) -> str:
    """What is curved of a regressor of sums of layers, float32[N]."""
    index, known = sums.index, chosen.estimator.known_
    options = graph.options(index.radix, index.offsets, "site_options")
    site = np.repeat(np.arange(len(index.sites)), np.diff(np.append(index.offsets, len(index.option_layer))))
    at_site = graph.add("Gather", [options, graph.constant("site_of_option", site)], "at_site", axis=1)
    equal = graph.add("Equal", [at_site, graph.constant("every_option", np.arange(len(site)))], "stands")
    stands = graph.add("Cast", [equal], "stands_as_number", to=FLOAT)
    table = graph.constant("curved_table", sums.per_site(known.shape[1]).astype(np.float32))
    columns = graph.add("MatMul", [stands, table], "curved_columns")
    covariances = add_matern(graph, columns, known, MATERN_LENGTH, "known_networks")
    weights = graph.constant("curved_weights", (chosen.estimator.curved_coef_ * chosen.scale).astype(np.float32))
    return graph.add("MatMul", [covariances, weights], "curved_ms")


def fit_endtoend(table: LatencyTable, space: SearchSpace, model: str = "", estimator: Any = None) -> OnnxPredictor:
    """Fit to the profiled networks of ``table``; held-out networks are never looked at.

    ``model`` names one of :data:`MODELS`; by default cross-validation chooses. Or ``estimator`` is any scikit-learn regressor that skl2onnx
    can write: it is cloned, and sees features float64[N, F] and latencies with mean 0 and standard deviation 1. Intervals are conformal,
    on the table's networks for calibration or, without them, on the cross-validation's predictions. No answer is below half of the fastest
    network's latency (``lowest_ms`` in the card).

    Raises :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks,
    :class:`ArgumentError` for an unknown model, and :class:`PredictorError` if the regressor cannot be written as ONNX.
    """
    if model and model not in MODELS:
        raise ArgumentError(f"there is no model {model!r}", f"models: {', '.join(MODELS)}")
    index = SiteIndex.of(space)
    networks = training_networks(table, space, index)
    names = (model,) if model else tuple(name for name in MODELS if name not in _OF_SUMS or LayerSums.affordable(index))
    while True:
        regressor = EndToEnd.choose(index, networks.genomes, networks.latency_ms, names, estimator)
        try:
            return _written(regressor, table, networks)
        except PredictorError:
            names = tuple(name for name in names if name != regressor.chosen.name)
            if model or estimator is not None or not names:
                raise


def _written(regressor: EndToEnd, table: LatencyTable, networks: NetworkTimes) -> OnnxPredictor:
    """The chosen regressor as a file. Raises :class:`PredictorError` if that answers otherwise."""
    index, chosen = regressor.index, regressor.chosen
    lowest_ms = _LOWEST_SHARE * float(networks.latency_ms.min())

    def answers(genomes: GenomeArray) -> FloatArray:
        bounded: FloatArray = np.maximum(regressor.predict(genomes), lowest_ms)
        return bounded

    residuals = networks.latency_ms / np.maximum(chosen.left_out, lowest_ms) - 1
    unseen = measured_networks(table, "calibration")
    unseen_residuals = unseen.latency_ms / answers(unseen.genomes) - 1 if len(unseen) else np.array([])
    half_width = calibrated_half_width(unseen_residuals, residuals, networks.mean_noise)
    parameters = {f"{name}_error": error for name, error in chosen.errors.items() if np.isfinite(error)} | {"lowest_ms": lowest_ms}
    card = make_card("endtoend", table, index, networks, half_width, parameters, chosen.name)
    # Coverage: the share of a network's active choices that the fit has seen.
    seen = np.asarray(masked_one_hot(index, networks.genomes).any(axis=0))
    graph = GraphBuilder()
    # What is a sum over groups of genes, as a linear regressor is, is looked up: ten times faster than encoding every genome.
    grouped = GroupedSites.of_function(index, _separable(regressor, seen)) if regressor.linear else None
    if grouped:
        latency, seen_choices, choices = grouped.add_to(graph)
    else:
        one_hot = add_masked_one_hot(graph, index)
        latency = regressor.add_to(graph, one_hot)
        seen_choices = graph.add("MatMul", [one_hot, graph.constant("seen", seen.astype(np.float32))], "seen_choices")
        choices = graph.sum_columns(one_hot, "choices")
    latency = graph.add("Max", [latency, graph.constant("lowest_ms", np.array(lowest_ms, dtype=np.float32))], "bounded_ms")
    coverage = graph.add("Div", [seen_choices, choices], "share_seen")
    predictor = graph.finish(latency, coverage, card)
    off = float(np.abs(predictor.predict(networks.genomes).latency_ms / answers(networks.genomes) - 1).max())
    if not off <= _TOLERANCE:
        raise PredictorError(f"the ONNX form of {chosen.name} answers {off:.1%} off in float32", "choose another model")
    return predictor


def _separable(regressor: EndToEnd, seen: npt.NDArray[np.bool_]) -> Callable[[GenomeArray], FloatArray]:
    """Of a linear regressor: latency, choices that the fit has seen, and all choices, float64[N, 3] of genomes int64[N, G]."""
    index, chosen = regressor.index, regressor.chosen
    by_option = option_values(chosen, regressor.sums) if regressor.sums else None

    def told(genomes: GenomeArray) -> FloatArray:
        encoded = features(index, genomes)  # not rounded to float32: what is rounded is no sum of parts
        hot = encoded[:, :-2]
        if by_option is None:
            values = np.ravel(chosen.estimator.predict(encoded)) * chosen.scale + chosen.offset
        else:
            values = by_option[index.options(genomes)].sum(axis=1)
        return np.column_stack([values, hot @ seen, hot.sum(axis=1)])

    return told
