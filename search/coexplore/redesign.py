"""Better designs for networks whose accuracy is known: a search that trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.search.ranking import best_first
from layerclock.search.variation import distinct

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.space import GenomeArray

__all__ = ["redesign"]

_ROUNDS = 3
_CHILDREN = 96
_KEPT = 32


def redesign(
    task: Task, known: GenomeArray, values: FloatArray, own: int, seen: set[bytes], rng: np.random.Generator
) -> tuple[GenomeArray, FloatArray]:
    """New pairs int64[n, G] of the networks of ``known`` pairs int64[N, G], the best first, and their values float64[n, K].

    The first ``own`` genes are the network's, and keep together. ``values`` float64[N, K], to be minimised, of the known pairs are all
    known; what is dear depends on the network alone, and is taken over. An evolution of the designs alone, by constraint domination:
    what comes back is feasible, not in ``seen``, and not beaten by what is known.
    """
    dear = task.dear
    genomes, alive = known, values
    tried = set(seen)
    for _ in range(_ROUNDS):
        parents = rng.integers(0, len(genomes), (2, _CHILDREN // 2)) if len(genomes) else np.zeros((2, 0), dtype=np.int64)
        first, second = genomes[parents[0]], genomes[parents[1]]
        children = task.variation.children(first, second, rng)
        lines = np.concatenate([parents[0], parents[0]])
        mixed = children.copy()
        mixed[:, :own] = genomes[lines][:, :own]
        mixed = task.index.canonical(mixed)
        fresh = distinct(mixed, tried)
        if not len(fresh):
            continue
        tried.update(row.tobytes() for row in fresh)
        place = {row.tobytes(): line for row, line in zip(mixed, lines, strict=True)}
        found = task.cheap_values(fresh)
        found[:, dear] = alive[[place[row.tobytes()] for row in fresh]][:, dear]
        every, every_values = np.concatenate([genomes, fresh]), np.concatenate([alive, found])
        order = best_first(task.ranked(every_values), task.violation(every, every_values), max(_KEPT, len(known)))
        genomes, alive = every[order], every_values[order]
    feasible = task.violation(genomes, alive) == 0
    genomes, alive = genomes[feasible], alive[feasible]
    ours, theirs = task.ranked(alive), task.ranked(values[task.violation(known, values) == 0])
    beaten = np.any(np.all(theirs[None] <= ours[:, None], axis=2), axis=1)
    new = ~beaten & np.array([row.tobytes() not in seen for row in genomes], dtype=np.bool_)
    return genomes[new], alive[new]
