"""One predictor, trained once: half of the evaluations are random networks, the others the best of a search on the predictor.

As in once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791, section 4), with NSGA-II for several objectives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.inner import Visited, evolve
from layerclock.search.light_predictors import LightPredictors
from layerclock.search.told import Told

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["OneShot"]

_TRAINING_SHARE = 0.5


class OneShot:
    """Its inner search runs once; what it visited is then evaluated the best first."""

    name = "one-shot"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._told = Told(task)
        self._visited: Visited | None = None

    def propose(self) -> GenomeArray:
        """Random networks first, then the best by prediction: int64[n, G]."""
        task = self._task
        if not self._told.seen and len(task.start):
            return task.start
        missing = round(_TRAINING_SHARE * task.evaluations) - int(self._told.evaluated.sum())
        if missing > 0 or not self._told.teaches:
            return task.variation.unseen(max(1, min(task.population, missing)), self._rng, self._told.seen)
        if self._visited is None:
            predict = LightPredictors(task, self._told.genomes, self._told.values, "stacked")
            self._visited = evolve(task, predict, self._told.best(task.population), self._rng)
        return self._visited.best(task.population, self._told.seen)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Keeps what the predictor will learn from."""
        self._told.add(genomes, values, violation)
