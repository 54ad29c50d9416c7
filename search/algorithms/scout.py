"""Scout: our own algorithm, for the largest hypervolume from the fewest evaluations.

LINAS's frame (see :mod:`.linas`) with four changes, each of which pays in ``benchmarks/search_replay.py`` or ``search_nasbench201.py``:

- the first batch is spread evenly from the smallest to the largest network, not drawn at random;
- what can be counted exactly or predicted for nothing is never learned;
- batches are small, and the predictor is a Gaussian process, which says how sure it is, of values whose bad tail is drawn in
  (:mod:`~layerclock.search.warp`);
- a batch is picked one by one for the largest gain in hypervolume that an optimistic guess promises, given the front and those picked
  before (after Emmerich, Giannakoglou, Naujoks, IEEE TEC 10(4), 2006). Those are believed to come out as expected (Ginsbourger et al.
  2010): they join the front, and there is less left to hope for from their like, so that members lie apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.gaussian import GaussianProcess, Guess, SharedEncoding
from layerclock.search.inner import HOPELESS_BATCH, evolve
from layerclock.search.pareto import non_dominated
from layerclock.search.ranking import hypervolume_gains
from layerclock.search.told import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["Scout"]

_BATCH_SHARE = 0.4
_CANDIDATES = 400
# How many standard deviations better than expected a network is hoped to be.
_OPTIMISM = 1.0
# The reference lies beyond the ends of the front by this share of its extent, so that they gain, too.
_MARGIN = 0.1


class Scout:
    """Batches of two fifths of ``population``; the first has ``population`` networks, those of a warm start among them."""

    name = "scout"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._told = Told(task)
        self._encoding = SharedEncoding(task.index, task.live)
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
            values = _padded(told.values[:, column], np.isinf(told.violation))
            known = np.isfinite(values)
            self._processes[int(column)] = GaussianProcess.fit(
                self._encoding, told.genomes[known], values[known], self._processes.get(int(column))
            )
        visited = evolve(task, self._expected, told.best(task.population), self._rng)
        if visited.hopeless(task):
            return visited.best(HOPELESS_BATCH, told.seen)
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
        cheap = task.cheap_values(candidates)
        if (failed := task.failed(cheap)).any():
            return self._pick(candidates[~failed], number)
        guesses = {column: process.guess(candidates) for column, process in self._processes.items()}
        values = _filled(cheap, guesses, 0.0)
        left = task.violation(candidates, values) == 0  # no optimism about what must hold
        expected = task.ranked(values)
        known = told.evaluated & (told.violation == 0)
        front = task.ranked(told.values[known])
        reference = _reference(np.concatenate([front, expected]))
        picked: list[int] = []
        while len(picked) < number:
            hoped = task.ranked(_filled(cheap, guesses, _OPTIMISM))
            gains = np.where(left, hypervolume_gains(hoped, front, reference), -1.0)
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            picked.append(best)
            left[best] = False
            front = np.concatenate([front, expected[best : best + 1]])
            guesses = {column: guess.believing(best) for column, guess in guesses.items()}
        # Where nothing promises a gain, the best by prediction.
        picked.extend([row for row in range(len(candidates)) if row not in picked][: number - len(picked)])
        return candidates[picked]


def _padded(values: FloatArray, failed: npt.NDArray[np.bool_]) -> FloatArray:
    """``values`` float64[N] with the worst known one for the networks that failed: of what nothing is known, too much would be hoped.

    The floor padding of Wakabayashi et al., npj Computational Materials 8:180, 2022.
    """
    return np.where(failed & np.isnan(values), np.nanmax(values), values)


def _filled(cheap: FloatArray, guesses: Mapping[int, Guess], deviations: float) -> FloatArray:
    """Cheap values float64[n, K] with those in that are guessed."""
    values = cheap.copy()
    for column, guess in guesses.items():
        values[:, column] = guess.hoped(deviations)
    return values


def _reference(points: FloatArray) -> FloatArray:
    """A little worse than the worst of the front of ``points`` float64[N, M] in each objective: float64[M].

    What the front dominates has no say: one network that failed would otherwise make the ends of the front the whole of what is to gain.
    """
    front = points[non_dominated(points)]
    worst: FloatArray = front.max(axis=0) + _MARGIN * np.ptp(front, axis=0)
    return worst
