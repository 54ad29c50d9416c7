"""Aging evolution, for several objectives.

Real, Aggarwal, Huang, Le: Regularized evolution for image classifier architecture search, AAAI 2019, arXiv:1802.01548, algorithm 1.
There the best of a random sample has a child by mutation, and the oldest network dies. Here the best is the first by rank and
crowding distance (Deb et al. 2002) within the sample.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.ranking import best_first
from layerclock.search.variation import distinct

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["AgingEvolution"]

# The paper's sample is a quarter of its population.
_SAMPLE_SHARE = 0.25
_BATCH_SHARE = 0.2
_TRIALS = 20


class AgingEvolution:
    """Keeps the youngest ``population`` networks; a batch is a fifth of them."""

    name = "aging"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._seen: set[bytes] = set()
        self._alive: deque[tuple[GenomeArray, FloatArray, float]] = deque(maxlen=task.population)

    def propose(self) -> GenomeArray:
        """Mutants of the best networks of random samples, int64[n, G]."""
        if not self._alive:
            return self._task.first_networks(self._rng)
        size = max(2, round(_SAMPLE_SHARE * len(self._alive)))
        parents = []
        for _ in range(_TRIALS * max(1, round(_BATCH_SHARE * self._task.population))):
            sample = [self._alive[number] for number in self._rng.choice(len(self._alive), min(size, len(self._alive)), replace=False)]
            values, violation = np.array([one[1] for one in sample]), np.array([one[2] for one in sample])
            parents.append(sample[best_first(values, violation, 1)[0]][0])
        children = distinct(self._task.variation.mutate(np.array(parents), self._rng), self._seen)
        return children[: max(1, round(_BATCH_SHARE * self._task.population))]

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """The newborn join the population; the oldest leave it."""
        self._seen.update(row.tobytes() for row in genomes)
        self._alive.extend(zip(genomes, self._task.ranked(values), violation.tolist(), strict=True))
