"""The end-to-end predictor: from a network's choices and exact sizes to its latency, by any regressor.

It needs no kernel times, only end-to-end ones: what can be had from any device. Most regressors see the masked one-hot encoding; two see
what the network's layers add up to (:mod:`~layerclock.predictors.layer_sums`), and need far fewer networks where latency is a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import ArgumentError, PredictorError
from layerclock.predictors.additive import MATERN_LENGTH, AdditiveRegressor
from layerclock.predictors.encoding import add_choice_counts, add_features, add_masked_one_hot, features, masked_one_hot
from layerclock.predictors.fitting import calibrated_half_width, make_card, measured_networks, training_networks
from layerclock.predictors.graph import GraphBuilder
from layerclock.predictors.grouping import GroupedSites
from layerclock.predictors.layer_sums import TOTALS, LayerSums
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
    sums: LayerSums
    chosen: Chosen

    @classmethod
    def choose(
        cls, index: SiteIndex, genomes: npt.ArrayLike, values: FloatArray, names: Sequence[str] = MODELS, estimator: Any = None
    ) -> EndToEnd:
        """The best of ``names`` for ``values`` float64[N] of genomes int64[N, G], or ``estimator`` alone; raises what the regressors do."""
        sums, known = LayerSums.of(index), features(index, genomes)
        if estimator is not None:
            return cls(index, sums, choose_regressor({type(estimator).__name__: Candidate(lambda: estimator, known)}, values))
        layers = sums(genomes)
        candidates = {name: Candidate(make, known) for name, make in REGRESSORS.items()} | {
            "additive": Candidate(lambda: AdditiveRegressor(sums.groups), layers),
            "additive-matern": Candidate(lambda: AdditiveRegressor(sums.groups, _CURVED), layers),
        }
        return cls(index, sums, choose_regressor({name: candidates[name] for name in names}, values))

    @property
    def linear(self) -> bool:
        """Whether a value is a weighted sum of what the regressor sees."""
        estimator = self.chosen.estimator
        return not estimator.curved if self.additive else hasattr(estimator, "coef_")

    @property
    def additive(self) -> bool:
        """Whether the regressor sees sums of layers."""
        return isinstance(self.chosen.estimator, AdditiveRegressor)

    def predict(self, genomes: npt.ArrayLike) -> FloatArray:
        """Values float64[N] of genomes int64[N, G]."""
        return self.chosen.predict(self.sums(genomes) if self.additive else features(self.index, genomes))

    def option_values(self) -> tuple[FloatArray, float]:
        """Of a regressor of sums of layers, but for what is curved: what each option adds to the value, float64[T], and the constant."""
        sums, estimator = self.sums, self.chosen.estimator
        by_column = estimator.coef_ / sums.scale * self.chosen.scale
        constant = estimator.intercept_ * self.chosen.scale + self.chosen.offset - float(sums.centre @ by_column)
        return sums.table @ by_column, constant

    def add_to(self, graph: GraphBuilder, choice_counts: str, one_hot: str) -> str:
        """Add the regressor to a graph of both encodings: the name of its values, float32[N].

        Raises :class:`PredictorError` if it cannot be written.
        """
        if self.additive:
            by_option, constant = self.option_values()
            (linear,) = GroupedSites.of_sites(self.index, by_option[:, None]).add_to(graph)
            summed = graph.add("Add", [linear, graph.constant("summed_constant", np.array(constant, dtype=np.float32))], "summed_ms")
            return graph.add("Add", [summed, self._add_curved(graph, choice_counts)], "told_ms") if self.chosen.estimator.curved else summed
        encoded = add_features(graph, self.index, one_hot)
        relative = graph.add_estimator(self.chosen.estimator, encoded, int(self.index.cardinality.sum()) + 2)
        scaled = graph.add("Mul", [relative, graph.constant("scale_ms", np.array(self.chosen.scale, dtype=np.float32))], "scaled_ms")
        return graph.add("Add", [scaled, graph.constant("offset_ms", np.array(self.chosen.offset, dtype=np.float32))], "told_ms")

    def _add_curved(self, graph: GraphBuilder, choice_counts: str) -> str:
        estimator = self.chosen.estimator
        options = graph.options(self.index.radix, self.index.offsets, "site_options")
        table = graph.constant("option_totals", self.sums.table[:, :TOTALS].astype(np.float32))
        totals = graph.sum_columns(graph.add("Gather", [table, options], "totals_by_site", axis=0), "totals")
        raw = graph.add("Concat", [totals, choice_counts], "curved_raw", axis=1)
        width = estimator.known_.shape[1]
        centre = graph.constant("curved_centre", self.sums.centre[:width].astype(np.float32))
        factor = graph.constant("curved_factor", (1 / self.sums.scale[:width]).astype(np.float32))
        columns = graph.add("Mul", [graph.add("Sub", [raw, centre], "curved_centred"), factor], "curved_columns")
        covariances = add_matern(graph, columns, estimator.known_, MATERN_LENGTH, "known_networks")
        weights = graph.constant("curved_weights", (estimator.curved_coef_ * self.chosen.scale).astype(np.float32))
        return graph.add("MatMul", [covariances, weights], "curved_ms")


def fit_endtoend(table: LatencyTable, space: SearchSpace, model: str = "", estimator: Any = None) -> OnnxPredictor:
    """Fit to the profiled networks of ``table``; held-out networks are never looked at.

    ``model`` names one of :data:`MODELS`; by default cross-validation chooses. Or
    ``estimator`` is any scikit-learn regressor that skl2onnx can write: it is cloned, and sees features float64[N, F] and latencies
    with mean 0 and standard deviation 1. Intervals are conformal, on the table's networks for calibration or, without them, on
    the cross-validation's predictions. No answer is below half of the fastest network's latency (``lowest_ms`` in the card).

    Raises :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks,
    :class:`ArgumentError` for an unknown model, and :class:`PredictorError` if the regressor cannot be written as ONNX.
    """
    if model and model not in MODELS:
        raise ArgumentError(f"there is no model {model!r}", f"models: {', '.join(MODELS)}")
    index = SiteIndex.of(space)
    networks = training_networks(table, space, index)
    names = (model,) if model else MODELS
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
    parameters = {f"{name}_error": error for name, error in chosen.errors.items()} | {"lowest_ms": lowest_ms}
    card = make_card("endtoend", table, index, networks, half_width, parameters, chosen.name)
    # Coverage: the share of a network's active choices that the fit has seen.
    seen = np.asarray(masked_one_hot(index, networks.genomes).any(axis=0))
    graph = GraphBuilder()
    # What is a sum over groups of genes, as a linear regressor is, is looked up: ten times faster than encoding every genome.
    grouped = GroupedSites.of_function(index, _separable(regressor, seen)) if regressor.linear else None
    if grouped:
        latency, seen_choices, choices = grouped.add_to(graph)
    else:
        counts = add_choice_counts(graph, index)
        one_hot = add_masked_one_hot(graph, counts)
        latency = regressor.add_to(graph, counts, one_hot)
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
    by_option, constant = regressor.option_values() if regressor.additive else (None, 0.0)

    def told(genomes: GenomeArray) -> FloatArray:
        encoded = features(index, genomes)  # not rounded to float32: what is rounded is no sum of parts
        hot = encoded[:, :-2]
        if by_option is None:
            values = np.ravel(chosen.estimator.predict(encoded)) * chosen.scale + chosen.offset
        else:
            values = by_option[index.options(genomes)].sum(axis=1) + constant
        return np.column_stack([values, hot @ seen, hot.sum(axis=1)])

    return told
