"""The layer-wise predictor: the sum of a network's rows in the latency table, plus a fitted overhead.

``latency = overhead + sum over sites of (scale * table[site][option] + fetch * weights[site][option])``. The overhead is what the
runtime does beside its kernels, and also what a row, a median over the networks in which its layer ran, cannot tell: where
networks are about as large as the last cache, each layer is faster in a small one, whose weights stay there, and slower in a
large one. Then the scale is above one and the overhead below zero, and weights take a time of their own to be fetched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import CoverageError, TableError
from layerclock.predictors.fitting import calibrated_half_width, make_card, measured_networks, training_networks
from layerclock.predictors.graph import GraphBuilder
from layerclock.predictors.grouping import GroupedSites
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.network import Layer
    from layerclock.predictors.portable import OnnxPredictor, PredictorCard

__all__ = ["Terms", "fit_layerwise", "fit_terms"]

FloatArray = npt.NDArray[np.float64]

# Layers that must be measured, beside one of each kind, for the others to be told by their sizes.
_FEWEST_ROWS = 8
_PENALTY = 1e-3
# A network whose prediction rests on its own samples by more than this says little about others'; so many must remain.
_MOST_LEVERAGE = 0.9
_FEWEST_TELLING = 8
# The time to fetch weights is fitted to no fewer networks, and kept where it makes left-out ones better.
_FEWEST_FOR_FETCHING = 30
_BYTES_A_WEIGHT = 4
# An overhead below zero may take no more than this share of the smallest network's sum: networks smaller yet have a time, too.
_MOST_BELOW_ZERO = 0.5
# A scale fewer standard errors above zero is not told; one so many below zero says that the rows are not these networks'.
_CLEARLY_ABOVE_ZERO = 2.0
_CLEARLY_BELOW_ZERO = 5.0


def fit_layerwise(table: LatencyTable, space: SearchSpace) -> OnnxPredictor:
    """Fit the terms to the profiled networks of ``table``, and those for calibration; held-out networks are never looked at.

    A layer without a measured row is told by a regression on the sizes of those that have one. The card counts such layers
    (``missing_layers``) and says how far off the regression is (``missing_error``); a network's coverage is the share of its layers' time
    that rests on measurements, and its interval widens with the rest. Intervals are conformal, on what the networks for calibration are off
    when each is left out of the fit (Barber et al. 2021, the jackknife+), or without ten of them the profiled ones.

    Raises :class:`CoverageError` if so few layers were measured that the others cannot be told from them, and
    :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks.
    """
    index = SiteIndex.of(space)
    networks, unseen = training_networks(table, space, index), measured_networks(table, "calibration")
    row_ms, measured, missing_error = _rows(index, table.layer_latencies_us(), space.name)
    counts = index.counts(networks.genomes)
    # A network's own samples are part of the rows that predict it: its share in each row adds to its leverage.
    seen = np.maximum(counts.sum(axis=0), 1)
    own_share = counts @ (row_ms / seen) / (counts @ row_ms)
    if len(unseen):
        counts = np.concatenate([counts, index.counts(unseen.genomes)])
    latency_ms = np.concatenate([networks.latency_ms, unseen.latency_ms])
    params = np.array([layer.params for layer in index.vocabulary])
    own_share = np.concatenate([own_share, np.zeros(len(unseen))])
    terms = fit_terms(counts @ row_ms, counts @ params, latency_ms, own_share)
    if terms.scale < 0:
        raise TableError(
            "the networks' end-to-end times do not grow with the sums of their layers: the rows do not tell them",
            "layerclock table check; profile more networks, or fit --kind endtoend",
        )
    telling = terms.leverage < _MOST_LEVERAGE
    profiled = np.arange(len(counts)) < len(networks)
    untold = profiled & ~telling
    if (profiled & telling).sum() < min(_FEWEST_TELLING, len(networks)):
        raise CoverageError(
            f"{untold.sum()} of the {len(networks)} networks share almost no layer with another one, so nothing tells how far off a "
            "prediction would be",
            "profile more networks: each layer should be in several of them",
        )
    left_out = terms.left_out[telling]
    left_out = left_out / (1 - left_out)  # relative to the prediction, as the interval is
    half_width = calibrated_half_width(left_out[~profiled[telling]], left_out[profiled[telling]], networks.mean_noise)
    parameters = {"overhead_ms": terms.overhead_ms, "scale": terms.scale}
    if terms.fetch_ms_a_mb:
        parameters["fetch_us_a_mb"] = 1e3 * terms.fetch_ms_a_mb
    if not measured.all():
        parameters |= {"missing_layers": float((~measured).sum()), "missing_error": missing_error}
    card = replace(make_card("layerwise", table, index, networks, half_width, parameters), fitted_on_networks=len(latency_ms))
    return _build(index, terms.beside_overhead_ms(row_ms, params), measured, terms.overhead_ms, card)


def _rows(index: SiteIndex, rows_us: Mapping[str, float], space: str) -> tuple[FloatArray, npt.NDArray[np.bool_], float]:
    """Every layer's row in ms, float64[V], whether it was measured, and the relative error of those that were not."""
    row_ms = np.array([rows_us.get(layer.key, np.nan) for layer in index.vocabulary]) / 1e3
    measured = np.isfinite(row_ms)
    if measured.all():
        return row_ms, measured, 0.0
    missing = next(layer.key for layer, known in zip(index.vocabulary, measured, strict=True) if not known)
    kinds = sorted({layer.op for layer in index.vocabulary})
    untold = {layer.op for layer in index.vocabulary} - {layer.op for layer, known in zip(index.vocabulary, measured, strict=True) if known}
    if measured.sum() < _FEWEST_ROWS + len(kinds) or untold:
        raise CoverageError(
            f"{(~measured).sum()} of the {len(measured)} layers of {space} have no measurement, {missing} for one, and the others are too "
            "few, or of other kinds, to tell them by",
            "profile more networks: the first ones of a plan cover every layer",
        )
    sizes = np.array([_sizes(layer) for layer in index.vocabulary])
    design = np.column_stack([np.array([[layer.op == kind for kind in kinds] for layer in index.vocabulary]), np.log1p(sizes)])
    # Ridge with a closed-form leave-one-out error (Hastie, Tibshirani and Friedman 2009, section 7.10).
    known, told = design[measured], np.log(np.maximum(row_ms[measured], 1e-6))
    inverse = np.linalg.inv(known.T @ known + _PENALTY * np.eye(known.shape[1]))
    left_out = (told - known @ inverse @ known.T @ told) / (1 - np.einsum("ij,jk,ik->i", known, inverse, known))
    row_ms[~measured] = np.exp(design[~measured] @ inverse @ known.T @ told)
    return row_ms, measured, float(np.quantile(np.abs(np.expm1(left_out)), 0.9))


def _sizes(layer: Layer) -> list[float]:
    return [
        float(layer.macs),
        float(layer.params),
        *(float(sum(spec.elements for spec in specs)) for specs in (layer.inputs, layer.outputs)),
    ]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is fitted beside the rows, and each network's residual (relative to its time) and leverage, float64[N].

    ``fetch_ms_a_mb`` is the time in ms that a megabyte of weights, counted as float32, takes beside the rows; 0 where that is not seen.
    """

    overhead_ms: float
    scale: float
    fetch_ms_a_mb: float
    residuals: FloatArray
    leverage: FloatArray

    @property
    def left_out(self) -> FloatArray:
        """Residuals as they would be without the network in the fit, in closed form."""
        left_out: FloatArray = self.residuals / (1 - self.leverage)
        return left_out

    def beside_overhead_ms(self, sums_ms: FloatArray, params: npt.ArrayLike) -> FloatArray:
        """Time without the overhead, float64[N]: of layers by their rows, or of networks by their sums, and the number of weights."""
        return self.scale * sums_ms + self.fetch_ms_a_mb * _megabytes(params)


def _megabytes(params: npt.ArrayLike) -> FloatArray:
    return np.asarray(params, dtype=np.float64) * (_BYTES_A_WEIGHT / 1e6)


def fit_terms(sums_ms: FloatArray, params: npt.ArrayLike, latency_ms: FloatArray, own_share: FloatArray | None = None) -> Terms:
    """Least squares of the relative error of ``latency_ms``, by each network's sum of rows and number of weights, [N] each.

    ``own_share`` adds to the leverage: the share of its own samples in the rows that predict a network. Fetching has a term where there
    are 30 networks, it takes time, and left-out networks become better by it. A scale that a few noisy networks do not tell from zero is
    held at one, as rows are times; it is below zero only where it is so clearly.
    """
    own_share = np.zeros(len(sums_ms)) if own_share is None else own_share
    design = np.column_stack([np.ones_like(sums_ms), sums_ms, _megabytes(params)])
    plain, scale_in_errors = _fit_relative(design[:, :2], latency_ms, own_share)
    if -_CLEARLY_BELOW_ZERO < scale_in_errors < _CLEARLY_ABOVE_ZERO:
        plain = _fit_overhead(sums_ms, latency_ms, own_share)
    if len(design) < _FEWEST_FOR_FETCHING:
        return plain
    fetching, _ = _fit_relative(design, latency_ms, own_share)
    telling = (plain.leverage < _MOST_LEVERAGE) & (fetching.leverage < _MOST_LEVERAGE)
    errors = [float(np.abs(terms.left_out[telling]).sum()) for terms in (plain, fetching)]
    return fetching if min(fetching.fetch_ms_a_mb, fetching.scale) > 0 and errors[1] < errors[0] else plain


def _fit_relative(design: FloatArray, latency_ms: FloatArray, own_share: FloatArray) -> tuple[Terms, float]:
    """Least squares of the relative error, and the scale in standard errors.

    The overhead is held at ``-_MOST_BELOW_ZERO`` of the smallest sum where it would be lower, and the rest fitted alone.
    """
    weighted = design / latency_ms[:, None]
    inverse = np.linalg.pinv(weighted)
    coefficients = inverse @ np.ones(len(design))
    lowest = _lowest_overhead_ms(design[:, 1])
    if coefficients[0] < lowest:
        alone = weighted[:, 1:]
        inverse = np.vstack([np.zeros(len(design)), np.linalg.pinv(alone)])
        coefficients = np.concatenate([[lowest], inverse[1:] @ (1 - lowest * weighted[:, 0])])
    residuals = 1 - weighted @ coefficients
    error = np.sqrt((residuals**2).sum() / max(1, len(design) - design.shape[1])) * np.linalg.norm(inverse[1])
    leverage = np.einsum("ij,ji->i", weighted, inverse) + own_share
    overhead_ms, scale, *fetch = map(float, coefficients)
    # Two networks, or none off: nothing says how far off the scale is.
    scale_in_errors = scale / float(error) if error > 0 else math.copysign(math.inf, scale)
    return Terms(overhead_ms, scale, fetch[0] if fetch else 0.0, residuals, leverage), scale_in_errors


def _fit_overhead(sums_ms: FloatArray, latency_ms: FloatArray, own_share: FloatArray) -> Terms:
    """Least squares of the relative error by the overhead alone, at a scale of one."""
    share = latency_ms**-2.0 / (latency_ms**-2.0).sum()
    overhead_ms = max(float(share @ (latency_ms - sums_ms)), _lowest_overhead_ms(sums_ms))
    return Terms(overhead_ms, 1.0, 0.0, 1 - (overhead_ms + sums_ms) / latency_ms, share + own_share)


def _lowest_overhead_ms(sums_ms: FloatArray) -> float:
    return -_MOST_BELOW_ZERO * float(sums_ms.min())


def _build(index: SiteIndex, row_ms: FloatArray, measured: npt.NDArray[np.bool_], overhead_ms: float, card: PredictorCard) -> OnnxPredictor:
    # -1, where nothing stands, takes the appended zero.
    by_layer = np.column_stack([row_ms, row_ms * measured])[:, : 1 if measured.all() else 2]
    grouped = GroupedSites.of_sites(index, np.vstack([by_layer, np.zeros(by_layer.shape[1])])[index.option_layer])
    graph = GraphBuilder()
    overhead = np.eye(1, by_layer.shape[1])[0] * overhead_ms
    latency, *measured_sums = replace(grouped, constant=grouped.constant + overhead).add_to(graph)
    if measured_sums:
        layers = graph.add("Sub", [latency, graph.constant("overhead_ms", np.array(overhead_ms, dtype=np.float32))], "layers_ms")
        coverage = graph.add("Div", [measured_sums[0], layers], "share_measured")
    else:  # the whole time rests on measurements: one, in the latency's shape
        zero = graph.add("Mul", [latency, graph.constant("zero", np.array(0, dtype=np.float32))], "nothing")
        coverage = graph.add("Add", [zero, graph.constant("one", np.array(1, dtype=np.float32))], "all")
    return graph.finish(latency, coverage, card, card.parameters.get("missing_error", 0.0))
