"""Random search: what every other algorithm has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["RandomSearch"]


class RandomSearch:
    """Proposes networks that are drawn uniformly over the genes, after those of a warm start."""

    name = "random"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._seen: set[bytes] = set()

    def propose(self) -> GenomeArray:
        """A batch of new networks, int64[n, G]."""
        if not self._seen and len(self._task.start):
            return self._task.start
        return self._task.variation.unseen(self._task.population, self._rng, self._seen)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:  # noqa: ARG002 - the protocol's signature
        """Remembers ``genomes`` int64[n, G], and takes no notice of how good they are."""
        self._seen.update(row.tobytes() for row in genomes)
