"""End-to-end times as on the machine at rest, from runs that were disturbed.

A run of some milliseconds is seldom undisturbed from end to end where others share the processor, and the few runs that are
make a poor estimate. But all networks of a campaign slow down alike, and that can be learnt from all their runs together:

``log time = log latency of the network + exposures . slowdowns + state of the machine + noise``

where the slowdowns are the mean logarithm of the reference workload's slowdown on both sides of the run, cut off where it says
nothing more, and its mean over the visit (the runs of one network in one round). The state is what the reference workload does
not see, above all who else fills the shared cache and the memory's channels: one number a visit, a stationary autoregressive
process of first order along the visits of one machine (Rue and Held 2005, *Gaussian Markov random fields*). All are fitted
together by quantile regression, with an intercept for each network and a quadratic penalty on the state (Koenker 2004,
*Quantile regression for longitudinal data*): a quantile below the median, since what goes unnoticed only makes runs longer. It
settles how the networks compare. Held-out networks take part: it is the machine that is learnt here, not the networks. The
level, common to all, is that of the undisturbed runs: the median over the networks of what those alone say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from layerclock.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.profiler.measurement import Watched

__all__ = ["Runs", "corrected", "slowdown"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_QUANTILE = 0.2
# A reading slower than this was hit itself; the run beside it, which is far longer, was not slowed by as much.
_CUT = 0.45
_PASSES = 50
_CLOSE = 1e-4
# Residuals smaller than this count as if they were this large, so that the weights of the regression stay finite.
_SMALLEST = 0.005
# Keeps exposures apart where the slowdowns are the same, as in visits of one run.
_RIDGE = 1e-6
# The state is forgotten over so many visits, and where so much time lies between two; what it weighs against one run.
_MEMORY_VISITS, _MEMORY_S, _STIFFNESS = 5.0, 60.0, 3.0
# One visit has nothing to be held against.
_FEWEST_VISITS = 2


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
    def visits(self) -> IntArray:
        """The position of each run's round in ``begun_s`` and ``boards``."""
        rounds = np.zeros(len(self.slowdown), dtype=np.int64) if self.timing.rounds is None else self.timing.rounds
        return np.unique(rounds, return_inverse=True)[1]


def slowdown(watched: Watched, at_rest_ns: float) -> FloatArray:
    """The reference workload's slowdown around each run, float64[runs]: zero at rest, and where nobody looked."""
    sides = [np.clip(np.log(side / at_rest_ns), 0.0, _CUT) for side in (watched.before_ns, watched.after_ns)]
    mean: FloatArray = np.nan_to_num((sides[0] + sides[1]) / 2)
    return mean


def corrected(runs: Mapping[int, Runs]) -> dict[int, Timing]:
    """For each network: the times that its runs would have taken at rest.

    Each visit is told by the state that the visits of others beside it show, so that the rounds still differ by what is not known.
    """
    if not any(one.slowdown.any() for one in runs.values()) or sum(len(one.begun_s) for one in runs.values()) < _FEWEST_VISITS:
        return {network: one.timing for network, one in runs.items()}
    fit = _Regression.of(list(runs.values()))
    latencies, at_rest = fit.solved()
    settled = [one.timing.settled for one in runs.values()]
    levels = [one.timing.latency_us * 1e3 / latency for one, latency in zip(runs.values(), latencies, strict=True)]
    level = float(np.median([level for level, fine in zip(levels, settled, strict=True) if fine] or levels))
    found = {}
    for position, (network, one) in enumerate(runs.items()):
        samples = at_rest[fit.network == position]
        samples *= level * latencies[position] / np.quantile(samples, _QUANTILE)
        found[network] = Timing(samples, one.timing.rounds, quantile=_QUANTILE)
    return found


@dataclass(frozen=True)
class _Regression:
    """All runs of all networks, the visits in the order in which they were made.

    ``network`` and ``visit`` int64[runs]; ``slowdowns`` float64[runs, 2]; ``likeness`` float64[visits]: the correlation of each
    visit's state with that of the one before.
    """

    log_times: FloatArray
    network: IntArray
    visit: IntArray
    slowdowns: FloatArray
    likeness: FloatArray

    @classmethod
    def of(cls, runs: list[Runs]) -> _Regression:
        begun_s = np.concatenate([one.begun_s for one in runs])
        board = np.unique([name for one in runs for name in one.boards], return_inverse=True)[1]
        order = np.lexsort((begun_s, board))  # what is unknown comes last, and is like nothing
        begun_s, board = begun_s[order], board[order]
        beside = np.concatenate([[False], (np.diff(begun_s) <= _MEMORY_S) & (np.diff(board) == 0)])
        place = np.argsort(order)
        starts = np.cumsum([0, *(len(one.begun_s) for one in runs)])[:-1]
        visit = np.concatenate([place[start + one.visits] for start, one in zip(starts, runs, strict=True)])
        slow = np.concatenate([one.slowdown for one in runs])
        of_visits = np.bincount(visit, slow) / np.maximum(1, np.bincount(visit))
        return cls(
            np.log(np.concatenate([one.timing.samples_ns for one in runs])),
            np.repeat(np.arange(len(runs)), [len(one.slowdown) for one in runs]),
            visit,
            np.column_stack([slow, of_visits[visit]]),
            np.where(beside, np.exp(-1 / _MEMORY_VISITS), 0.0),
        )

    def solved(self) -> tuple[FloatArray, FloatArray]:
        """Each network's latency in ns, float64[networks], and each run's time at rest, by its visit's neighbours, float64[runs]."""
        networks = int(self.network.max()) + 1
        coefficients = np.zeros(networks + self.slowdowns.shape[1])
        coefficients[:networks] = [np.median(self.log_times[self.network == number]) for number in range(networks)]
        state = np.zeros(len(self.likeness))
        for _ in range(_PASSES):
            residuals = self._without_state(coefficients) - state[self.visit]
            weights = np.where(residuals > 0, _QUANTILE, 1 - _QUANTILE) / np.maximum(np.abs(residuals), _SMALLEST)
            before, (coefficients, state) = coefficients, self._least_squares(weights, networks)
            if np.abs(coefficients - before).max() < _CLOSE:
                break
        unexplained = self._without_state(coefficients)
        of_neighbours = self._state_by_neighbours(weights, _sums(self.visit, weights * unexplained, len(self.likeness)))
        exposed = self.slowdowns @ coefficients[networks:]
        return np.exp(coefficients[:networks]), np.exp(self.log_times - exposed - of_neighbours[self.visit])

    def _without_state(self, coefficients: FloatArray) -> FloatArray:
        networks = len(coefficients) - self.slowdowns.shape[1]
        residuals: FloatArray = self.log_times - coefficients[self.network] - self.slowdowns @ coefficients[networks:]
        return residuals

    def _least_squares(self, weights: FloatArray, networks: int) -> tuple[FloatArray, FloatArray]:
        """Latencies' logarithms and exposures, and the state, which is eliminated first: its matrix is tridiagonal."""
        exposures = self.slowdowns.shape[1]
        weighted = weights[:, None] * self.slowdowns
        by_network = np.column_stack([_sums(self.network, column, networks) for column in weighted.T])
        normal = np.zeros((networks + exposures, networks + exposures))
        normal[range(networks), range(networks)] = _sums(self.network, weights, networks)
        normal[:networks, networks:], normal[networks:, :networks] = by_network, by_network.T
        normal[networks:, networks:] = weighted.T @ self.slowdowns + _RIDGE * np.eye(exposures)
        right = np.concatenate([_sums(self.network, weights * self.log_times, networks), weighted.T @ self.log_times])
        visits = len(self.likeness)
        coupling = np.zeros((visits, networks + exposures))
        np.add.at(coupling, (self.visit, self.network), weights)
        coupling[:, networks:] = np.column_stack([_sums(self.visit, column, visits) for column in weighted.T])
        state_right = _sums(self.visit, weights * self.log_times, visits)
        banded = self._precision(weights)
        eliminated = solveh_banded(banded, np.column_stack([coupling, state_right]), lower=True)
        normal -= coupling.T @ eliminated[:, :-1]
        right -= coupling.T @ eliminated[:, -1]
        coefficients = np.linalg.solve(normal, right)
        if coefficients[networks:].sum() < 0:  # nothing is faster beside a busy neighbour: exposures below zero are noise
            coefficients = np.append(np.linalg.solve(normal[:networks, :networks], right[:networks]), np.zeros(exposures))
        return coefficients, eliminated[:, -1] - eliminated[:, :-1] @ coefficients

    def _precision(self, weights: FloatArray) -> FloatArray:
        """Of the state given all else: diagonal and the one below it, float64[2, visits]."""
        stiffness = _STIFFNESS * weights.mean()
        innovation = stiffness / (1 - self.likeness**2)
        after = np.append((self.likeness**2 * innovation)[1:], 0.0)
        below = np.append(-(self.likeness * innovation)[1:], 0.0)
        return np.array([innovation + after + _sums(self.visit, weights, len(self.likeness)), below])

    def _state_by_neighbours(self, weights: FloatArray, seen: FloatArray) -> FloatArray:
        """The state at each visit as all other visits tell it, float64[visits]; ``seen``: each visit's weighted sum of residuals.

        Messages from both sides (Rue and Held 2005, section 2.4): what lies before a visit and what lies after it meet there.
        """
        own = _sums(self.visit, weights, len(self.likeness))
        stiffness = _STIFFNESS * weights.mean()
        before = _messages(own, seen, self.likeness, stiffness)
        backwards = np.append(self.likeness[1:], 0.0)[::-1]
        after = _messages(own[::-1], seen[::-1], backwards, stiffness)[:, ::-1]
        # Both sides know of the stationary prior.
        precision = before[0] + after[0] - stiffness
        state: FloatArray = (before[0] * before[1] + after[0] * after[1]) / precision
        return state


def _sums(where: IntArray, values: FloatArray, number: int) -> FloatArray:
    return np.bincount(where, values, number).astype(np.float64)


def _messages(own: FloatArray, seen: FloatArray, likeness: FloatArray, stiffness: float) -> FloatArray:
    """Precision and mean of each visit's state by the visits before it alone, float64[2, visits] (Kalman's prediction)."""
    found = np.empty((2, len(own)))
    precision, mean = stiffness, 0.0
    for place, alike in enumerate(likeness):
        variance = alike**2 / precision + (1 - alike**2) / stiffness
        precision, mean = 1 / variance, alike * mean
        found[:, place] = precision, mean
        mean = (precision * mean + seen[place]) / (precision + own[place])
        precision += own[place]
    return found
