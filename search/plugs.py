"""The same objectives in other people's loops: as a problem of pymoo, and as an objective of Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import ArgumentError, MissingExtraError
from layerclock.search.evaluations import measure
from layerclock.search.task import Task, checked
from layerclock.search.variation import Variation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import SearchSpace
    from layerclock.search.objective import Constraint, FloatArray, Objective
    from layerclock.space import GenomeArray

__all__ = ["optuna_objective", "pymoo_problem"]

# What pymoo is told of a network that could not be evaluated: it compares numbers, and NaN with none.
_BEYOND = 1e30


def _task(space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str]) -> Task:
    index, measures, limits = checked(space, objectives, constraints)
    nothing = np.zeros((0, len(index.genes)), dtype=np.int64)
    return Task(index, Variation(index), measures, len(measures), limits, 1, 2, 0, nothing)


def _measured(task: Task, genomes: GenomeArray) -> FloatArray:
    """float64[n, M] in the objectives' own units, NaN where an evaluation failed."""
    return np.stack([measure(objective, genomes)[0] for objective in task.measures], axis=1)


def pymoo_problem(space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint | str] = ()) -> Any:
    """A ``pymoo.core.problem.Problem`` over whole genomes: ``minimize(pymoo_problem(...), NSGA2(...))``.

    Variables are the genes' positions, to be rounded; objectives are minimised (maximised ones negated), soft constraints taken in; one
    inequality says by how much the hard constraints are violated, and is violated without bound where an evaluation failed. Networks
    are canonical before they are evaluated.
    Raises :class:`ArgumentError` for objectives and constraints that cannot be, and :class:`MissingExtraError` without pymoo.
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
            values = _measured(task, genomes) * task.signs
            failed = np.asarray(np.isnan(values).any(axis=1))[:, None]
            out["F"] = np.where(failed, _BEYOND, task.ranked(values))
            out["G"] = np.where(failed, _BEYOND, task.violation(genomes, values)[:, None])

    return SpaceProblem(
        n_var=len(task.index.genes),
        n_obj=task.objectives,
        n_ieq_constr=1,
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
    A failed evaluation comes back as NaN, for which Optuna marks the trial as failed.
    Raises :class:`ArgumentError` for objectives and constraints that cannot be; soft constraints among them, for values come in their own
    units.
    """
    task = _task(space, objectives, constraints)
    soft = [str(constraint) for constraint in task.constraints if constraint.soft]
    if soft:
        raise ArgumentError(
            f"Optuna is told values as they are: {soft[0]} cannot make them worse", f"{soft[0].replace('~', '=')} is a hard one"
        )

    def objective(trial: Any) -> tuple[float, ...]:
        chosen = {gene.name: trial.suggest_categorical(gene.name, gene.choices) for gene in task.index.genes}
        genome = task.index.canonical(task.index.encode(chosen)[None])
        values = _measured(task, genome)
        trial.set_user_attr("violation", float(task.violation(genome, values * task.signs)[0]))
        return tuple(map(float, values[0]))

    return objective
