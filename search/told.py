"""What an algorithm was told so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.ranking import best_first

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["Told"]

# Fewer evaluations than this teach a predictor nothing.
_FEWEST = 5


class Told:
    """``genomes`` int64[N, G], ``values`` float64[N, K] to be minimised and ``violation`` float64[N] of every network, in order.

    ``seen`` holds the genomes' bytes.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.seen: set[bytes] = set()
        self.genomes: GenomeArray = np.zeros((0, len(task.index.genes)), dtype=np.int64)
        self.values: FloatArray = np.zeros((0, len(task.measures)))
        self.violation: FloatArray = np.zeros(0)

    def add(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Take note of ``genomes`` int64[n, G], ``values`` float64[n, K] and ``violation`` float64[n]."""
        self.seen.update(row.tobytes() for row in genomes)
        self.genomes = np.concatenate([self.genomes, genomes])
        self.values = np.concatenate([self.values, values])
        self.violation = np.concatenate([self.violation, violation])

    @property
    def evaluated(self) -> npt.NDArray[np.bool_]:
        """Whether all measures of a network are known: bool[N]."""
        return np.asarray(np.isfinite(self.values).all(axis=1), dtype=np.bool_)

    @property
    def teaches(self) -> bool:
        """Whether there is enough to fit a predictor to."""
        return int(self.evaluated.sum()) >= _FEWEST

    def best(self, number: int) -> GenomeArray:
        """The ``number`` best evaluated networks, the best first: int64[<=number, G]."""
        rows = np.flatnonzero(self.evaluated)
        return self.genomes[rows[best_first(self._task.ranked(self.values[rows]), self.violation[rows], number)]]
