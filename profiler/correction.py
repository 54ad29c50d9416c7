"""End-to-end times as on the machine at rest, from runs that were disturbed.

A run of some milliseconds is seldom undisturbed from end to end where others share the processor, and the few runs that are
make a poor estimate. But all networks of a campaign slow down alike as the reference workload beside them slows down, and
that can be learnt from all their runs together:

``log time = log latency of the network + exposure * slowdown + noise``

where ``slowdown`` is the mean logarithm of the reference workload's slowdown on both sides of the run, cut off where it says
nothing more. One exposure for all networks is fitted by quantile regression with an intercept for each (Koenker 2004,
*Quantile regression for longitudinal data*): a quantile below the median, since what goes unnoticed only makes runs longer.
It settles how the networks compare. The level, common to all, is that of the undisturbed runs: the median over the networks
of what those alone say.
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

_QUANTILE = 0.35
# A reading slower than this was hit itself; the run beside it, which is far longer, was not slowed by as much.
_CUT = 0.45
_PASSES = 50
_CLOSE = 1e-4
# Residuals smaller than this count as if they were this large, so that the weights of the regression stay finite.
_SMALLEST = 0.005


def slowdown(watched: Watched, at_rest_ns: float) -> FloatArray:
    """What the fit rests on, float64[runs]: zero at rest, and where nobody looked."""
    sides = [np.clip(np.log(side / at_rest_ns), 0.0, _CUT) for side in (watched.before_ns, watched.after_ns)]
    mean: FloatArray = np.nan_to_num((sides[0] + sides[1]) / 2)
    return mean


def corrected(runs: Mapping[int, tuple[Timing, FloatArray]]) -> dict[int, Timing]:
    """For each network, whose runs come with their slowdowns: the times that its runs would have taken at rest."""
    if not any(slow.any() for _, slow in runs.values()):
        return {network: timing for network, (timing, _) in runs.items()}
    exposure = _exposure([np.log(timing.samples_ns) for timing, _ in runs.values()], [slow for _, slow in runs.values()])
    at_rest = {network: timing.samples_ns * np.exp(-exposure * slow) for network, (timing, slow) in runs.items()}
    levels = [(runs[network][0], np.quantile(samples, _QUANTILE)) for network, samples in at_rest.items()]
    settled = [pair for pair in levels if pair[0].settled] or levels
    level = np.median([timing.latency_us * 1e3 / latency for timing, latency in settled])
    return {network: Timing(samples * level, runs[network][0].rounds, quantile=_QUANTILE) for network, samples in at_rest.items()}


def _exposure(log_times: list[FloatArray], slowdowns: list[FloatArray]) -> float:
    """Quantile regression by iteratively reweighted least squares; never below zero."""
    exposure = 0.0
    for _ in range(_PASSES):
        above = below = 0.0
        for times, slow in zip(log_times, slowdowns, strict=True):
            residuals = times - exposure * slow
            residuals = residuals - np.quantile(residuals, _QUANTILE)
            weights = np.where(residuals > 0, _QUANTILE, 1 - _QUANTILE) / np.maximum(np.abs(residuals), _SMALLEST)
            centred = slow - np.average(slow, weights=weights)
            above += float((weights * centred * (times - np.average(times, weights=weights))).sum())
            below += float((weights * centred**2).sum())
        before, exposure = exposure, max(0.0, above / below) if below > 0 else 0.0
        if abs(exposure - before) < _CLOSE:
            break
    return exposure
