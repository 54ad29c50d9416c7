"""NSGA-II over canonical genomes, through pymoo's ask and tell.

Deb, Pratap, Agarwal, Meyarivan: A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6(2), 2002.
Ranking, crowding, constraint domination and tournaments are pymoo's. Children are ours (:mod:`.variation`): pymoo's
integer operators round real ones, and its mutation rate moved from ``prob`` to ``prob_var`` between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import MissingExtraError

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.task import Task
    from layerclock.search.variation import Variation
    from layerclock.space import GenomeArray

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
    from pymoo.config import Config
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.selection.tournament import TournamentSelection
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "pymoo").split(".")[0], "search", "NSGA-II") from error

__all__ = ["Nsga2"]

# Without its compiled modules pymoo is slower by little here, and would print about it.
Config.warnings["not_compiled"] = False

_MATING_ROUNDS = 10


class Nsga2:
    """Proposes generations of new networks; knows every network that it was told and proposes none twice."""

    name = "nsga2"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._genes = len(task.index.genes)
        self._seen: set[bytes] = set()
        self._pymoo = NSGA2(
            pop_size=task.population,
            sampling=task.first_networks(np.random.default_rng(task.seed)),
            mating=_Mating(task.variation, self._seen),
            eliminate_duplicates=False,  # the mating does it, against everything that was ever told
        )
        problem = Problem(n_var=self._genes, n_obj=task.objectives, n_ieq_constr=1, xl=0, xu=task.index.cardinality - 1)
        self._pymoo.setup(problem, termination=NoTermination(), seed=task.seed)

    def propose(self) -> GenomeArray:
        """New canonical genomes int64[n, G], n <= population; none where all children of the population are known."""
        asked = self._pymoo.ask()
        # pymoo takes a generation without children for the end; here the loop may still tell of other networks.
        self._pymoo.termination.force_termination = False
        if asked is None:
            return np.zeros((0, self._genes), dtype=np.int64)
        return np.asarray(asked.get("X"), dtype=np.int64).reshape(len(asked), self._genes)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Take note of ``genomes`` int64[n, G], ``values`` float64[n, K] to be minimised and ``violation`` float64[n].

        Values are ignored where the violation is above 0. The genomes need not be those that were proposed.
        """
        if not len(genomes):
            return
        self._seen.update(row.tobytes() for row in genomes)
        ranked = np.where(violation[:, None] > 0, np.inf, self._task.ranked(values))
        self._pymoo.tell(infills=Population.new("X", genomes, "F", ranked, "G", violation[:, None]))


class _Mating:
    """pymoo's place for making children: parents by its tournament, children by our operators."""

    def __init__(self, variation: Variation, seen: set[bytes]) -> None:
        self._variation = variation
        self._seen = seen
        self._selection = TournamentSelection(func_comp=binary_tournament)

    def do(self, problem: Any, pop: Any, n_offsprings: int, *, algorithm: Any, random_state: np.random.Generator) -> Any:
        genomes = np.asarray(pop.get("X"), dtype=np.int64)
        children: dict[bytes, GenomeArray] = {}
        for _ in range(_MATING_ROUNDS):
            pairs = (n_offsprings - len(children) + 1) // 2
            parents = self._selection.do(problem, pop, pairs, 2, to_pop=False, random_state=random_state, algorithm=algorithm)
            for child in self._variation.children(genomes[parents[:, 0]], genomes[parents[:, 1]], random_state):
                if len(children) < n_offsprings and child.tobytes() not in self._seen:
                    children.setdefault(child.tobytes(), child)
            if len(children) == n_offsprings:
                break
        return Population.new("X", np.array(list(children.values()))) if children else Population.create()
