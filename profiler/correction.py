"""End-to-end times as on the machine at rest, from runs that were disturbed.

A run of some milliseconds is seldom undisturbed from end to end where others share the processor, and the few runs that are
make a poor estimate. But all networks of a campaign slow down alike as the reference workload beside them slows down, and
that can be learnt from all their runs together:

``log time = log latency of the network + exposures . slowdowns + noise``

where the slowdowns are the mean logarithm of the reference workload's slowdown on both sides of the run, cut off where it says
nothing more, and its mean over the visit (the runs of one network in one round), which tells of what else goes on then. The
exposures, the same for all networks, are fitted by quantile regression with an intercept for each (Koenker 2004,
*Quantile regression for longitudinal data*): a quantile below the median, since what goes unnoticed only makes runs longer.
It settles how the networks compare. Held-out networks take part: it is the machine that is learnt here, not the networks. The
level, common to all, is that of the undisturbed runs: the median over the networks of what those alone say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.profiler.measurement import Watched

__all__ = ["corrected", "slowdown"]

FloatArray = npt.NDArray[np.float64]

_QUANTILE = 0.4
# A reading slower than this was hit itself; the run beside it, which is far longer, was not slowed by as much.
_CUT = 0.45
_PASSES = 50
_CLOSE = 1e-4
# Residuals smaller than this count as if they were this large, so that the weights of the regression stay finite.
_SMALLEST = 0.005
# Keeps the exposures apart where the two slowdowns are the same, as in visits of one run.
_RIDGE = 1e-6


def slowdown(watched: Watched, at_rest_ns: float) -> FloatArray:
    """The reference workload's slowdown around each run, float64[runs]: zero at rest, and where nobody looked."""
    sides = [np.clip(np.log(side / at_rest_ns), 0.0, _CUT) for side in (watched.before_ns, watched.after_ns)]
    mean: FloatArray = np.nan_to_num((sides[0] + sides[1]) / 2)
    return mean


def corrected(runs: Mapping[int, tuple[Timing, FloatArray]]) -> dict[int, Timing]:
    """For each network, whose runs come with their slowdowns: the times that its runs would have taken at rest."""
    if not any(slow.any() for _, slow in runs.values()):
        return {network: timing for network, (timing, _) in runs.items()}
    slowdowns = {network: _with_visits(timing, slow) for network, (timing, slow) in runs.items()}
    exposures = _exposures([np.log(timing.samples_ns) for timing, _ in runs.values()], list(slowdowns.values()))
    at_rest = {network: timing.samples_ns * np.exp(-slowdowns[network] @ exposures) for network, (timing, _) in runs.items()}
    levels = [(runs[network][0], np.quantile(samples, _QUANTILE)) for network, samples in at_rest.items()]
    settled = [pair for pair in levels if pair[0].settled] or levels
    level = np.median([timing.latency_us * 1e3 / latency for timing, latency in settled])
    return {network: Timing(samples * level, runs[network][0].rounds, quantile=_QUANTILE) for network, samples in at_rest.items()}


def _with_visits(timing: Timing, slow: FloatArray) -> FloatArray:
    """The slowdown of each run, and the mean over its visit: float64[runs, 2]."""
    rounds = np.zeros(len(slow), dtype=np.int64) if timing.rounds is None else timing.rounds
    _, visit = np.unique(rounds, return_inverse=True)
    return np.column_stack([slow, (np.bincount(visit, slow) / np.bincount(visit))[visit]])


def _exposures(log_times: list[FloatArray], slowdowns: list[FloatArray]) -> FloatArray:
    """Quantile regression by iteratively reweighted least squares, float64[2]; together never below zero."""
    exposures: FloatArray = np.zeros(2)
    for _ in range(_PASSES):
        above, below = np.zeros(2), _RIDGE * np.eye(2)
        for times, slow in zip(log_times, slowdowns, strict=True):
            residuals = times - slow @ exposures
            residuals = residuals - np.quantile(residuals, _QUANTILE)
            weights = np.where(residuals > 0, _QUANTILE, 1 - _QUANTILE) / np.maximum(np.abs(residuals), _SMALLEST)
            centred = slow - np.average(slow, axis=0, weights=weights)
            above += (weights * (times - np.average(times, weights=weights))) @ centred
            below += (centred * weights[:, None]).T @ centred
        before = exposures
        exposures = np.asarray(np.linalg.solve(below, above), dtype=np.float64)
        if exposures.sum() < 0:
            exposures = np.zeros(2)
        if np.abs(exposures - before).max() < _CLOSE:
            break
    return exposures
