"""LINAS, or ConcurrentNAS: evolutionary search and light predictors in turns.

Cummings et al.: *A hardware-aware framework for accelerating neural architecture search across modalities*, 2022, arXiv:2205.10358,
algorithm 1; Sarah et al.: *A hardware-aware system for accelerating deep neural network optimization*, 2022, arXiv:2202.12954.
In each iteration the measured networks train a light predictor for each objective, an evolutionary search runs on the predictors,
and its best members are measured. The batch here holds no network that was measured before, which the published code does not see to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.inner import HOPELESS_BATCH, evolve
from layerclock.search.light_predictors import LightPredictors
from layerclock.search.told import Told

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["Linas"]


class Linas:
    """Batches of ``population`` networks: the first at random or from a warm start, the others as above."""

    name = "linas"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._told = Told(task)

    def propose(self) -> GenomeArray:
        """The next batch, int64[n, G]."""
        task = self._task
        if not self._told.teaches:
            missing = max(0, task.population - len(task.start)) if not self._told.seen else task.population
            fresh = task.variation.unseen(missing, self._rng, self._told.seen)
            return fresh if self._told.seen else np.concatenate([task.start, fresh])
        predict = LightPredictors(task, self._told.genomes, self._told.values, "stacked")
        visited = evolve(task, predict, self._told.best(task.population), self._rng)
        return visited.best(HOPELESS_BATCH if visited.hopeless(task) else task.population, self._told.seen)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Keeps what the predictors will learn from."""
        self._told.add(genomes, values, violation)
