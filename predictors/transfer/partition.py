"""Splitting devices into those to learn from and those to be judged on, so that the two sets have little in common. Needs scipy.

Devices of one family rank networks alike; a transfer method judged on the sister of a device that it knows looks better than it is.
After section 4 of Akhauri & Abdelfattah 2024 (*On latency predictors for neural architecture search*, arXiv:2403.02446): in the graph
whose edges are correlations between devices, a bisection by Kernighan & Lin (1970, *An efficient heuristic procedure for partitioning
graphs*), from whose halves the devices that correlate most with the other half are then taken out one by one.

Their published script (``dev_gen.py``) gives the bisection the negated correlations, so that it makes the halves alike, and leaves it to
the taking out to separate them. Here the bisection already separates: between five devices and five others of NAS-Bench-201's 34, the mean
correlation is .37, against .44 to .51 with their sign and .72 at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.predictors.transfer.problem import Sources

__all__ = ["Partition", "device_correlations", "partition"]

FloatArray = npt.NDArray[np.float64]
_SWEEPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Names of the devices of both sets, and Spearman's correlation of each of ``train`` with each of ``test``: float64[train, test]."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    correlations: FloatArray

    @property
    def mean_correlation(self) -> float:
        """Mean over all pairs of a device to learn from and one to be judged on."""
        return float(self.correlations.mean())


def device_correlations(sources: Sources) -> FloatArray:
    """Spearman's correlation of the latencies on each two devices, over the networks that both measured: float64[D, D].

    Raises :class:`ArgumentError` for two devices with fewer than three networks in common, or with latencies that do not vary there.
    """
    number = len(sources.devices)
    found = np.eye(number)
    for row in range(number):
        for column in range(row):
            pair = sources.latency_ms[:, [row, column]]
            both = pair[np.isfinite(pair).all(axis=1)]
            if len(both) < 3 or (np.ptp(both, axis=0) == 0).any():
                names = f"{sources.devices[column]} and {sources.devices[row]}"
                raise ArgumentError(f"{names}: {len(both)} networks in common tell no correlation", "leave one of the devices out")
            found[row, column] = found[column, row] = spearmanr(*both.T).statistic
    return found


def partition(sources: Sources, train: int, test: int, seed: int = 0) -> Partition:
    """``train`` devices to learn from and ``test`` to be judged on, of low correlation with each other; names in the sources' order.

    ``seed`` decides where the bisection begins; it ends in a local optimum, and seldom in another one. Raises :class:`ArgumentError` for
    more devices than there are, and what :func:`device_correlations` raises.
    """
    number = len(sources.devices)
    if min(train, test) < 1 or train + test > number:
        raise ArgumentError(f"{number} devices do not make sets of {train} and {test}", "ask for at least one in each, of those there are")
    correlations = device_correlations(sources)
    halves = _bisection(correlations, min(max(number // 2, train), number - test), np.random.default_rng(seed))
    # Either half may be the one to learn from, if it is large enough.
    ways = [(left, right) for left, right in (halves, halves[::-1]) if len(left) >= train and len(right) >= test]
    found = [_trimmed(correlations, left, right, train, test) for left, right in ways]
    learn, judge = min(found, key=lambda sets: float(correlations[np.ix_(*sets)].mean()))
    names = [tuple(sources.devices[device] for device in sorted(devices)) for devices in (learn, judge)]
    return Partition(names[0], names[1], correlations[np.ix_(sorted(learn), sorted(judge))])


def _bisection(weights: FloatArray, first: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Two sets, the first with ``first`` members, with a small sum of weights between them.

    In each sweep pairs change sides, the best first, each device once and even if the sum rises for a while; the sweep is kept up to
    the pair after which the sum was smallest.
    """
    order = rng.permutation(len(weights))
    side = np.zeros(len(weights), dtype=np.bool_)
    side[order[:first]] = True
    for _ in range(_SWEEPS):
        moved, free = side.copy(), np.ones(len(weights), dtype=np.bool_)
        pairs, gains = [], []
        for _ in range(min(first, len(weights) - first)):
            own = weights * (moved[:, None] == moved[None, :])
            np.fill_diagonal(own, 0.0)
            other = weights * (moved[:, None] != moved[None, :])
            gain = other.sum(axis=1) - own.sum(axis=1)
            together = gain[:, None] + gain[None, :] - 2 * weights
            together[~(moved & free), :] = -np.inf
            together[:, moved | ~free] = -np.inf
            left, right = np.unravel_index(int(np.argmax(together)), together.shape)
            pairs.append((left, right))
            gains.append(float(together[left, right]))
            moved[left], moved[right] = False, True
            free[[left, right]] = False
        total = np.cumsum(gains)
        if not len(total) or total.max() <= 1e-12:
            break
        for left, right in pairs[: int(np.argmax(total)) + 1]:
            side[left], side[right] = False, True
    return np.flatnonzero(side).tolist(), np.flatnonzero(~side).tolist()


def _trimmed(correlations: FloatArray, learn: list[int], judge: list[int], train: int, test: int) -> tuple[list[int], list[int]]:
    """Both sets without those that correlate most with what is left of the other, in turns."""
    left, right = list(learn), list(judge)
    while len(left) > train or len(right) > test:
        if len(left) > train:
            left.pop(int(np.argmax(correlations[np.ix_(left, right)].sum(axis=1))))
        if len(right) > test:
            right.pop(int(np.argmax(correlations[np.ix_(left, right)].sum(axis=0))))
    return left, right
