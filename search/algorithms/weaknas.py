"""WeakNAS: ever better predictors, each trained on what the last one thought good.

Wu et al.: *Stronger NAS with weaker predictors*, NeurIPS 2021, arXiv:2102.10490, algorithm 1. In each iteration a predictor ranks
random networks, and the batch is drawn uniformly from the best tenth. There one number is maximised; here "best" is by rank and crowding
distance (Deb et al. 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.light_predictors import LightPredictors
from layerclock.search.ranking import best_first
from layerclock.search.told import Told

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["WeakNas"]

# The paper's settings on once-for-all's MobileNetV3: 10,000 candidates, of which the best 1,000 may be drawn.
_CANDIDATES = 10_000
_TOP = 1_000


class WeakNas:
    """Batches of ``population`` networks, the first at random or from a warm start."""

    name = "weaknas"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rng = np.random.default_rng(task.seed)
        self._told = Told(task)

    def propose(self) -> GenomeArray:
        """The next batch, int64[n, G]."""
        task = self._task
        if not self._told.seen and len(task.start):
            return task.start
        if not self._told.teaches:
            return task.variation.unseen(task.population, self._rng, self._told.seen)
        candidates = task.variation.unseen(_CANDIDATES, self._rng, self._told.seen)
        if not len(candidates):
            return candidates
        values = LightPredictors(task, self._told.genomes, self._told.values, "boosting")(candidates)
        top = best_first(task.ranked(values), task.violation(candidates, values), min(_TOP, max(task.population, len(candidates) // 10)))
        drawn: GenomeArray = candidates[self._rng.choice(top, min(task.population, len(top)), replace=False)]
        return drawn

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Keeps what the predictors will learn from."""
        self._told.add(genomes, values, violation)
