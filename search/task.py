"""What an algorithm is asked to search: the space, what is known of a network for nothing, and what has to be evaluated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.search.evaluations import measure
from layerclock.search.objective import Constraint, FloatArray, Objective, hard_violation, penalised
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.search.variation import Variation
    from layerclock.space import GenomeArray

__all__ = ["Task", "checked"]

# Columns of evaluations.parquet that are neither a gene nor a measure.
_RESERVED = {"evaluation", "genome", "feasible", "pareto", "failure"}


def checked(
    space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str], metrics: Sequence[Objective] = ()
) -> tuple[SiteIndex, tuple[Objective, ...], tuple[Constraint, ...]]:
    """A space's index, its measures (objectives, then metrics) and the constraints on them, as far as they belong together.

    Raises :class:`ArgumentError` without an objective, for measures of another space or of one name, and for constraints that contradict
    each other; and what :meth:`Constraint.parse` raises.
    """
    if not hasattr(space, "sites"):
        raise ArgumentError(f"{space!r} is no search space", "load_space(NAME) gives one")
    index = SiteIndex.of(space)
    if not objectives:
        raise ArgumentError("there is no objective", "such as latency_objective(predictor)")
    measures = (*objectives, *metrics)
    taken = _RESERVED | {gene.name for gene in index.genes}
    for measured in measures:
        if {measured.name, measured.column} & taken:
            raise ArgumentError(f"the name {measured.name!r} is taken", "give each objective and metric a name of its own, and no gene's")
        taken |= {measured.name, measured.column}
        if measured.interval is not None:
            taken |= {f"{measured.column}_lower", f"{measured.column}_upper"}
        if measured.space_digest not in ("", index.digest):
            raise ArgumentError(
                f"the objective {measured.name!r} is for networks of another space than {space.name!r}", "fit a predictor for this space"
            )
    limits = tuple(Constraint.parse(str(one), [measured.name for measured in measures]) for one in constraints)
    hard = [limit for limit in limits if not limit.soft]
    for low, high in itertools.product(hard, hard):
        if low.name == high.name and low.operator == ">=" and high.operator == "<=" and low.limit > high.limit:
            raise ArgumentError(f"no number satisfies both {low} and {high}", "leave one of them out")
    return index, measures, limits


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A search's task. ``measures`` are its ``objectives`` and, behind them, the metrics that are recorded and may be constrained.

    Algorithms see values float64[n, K] of all measures, each *to be minimised* (maximised ones negated). ``start`` int64[W, G] are the
    canonical networks to begin with, none or those of a warm start; ``population`` is the number of networks in a batch. ``live``, where
    the space tells it, is its :meth:`~layerclock.interfaces.HasLiveOperations.live_operations`.
    """

    index: SiteIndex
    variation: Variation
    measures: tuple[Objective, ...]
    objectives: int
    constraints: tuple[Constraint, ...]
    evaluations: int
    population: int
    seed: int
    start: GenomeArray
    live: Callable[[GenomeArray], GenomeArray] | None = None

    @property
    def signs(self) -> FloatArray:
        """-1 for a maximised measure, 1 for the others: float64[K]."""
        return np.array([-1.0 if measured.maximise else 1.0 for measured in self.measures])

    @property
    def dear(self) -> npt.NDArray[np.int64]:
        """Columns of the measures that are not cheap."""
        return np.array([column for column, measured in enumerate(self.measures) if not measured.cheap], dtype=np.int64)

    def cheap_values(self, genomes: GenomeArray) -> FloatArray:
        """Values float64[n, K], NaN in the columns that are not cheap and where a network failed.

        Raises as :func:`~layerclock.search.evaluations.measure` does.
        """
        values = np.full((len(genomes), len(self.measures)), np.nan)
        for column, measured in enumerate(self.measures):
            if measured.cheap and len(genomes):
                values[:, column] = measure(measured, genomes)[0]
        return values * self.signs

    def failed(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Which networks of ``values`` float64[n, K] have no value of a cheap measure: bool[n]."""
        cheap = [column for column, measured in enumerate(self.measures) if measured.cheap]
        return np.asarray(np.isnan(values[:, cheap]).any(axis=1), dtype=np.bool_)

    def violation(self, genomes: GenomeArray, values: FloatArray) -> FloatArray:
        """Sum of the relative violations of the hard constraints: float64[n], 0 where all hold, inf where a cheap measure failed."""
        return np.where(self.failed(values), np.inf, hard_violation(self.constraints, self.measures, genomes, values * self.signs))

    def ranked(self, values: FloatArray) -> FloatArray:
        """The objectives as networks are ranked by them, soft constraints taken in: float64[n, M]."""
        return penalised(self.constraints, self.measures, values)[:, : self.objectives]

    def first_networks(self, rng: np.random.Generator) -> GenomeArray:
        """The networks to begin with, filled up to a population from the smallest to the largest one: int64[n, G], canonical."""
        missing = self.population - len(self.start)
        if missing <= 0:
            return self.start
        return np.concatenate([self.start, self.variation.first_population(missing, rng)])
