"""The inner evolutionary search: tens of thousands of networks that only predictors judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from layerclock.search.ranking import best_first
from layerclock.search.variation import distinct

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["HOPELESS_BATCH", "INNER_EVALUATIONS", "Visited", "evolve"]

INNER_EVALUATIONS = 20_000
# So many at once are proposed where none can be kept: a search in vain ends after a few inner ones, not after hundreds.
HOPELESS_BATCH = 1000
_SURVIVORS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Visited:
    """Every distinct network of an inner search: ``genomes`` int64[V, G] with ``ranked`` float64[V, M] and ``violation`` float64[V]."""

    genomes: GenomeArray
    ranked: FloatArray
    violation: FloatArray

    def hopeless(self, task: Task) -> bool:
        """Whether none satisfies the constraints, and that is no guess, for all measures are cheap."""
        return not len(task.dear) and bool(self.violation.min() > 0)

    def best(self, number: int, seen: set[bytes]) -> GenomeArray:
        """The ``number`` best whose bytes are not in ``seen``, the best first: int64[<=number, G]."""
        fresh = np.array([row for row, genome in enumerate(self.genomes) if genome.tobytes() not in seen], dtype=np.int64)
        if not len(fresh):
            return self.genomes[:0]
        return self.genomes[fresh[best_first(self.ranked[fresh], self.violation[fresh], number)]]


def evolve(
    task: Task,
    predict: Callable[[GenomeArray], FloatArray],
    start: GenomeArray,
    rng: np.random.Generator,
    evaluations: int = INNER_EVALUATIONS,
) -> Visited:
    """NSGA-II (Deb et al. 2002) on what ``predict`` says, values float64[n, K] of genomes int64[n, G], to be minimised.

    It begins with the networks ``start`` int64[n, G], and asks for ``evaluations`` networks at most, each once. Survivors are kept the
    best first, so that of two random ones the first wins a tournament.
    """
    fresh = distinct(np.concatenate([start, task.index.canonical(task.variation.random(max(0, _SURVIVORS - len(start)), rng))]), set())
    seen: set[bytes] = set()
    parts: list[tuple[GenomeArray, FloatArray, FloatArray]] = []
    alive: tuple[GenomeArray, FloatArray, FloatArray] | None = None
    asked = 0
    with threadpool_limits(1):  # products this small: threads that wait for a busy core cost more than they bring
        generations = 2 * evaluations // _SURVIVORS  # where few networks are left, most children are known ones
        while len(fresh) and asked < evaluations and generations:
            generations -= 1
            seen.update(row.tobytes() for row in fresh)
            asked += len(fresh)
            values = predict(fresh)
            part = fresh, task.ranked(values), task.violation(fresh, values)
            parts.append(part)
            merged = part if alive is None else tuple(np.concatenate(pair) for pair in zip(alive, part, strict=True))
            order = best_first(merged[1], merged[2], _SURVIVORS)
            alive = merged[0][order], merged[1][order], merged[2][order]
            winners = rng.integers(0, len(order), (2, _SURVIVORS // 2, 2)).min(axis=2)
            fresh = distinct(task.variation.children(alive[0][winners[0]], alive[0][winners[1]], rng), seen)
            if not len(fresh):  # the population has run into a corner
                fresh = distinct(task.index.canonical(task.variation.random(_SURVIVORS, rng)), seen)
    return Visited(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))
