"""Scout: our own algorithm, for the largest hypervolume from the fewest evaluations.

LINAS's frame (see :mod:`.linas`) with four changes, each of which pays in ``benchmarks/search_replay.py``:

- the first batch is spread evenly from the smallest to the largest network, not drawn at random;
- what can be counted exactly or predicted for nothing is never learned;
- batches are small, and the predictor is a Gaussian process, which says how sure it is;
- a batch is picked one by one for the largest gain in hypervolume that an optimistic guess promises, given the front and those picked
  before (after Emmerich, Giannakoglou, Naujoks, IEEE TEC 10(4), 2006, and the believer of Ginsbourger et al. 2010): members lie apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.gaussian import GaussianProcess, SharedEncoding
from layerclock.search.inner import evolve
from layerclock.search.ranking import hypervolume_gains
from layerclock.search.told import Told

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["Scout"]

_BATCH_SHARE = 0.4
_CANDIDATES = 400
# How many standard deviations better than expected a network is hoped to be.
_OPTIMISM = 1.0
# The reference lies beyond the worst of the front by this share of its extent, so that its ends gain, too.
_MARGIN = 0.1


class Scout:
    """Batches of two fifths of ``population``; the first has ``population`` networks, those of a warm start among them."""

    name = "scout"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._told = Told(task)
        self._encoding = SharedEncoding(task.index)
        self._processes: dict[int, GaussianProcess] = {}

    def propose(self) -> GenomeArray:
        """The next batch, int64[n, G]."""
        task, told = self._task, self._told
        if not told.seen:
            return task.first_networks(self._rng)
        number = max(2, round(_BATCH_SHARE * task.population))
        if not told.teaches:
            return task.variation.unseen(number, self._rng, told.seen)
        for column in task.dear:
            known = np.isfinite(told.values[:, column])
            self._processes[int(column)] = GaussianProcess.fit(
                self._encoding, told.genomes[known], told.values[known, column], self._processes.get(int(column))
            )
        visited = evolve(task, self._expected, told.best(task.population), self._rng)
        return self._pick(visited.best(_CANDIDATES, told.seen), number)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Keeps what the processes will learn from."""
        self._told.add(genomes, values, violation)

    def _expected(self, genomes: GenomeArray) -> FloatArray:
        values = self._task.cheap_values(genomes)
        for column, process in self._processes.items():
            values[:, column] = process.mean(genomes)
        return values

    def _pick(self, candidates: GenomeArray, number: int) -> GenomeArray:
        task, told = self._task, self._told
        if len(candidates) <= number:
            return candidates
        expected = task.cheap_values(candidates)
        hoped = expected.copy()
        for column, process in self._processes.items():
            mean, deviation = process.mean_and_deviation(candidates)
            expected[:, column], hoped[:, column] = mean, mean - _OPTIMISM * deviation
        feasible = task.violation(candidates, expected) == 0  # no optimism about what must hold
        expected, hoped = task.ranked(expected), task.ranked(hoped)
        known = told.evaluated & (told.violation == 0)
        front = task.ranked(told.values[known])
        # All axes alike: from the best to the worst of what is known and expected.
        every = np.concatenate([front, expected])
        low, extent = every.min(axis=0), np.maximum(np.ptp(every, axis=0), 1e-12)
        front, expected, hoped = ((part - low) / extent for part in (front, expected, hoped))
        reference = np.full(front.shape[1], 1.0 + _MARGIN)
        picked: list[int] = []
        left = feasible.copy()
        while len(picked) < number:
            gains = np.where(left, hypervolume_gains(hoped, front, reference), -1.0)
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            picked.append(best)
            left[best] = False
            front = np.concatenate([front, expected[best : best + 1]])
        # Where nothing promises a gain, the best by prediction.
        picked.extend([row for row in range(len(candidates)) if row not in picked][: number - len(picked)])
        return candidates[picked]
