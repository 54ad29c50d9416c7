"""End-to-end times as on the machine at rest, from runs that were disturbed.

A run of some milliseconds is seldom undisturbed from end to end where others share the processor, and the few runs that are
make a poor estimate. But all networks of a campaign slow down alike as the reference workload beside them slows down, and
that can be learnt from all their runs together:

``log time = log latency of the network + exposures . slowdowns + noise``

where the slowdowns are the mean logarithm of the reference workload's slowdown on both sides of the run, cut off where it says
nothing more; its mean over the visit (the runs of one network in one round), which tells of what else goes on then; and what the
visits right before and after, of other networks, took beyond what the model of the first two says, for a neighbour that fills
caches and memory slows networks, and the small reference workload hardly. The exposures, the same for all networks, are fitted by
quantile regression with an intercept for each (Koenker 2004, *Quantile regression for longitudinal data*): a quantile below the
median, since what goes unnoticed only makes runs longer. It settles how the networks compare. Held-out networks take part: it is
the machine that is learnt here, not the networks. The level, common to all, is that of the undisturbed runs: the median over the
networks of what those alone say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.profiler.measurement import Watched

__all__ = ["Runs", "corrected", "slowdown"]

FloatArray = npt.NDArray[np.float64]

_QUANTILE = 0.4
# A reading slower than this was hit itself; the run beside it, which is far longer, was not slowed by as much.
_CUT = 0.45
_PASSES = 50
_CLOSE = 1e-4
# Residuals smaller than this count as if they were this large, so that the weights of the regression stay finite.
_SMALLEST = 0.005
# Keeps the exposures apart where the slowdowns are the same, as in visits of one run.
_RIDGE = 1e-6
# Neighbours are so many visits on either side, no further away than this; with fewer visits than this that have any, they teach nothing.
_BESIDE, _NEAR_S, _FEWEST_VISITS = 2, 60.0, 40
_NEIGHBOUR_PASSES = 3


@dataclass(frozen=True)
class Runs:
    """One network's runs: wall times, and the reference workload's slowdown around each.

    Of each round, in order: when it began, in seconds of the clock of the machine that measured it (NaN if unknown), and that machine.
    """

    timing: Timing
    slowdown: FloatArray
    begun_s: FloatArray
    boards: tuple[str, ...]

    @property
    def visits(self) -> npt.NDArray[np.int64]:
        """The position of each run's round in ``begun_s`` and ``boards``."""
        rounds = np.zeros(len(self.slowdown), dtype=np.int64) if self.timing.rounds is None else self.timing.rounds
        return np.unique(rounds, return_inverse=True)[1]


def slowdown(watched: Watched, at_rest_ns: float) -> FloatArray:
    """The reference workload's slowdown around each run, float64[runs]: zero at rest, and where nobody looked."""
    sides = [np.clip(np.log(side / at_rest_ns), 0.0, _CUT) for side in (watched.before_ns, watched.after_ns)]
    mean: FloatArray = np.nan_to_num((sides[0] + sides[1]) / 2)
    return mean


def corrected(runs: Mapping[int, Runs]) -> dict[int, Timing]:
    """For each network: the times that its runs would have taken at rest."""
    if not any(one.slowdown.any() for one in runs.values()):
        return {network: one.timing for network, one in runs.items()}
    log_times = [np.log(one.timing.samples_ns) for one in runs.values()]
    slowdowns, exposures = _with_neighbours(list(runs.values()), log_times)
    pairs = zip(runs.items(), slowdowns, strict=True)
    at_rest = {network: one.timing.samples_ns * np.exp(-slow @ exposures) for (network, one), slow in pairs}
    levels = [(runs[network].timing, np.quantile(samples, _QUANTILE)) for network, samples in at_rest.items()]
    settled = [pair for pair in levels if pair[0].settled] or levels
    level = np.median([timing.latency_us * 1e3 / latency for timing, latency in settled])
    return {network: Timing(samples * level, runs[network].timing.rounds, quantile=_QUANTILE) for network, samples in at_rest.items()}


def _with_neighbours(runs: list[Runs], log_times: list[FloatArray]) -> tuple[list[FloatArray], FloatArray]:
    """The slowdowns of each network's runs, float64[runs, 2 or 3], and their exposures."""
    visits = [one.visits for one in runs]
    watched = [_with_visits(one.slowdown, visit) for one, visit in zip(runs, visits, strict=True)]
    exposures = _exposures(log_times, watched, np.zeros(2))
    neighbours, known = _neighbours(runs)
    if known.sum() < _FEWEST_VISITS:
        return watched, exposures
    *starts, total = np.cumsum([0, *(len(one.begun_s) for one in runs)]).tolist()
    slowdowns, exposures = [np.column_stack([seen, np.zeros(len(seen))]) for seen in watched], np.append(exposures, 0.0)
    for _ in range(_NEIGHBOUR_PASSES):
        beyond = np.zeros(total)
        for start, times, visit, seen, slow in zip(starts, log_times, visits, watched, slowdowns, strict=True):
            unexplained = times - np.quantile(times - slow @ exposures, _QUANTILE) - seen @ exposures[:2]
            for number in range(visit.max() + 1):
                beyond[start + number] = np.quantile(unexplained[visit == number], _QUANTILE)
        of_neighbours = np.where(neighbours >= 0, beyond[neighbours], 0.0).sum(axis=1)
        beside = of_neighbours / np.maximum(1, (neighbours >= 0).sum(axis=1))
        slowdowns = [np.column_stack([seen, beside[start + visit]]) for start, visit, seen in zip(starts, visits, watched, strict=True)]
        exposures = _exposures(log_times, slowdowns, exposures)
    return slowdowns, exposures


def _neighbours(runs: list[Runs]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of each visit of each network, in their order: the visits of other networks beside it on the same machine, -1 for none.

    int64[visits, 2 * _BESIDE], and whether there is any.
    """
    network = np.repeat(np.arange(len(runs)), [len(one.begun_s) for one in runs])
    begun_s = np.concatenate([one.begun_s for one in runs])
    board = np.unique([name for one in runs for name in one.boards], return_inverse=True)[1]
    order = np.lexsort((begun_s, board))  # what is unknown comes last, and is near to nothing
    beside = np.full((len(order), 2 * _BESIDE), -1, dtype=np.int64)
    for column, step in enumerate(step for step in range(-_BESIDE, _BESIDE + 1) if step):
        own = np.arange(max(0, -step), len(order) - max(0, step))
        here, there = order[own], order[own + step]
        near = np.abs(begun_s[here] - begun_s[there]) <= _NEAR_S
        near &= (board[here] == board[there]) & (network[here] != network[there])
        beside[here[near], column] = there[near]
    return beside, np.asarray((beside >= 0).any(axis=1))


def _with_visits(slow: FloatArray, visit: npt.NDArray[np.int64]) -> FloatArray:
    """The slowdown of each run, and the mean over its visit: float64[runs, 2]."""
    return np.column_stack([slow, (np.bincount(visit, slow) / np.bincount(visit))[visit]])


def _exposures(log_times: list[FloatArray], slowdowns: list[FloatArray], exposures: FloatArray) -> FloatArray:
    """Quantile regression by iteratively reweighted least squares from ``exposures``, one a column; together never below zero."""
    columns = len(exposures)
    for _ in range(_PASSES):
        above, below = np.zeros(columns), _RIDGE * np.eye(columns)
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
            exposures = np.zeros(columns)
        if np.abs(exposures - before).max() < _CLOSE:
            break
    return exposures
