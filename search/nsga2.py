"""NSGA-II over canonical genomes, through pymoo's ask and tell; the only file that knows pymoo.

Deb, Pratap, Agarwal, Meyarivan: A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6(2), 2002.
Ranking, crowding, constraint domination and tournaments are pymoo's. Children are ours (:mod:`.variation`): pymoo's
integer operators round real ones, and its mutation rate moved from ``prob`` to ``prob_var`` between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import MissingExtraError
from layerclock.search.variation import cross, first_population, mutate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.search.objective import FloatArray
    from layerclock.space import GenomeArray, SiteIndex

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
    from pymoo.config import Config
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.indicators.hv import HV
    from pymoo.operators.selection.tournament import TournamentSelection
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "pymoo").split(".")[0], "search", "NSGA-II") from error

__all__ = ["Nsga2", "hypervolume"]

# Without its compiled modules pymoo is slower by little here, and would print about it.
Config.warnings["not_compiled"] = False

_MATING_ROUNDS = 10


class Nsga2:
    """Proposes generations of new networks; knows every network that it was told and proposes none twice.

    ``objectives`` is the number of objectives, ``population`` the number of survivors and of children a generation.
    """

    name = "nsga2"

    def __init__(self, index: SiteIndex, objectives: int, population: int, seed: int) -> None:
        self._genes = len(index.genes)
        self._seen: set[bytes] = set()
        self._pymoo = NSGA2(
            pop_size=population,
            sampling=first_population(index, population, np.random.default_rng(seed)),
            mating=_Mating(index, self._seen),
            eliminate_duplicates=False,  # the mating does it, against everything that was ever told
        )
        problem = Problem(n_var=self._genes, n_obj=objectives, n_ieq_constr=1, xl=0, xu=index.cardinality - 1)
        self._pymoo.setup(problem, termination=NoTermination(), seed=seed)

    def propose(self) -> GenomeArray:
        """New canonical genomes int64[n, G], n <= population; none where all children of the population are known."""
        asked = self._pymoo.ask()
        # pymoo takes a generation without children for the end; here the loop may still tell of other networks.
        self._pymoo.termination.force_termination = False
        if asked is None:
            return np.zeros((0, self._genes), dtype=np.int64)
        return np.asarray(asked.get("X"), dtype=np.int64).reshape(len(asked), self._genes)

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """Take note of ``genomes`` int64[n, G], ``values`` float64[n, M] to be minimised and ``violation`` float64[n].

        Values are ignored where the violation is above 0. The genomes need not be those that were proposed.
        """
        if not len(genomes):
            return
        self._seen.update(row.tobytes() for row in genomes)
        ranked = np.where(violation[:, None] > 0, np.inf, values)
        self._pymoo.tell(infills=Population.new("X", genomes, "F", ranked, "G", violation[:, None]))


class _Mating:
    """pymoo's place for making children: parents by its tournament, children by our operators."""

    def __init__(self, index: SiteIndex, seen: set[bytes]) -> None:
        self._index = index
        self._seen = seen
        self._selection = TournamentSelection(func_comp=binary_tournament)

    def do(self, problem: Any, pop: Any, n_offsprings: int, *, algorithm: Any, random_state: np.random.Generator) -> Any:
        genomes = np.asarray(pop.get("X"), dtype=np.int64)
        children: dict[bytes, GenomeArray] = {}
        for _ in range(_MATING_ROUNDS):
            pairs = (n_offsprings - len(children) + 1) // 2
            parents = self._selection.do(problem, pop, pairs, 2, to_pop=False, random_state=random_state, algorithm=algorithm)
            crossed = cross(self._index, genomes[parents[:, 0]], genomes[parents[:, 1]], random_state)
            for child in mutate(self._index, crossed, random_state):
                if len(children) < n_offsprings and child.tobytes() not in self._seen:
                    children.setdefault(child.tobytes(), child)
            if len(children) == n_offsprings:
                break
        return Population.new("X", np.array(list(children.values()))) if children else Population.create()


def hypervolume(points: FloatArray, reference: Sequence[float]) -> float:
    """Volume between the front ``points`` float64[P, M], all minimised, and ``reference``; points beyond it add nothing.

    Zitzler, Thiele: Multiobjective evolutionary algorithms, IEEE TEC 3(4), 1999.
    """
    limit = np.asarray(reference, dtype=np.float64)
    inside = points[(points < limit).all(axis=1)]
    return float(HV(ref_point=limit)(inside)) if len(inside) else 0.0
