"""The layer-wise predictor: the sum of a network's rows in the latency table, plus a fitted overhead.

``latency = overhead + scale * sum over sites of table[site][option]``. The scale is close to one: it takes up what the
runtime does between kernels and the counters' remaining cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import CoverageError
from layerclock.predictors.fitting import conformal_half_width, make_card, training_networks
from layerclock.predictors.graph import GraphBuilder
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor, PredictorCard

__all__ = ["fit_layerwise"]


def fit_layerwise(table: LatencyTable, space: SearchSpace) -> OnnxPredictor:
    """Fit overhead and scale to the profiled networks of ``table``; held-out networks are never looked at.

    Raises :class:`CoverageError` if a layer of the space has no measured row, and
    :class:`~layerclock.errors.TableError` if the table belongs to another space or has too few networks.
    """
    index = SiteIndex.of(space)
    networks = training_networks(table, space, index)
    rows_us = table.layer_latencies_us()
    missing = [layer.key for layer in index.vocabulary if layer.key not in rows_us]
    if missing:
        raise CoverageError(
            f"{len(missing)} of the {len(index.vocabulary)} layers of {space.name} have no measurement, {missing[0]} for one",
            "profile more networks: the first ones of a plan cover every layer",
        )
    row_ms = np.array([rows_us[layer.key] for layer in index.vocabulary]) / 1e3
    sums = index.counts(networks.genomes) @ row_ms
    design = np.column_stack([np.ones_like(sums), sums])
    # A network's own samples are part of the rows that predict it: its share in each row adds to its leverage.
    seen = np.maximum(index.counts(networks.genomes).sum(axis=0), 1)
    own_share = index.counts(networks.genomes) @ (row_ms / seen) / sums
    coefficients, residuals = _fit_relative(design, networks.latency_ms, own_share)
    overhead_ms, scale = map(float, coefficients)
    half_width = conformal_half_width(residuals, float(np.nanmean(networks.noise_floor)))
    card = make_card("layerwise", table, index, networks, half_width, {"overhead_ms": overhead_ms, "scale": scale})
    return _build(index, row_ms * scale, overhead_ms, card)


def _fit_relative(
    design: npt.NDArray[np.float64], latency_ms: npt.NDArray[np.float64], own_share: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Least squares of the relative error; returns overhead and scale, and the leave-one-out relative residuals.

    An overhead below zero is no overhead but noise in long and short networks' times: it is held at zero, and the scale
    fitted alone (non-negative least squares; Lawson and Hanson 1974, chapter 23).
    """
    weighted = design / latency_ms[:, None]
    inverse = np.linalg.pinv(weighted)
    coefficients = inverse @ np.ones(len(design))
    if coefficients[0] < 0:
        weighted[:, 0] = 0.0
        inverse = np.linalg.pinv(weighted)
        coefficients = inverse @ np.ones(len(design))
    leverage = np.einsum("ij,ji->i", weighted, inverse) + own_share
    return coefficients, (1 - weighted @ coefficients) / np.maximum(1 - leverage, 1e-9)


def _build(index: SiteIndex, row_ms: npt.NDArray[np.float64], overhead_ms: float, card: PredictorCard) -> OnnxPredictor:
    option_ms = np.append(row_ms, 0.0)[index.option_layer]  # -1, where nothing stands, takes the appended zero
    fixed = ~index.radix.any(axis=0)
    constant_ms = overhead_ms + float(option_ms[index.offsets[fixed]].sum())
    chosen = np.flatnonzero(~fixed)
    graph = GraphBuilder()
    options = graph.options(index, chosen, index.offsets[chosen], "options")
    rows = graph.add("Gather", [graph.constant("option_ms", option_ms.astype(np.float32)), options], "rows_ms", axis=0)
    total = graph.sum_columns(rows, "chosen_ms")
    latency = graph.add("Add", [total, graph.constant("constant_ms", np.array(constant_ms, dtype=np.float32))], "total_ms")
    # Every layer is measured, or fitting would have raised: the whole time rests on measurements.
    zero = graph.add("Mul", [latency, graph.constant("zero", np.array(0, dtype=np.float32))], "nothing")
    coverage = graph.add("Add", [zero, graph.constant("one", np.array(1, dtype=np.float32))], "all")
    return graph.finish(latency, coverage, card)
