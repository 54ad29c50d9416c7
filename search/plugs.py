"""The same objectives in other people's loops: as a problem of pymoo, and as an objective of Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import ArgumentError, MissingExtraError
from layerclock.search.objective import Constraint, Objective
from layerclock.search.task import Task
from layerclock.search.variation import Variation
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import SearchSpace

__all__ = ["optuna_objective", "pymoo_problem"]


def _task(space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str]) -> Task:
    if not objectives:
        raise ArgumentError("there is no objective", "such as latency_objective(predictor)")
    index = SiteIndex.of(space)
    limits = tuple(Constraint.parse(str(one), [objective.name for objective in objectives]) for one in constraints)
    nothing = np.zeros((0, len(index.genes)), dtype=np.int64)
    return Task(index, Variation(index), tuple(objectives), len(objectives), limits, 1, 2, 0, nothing)


def pymoo_problem(space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str] = ()) -> Any:
    """A ``pymoo.core.problem.Problem`` over whole genomes: ``minimize(pymoo_problem(...), NSGA2(...))``.

    Variables are the genes' positions, to be rounded; objectives are minimised (maximised ones negated); one inequality says by how much
    the hard constraints are violated. Networks are canonical before they are evaluated.
    Raises :class:`ArgumentError` without an objective and :class:`MissingExtraError` without pymoo.
    """
    try:
        from pymoo.core.problem import Problem
    except ModuleNotFoundError as error:
        raise MissingExtraError("pymoo", "search", "a problem of pymoo") from error
    task = _task(space, objectives, constraints)

    class SpaceProblem(Problem):  # type: ignore[misc]  # pymoo has no types
        """The networks of a space, as pymoo sees them."""

        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any) -> None:
            genomes = task.index.canonical(np.rint(x).astype(np.int64))
            values = np.stack([objective.evaluate(genomes) for objective in task.measures], axis=1) * task.signs
            out["F"] = task.ranked(values)
            if constraints:
                out["G"] = task.violation(genomes, values)[:, None]

    return SpaceProblem(
        n_var=len(task.index.genes),
        n_obj=task.objectives,
        n_ieq_constr=int(bool(constraints)),
        xl=0,
        xu=task.index.cardinality - 1,
        vtype=int,
    )


def optuna_objective(
    space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str] = ()
) -> Callable[[Any], tuple[float, ...]]:
    """What ``study.optimize`` takes: the trial suggests every gene's value by name, the objectives' values come back in their own units.

    The study's ``directions`` are the objectives'. The sum of the hard constraints' violations, above 0 where one is violated, stands in
    the trial's user attribute ``violation``: give the sampler ``constraints_func=lambda trial: (trial.user_attrs["violation"],)``.
    Raises :class:`ArgumentError` without an objective.
    """
    task = _task(space, objectives, constraints)

    def objective(trial: Any) -> tuple[float, ...]:
        chosen = {gene.name: trial.suggest_categorical(gene.name, gene.choices) for gene in task.index.genes}
        genome = task.index.canonical(task.index.encode(chosen)[None])
        values = np.stack([one.evaluate(genome) for one in task.measures], axis=1)
        trial.set_user_attr("violation", float(task.violation(genome, values * task.signs)[0]))
        return tuple(map(float, values[0]))

    return objective
