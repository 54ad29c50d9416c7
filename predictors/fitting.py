"""Fitting a predictor by name, and what all fits share: checking the table, calibrating intervals, writing the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import TableError
from layerclock.plugins import load_plugin, load_space, parse_parameters
from layerclock.predictors.portable import OnnxPredictor, PredictorCard
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable, NetworkTimes
    from layerclock.interfaces import SearchSpace
    from layerclock.space import SiteIndex

__all__ = [
    "INTERVAL_LEVEL",
    "calibrated_half_width",
    "conformal_half_width",
    "conformal_quantile",
    "fit",
    "make_card",
    "measured_networks",
    "training_networks",
]

INTERVAL_LEVEL = 0.9
_FEWEST_NETWORKS = 5
# With fewer networks for calibration the largest residual would be the quantile, and say little.
_FEWEST_CALIBRATION = 10


def fit(table: LatencyTable, space: SearchSpace | None = None, kind: str = "layerwise") -> OnnxPredictor:
    """Fit the predictor called ``kind`` to a latency table; ``space`` is by default the one that the table names.

    ``kind`` may carry parameters of the fit, as in ``endtoend:model=svr``. For networks of no known space there is
    :func:`~layerclock.predictors.kernelwise.fit_kernelwise`.
    Raises :class:`~layerclock.errors.UnknownNameError` for an unknown kind or space, and what the fit itself raises.
    """
    name, _, written = kind.partition(":")
    fitter: Callable[..., OnnxPredictor] = load_plugin("predictors", name)
    return fitter(table, space or load_space(table.space), **parse_parameters(fitter, f"predictor {name!r}", written, given=2))


def training_networks(table: LatencyTable, space: SearchSpace, index: SiteIndex) -> NetworkTimes:
    """The profiled networks of a table that was measured on ``space``. Raises :class:`TableError` otherwise."""
    if (table.space, table.space_digest) != (space.name, index.digest):
        raise TableError(f"the table was measured on the space {table.space!r}, not on {space.name!r}", "name the space of the table")
    networks = measured_networks(table, "profiled")
    if len(networks) < _FEWEST_NETWORKS:
        raise TableError(
            f"the table has {len(networks)} measured networks, a fit needs {_FEWEST_NETWORKS}", "profile more networks, or for longer"
        )
    return networks


def measured_networks(table: LatencyTable, role: str) -> NetworkTimes:
    """The networks of one role. Raises :class:`TableError` if a latency is no time."""
    networks = table.networks(role)
    wrong = networks.latency_ms[~((networks.latency_ms > 0) & np.isfinite(networks.latency_ms))]
    if len(wrong):
        raise TableError(
            f"{len(wrong)} {role} networks of the table have no latency above zero, {wrong[0]:g} ms for one",
            "layerclock table check names what is wrong with it",
        )
    return networks


def conformal_quantile(scores: npt.NDArray[np.float64]) -> float:
    """What the absolute scores float64[N] of left-out networks stay below at :data:`INTERVAL_LEVEL`, with the finite-sample correction.

    Barber et al. 2021, *Predictive inference with the jackknife+*, arXiv:1905.02928.
    """
    level = min(1.0, np.ceil((len(scores) + 1) * INTERVAL_LEVEL) / len(scores))
    return float(np.quantile(np.abs(scores), level, method="inverted_cdf"))


def conformal_half_width(relative_residuals: npt.NDArray[np.float64], noise_floor: float) -> float:
    """Half width of the interval, relative to the prediction, from leave-one-out residuals float64[N].

    At least the noise floor, below which nothing was measured; where that is not known it is NaN, and bounds nothing.
    """
    return max(conformal_quantile(relative_residuals), noise_floor)


def calibrated_half_width(unseen: npt.NDArray[np.float64], left_out: npt.NDArray[np.float64], noise_floor: float) -> float:
    """Half width of the interval, relative to the prediction, from the relative residuals of networks for calibration, float64[N].

    Where there are too few of these, the residuals ``left_out`` of the profiled networks stand in; they tend to be too small, because
    profiled networks are measured for longer.
    """
    return conformal_half_width(left_out if len(unseen) < _FEWEST_CALIBRATION else unseen, noise_floor)


def make_card(
    kind: str,
    table: LatencyTable,
    index: SiteIndex,
    networks: NetworkTimes,
    half_width: float,
    parameters: dict[str, float],
    model: str = "",
) -> PredictorCard:
    """The card of a predictor fitted on ``networks`` of ``table``; ``model`` names the regressor, where there are several."""
    return PredictorCard(
        kind=kind,
        space=table.space,
        space_digest=table.space_digest,
        genes=index.genes,
        target=table.target,
        interval_level=INTERVAL_LEVEL,
        interval_half_width=half_width,
        noise_floor=networks.mean_noise,
        fitted_on_networks=len(networks),
        table_hash=table.content_hash,
        tool=f"layerclock {VERSION}",
        parameters=parameters,
        model=model,
    )
