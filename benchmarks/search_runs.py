"""Paired runs of search algorithms on one problem, as hypervolume after every evaluation; and what others' published code does."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from layerclock.search.loop import Search
from layerclock.search.objective import Objective
from layerclock.search.pareto import non_dominated
from layerclock.search.ranking import hypervolume
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import SearchSpace

__all__ = ["Contender", "Stage", "curves", "evaluations_to", "linas_as_coded"]

FloatArray = npt.NDArray[np.float64]
Genomes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """A space and what is searched in it. ``objectives(seed)`` are noisy where evaluation is; ``truth`` gives float64[N, M], minimised.

    ``reference`` and ``ideal`` float64[M] bound the normalised hypervolume. A run that has ``enough`` of it may end there.
    """

    space: SearchSpace
    objectives: Callable[[int], list[Objective]]
    truth: Callable[[Genomes], FloatArray]
    reference: FloatArray
    ideal: FloatArray
    enough: float = float("inf")


@dataclass(frozen=True)
class Contender:
    """An algorithm's name and its batch; ``exact`` leaves cheap objectives cheap, else every objective has to be evaluated and learned."""

    name: str
    population: int
    exact: bool


def curves(stage: Stage, contenders: Sequence[Contender], evaluations: int, seeds: int) -> dict[str, FloatArray]:
    """Normalised hypervolume of the true values after each evaluation, float64[seeds, evaluations], by name; one process a core."""
    _STAGES[:] = [stage]  # inherited by the processes, for objectives cannot be sent
    jobs = [(one, evaluations, seed) for one in contenders for seed in range(seeds)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), initializer=_one_thread) as pool:
        found = list(pool.map(_curve, jobs))
    by_name: dict[str, list[FloatArray]] = {}
    for (one, _, _), curve in zip(jobs, found, strict=True):
        by_name.setdefault(one.name, []).append(curve)
    return {name: np.array(several) for name, several in by_name.items()}


_STAGES: list[Stage] = []


def _one_thread() -> None:
    threadpool_limits(1)


def _curve(job: tuple[Contender, int, int]) -> FloatArray:
    one, evaluations, seed = job
    (stage,) = _STAGES
    objectives = stage.objectives(seed)
    if not one.exact:
        objectives = [Objective(goal.name, goal.evaluate, goal.maximise) for goal in objectives]
    if one.name == linas_as_coded.__name__:
        genomes = linas_as_coded(stage.space, objectives, evaluations, one.population, seed)
    else:
        search = Search(stage.space, objectives, evaluations=evaluations, population=one.population, seed=seed, algorithm=one.name)
        while not search.stopped and _reached(stage, search.result().genomes) < stage.enough:
            search.step()
        genomes = search.result().genomes
    points = _normalised(stage, genomes)
    curve = np.zeros(evaluations)
    front = points[:0]
    for number in range(evaluations):
        if number < len(points):
            front = np.concatenate([front, points[number : number + 1]])
            front = front[non_dominated(front)]
        curve[number] = hypervolume(front, np.ones(points.shape[1]))
    return curve


def _normalised(stage: Stage, genomes: Genomes) -> FloatArray:
    points: FloatArray = (stage.truth(genomes) - stage.ideal) / (stage.reference - stage.ideal)
    return points


def _reached(stage: Stage, genomes: Genomes) -> float:
    if not len(genomes) or not np.isfinite(stage.enough):
        return -1.0
    points = _normalised(stage, genomes)
    return hypervolume(points[non_dominated(points)], np.ones(points.shape[1]))


def evaluations_to(curve: FloatArray, level: float) -> float:
    """Number of evaluations after which a curve float64[evaluations] reaches ``level``; infinite if it does not."""
    reached = np.flatnonzero(curve >= level)
    return float(reached[0] + 1) if len(reached) else float("inf")


def linas_as_coded(space: SearchSpace, objectives: Sequence[Objective], evaluations: int, population: int, seed: int) -> Genomes:
    """LINAS with the settings of DyNAS-T's code under pymoo 0.6: networks evaluated in order, repetitions included, int64[evaluations, G].

    Ridge predictors on the one-hot encoding without masks; the inner NSGA-II starts at random each time, mutates with PM(prob=0.02),
    which since pymoo 0.6 is per individual, ends after 20,000 / population generations, however few new networks each of them has, and
    its whole last population is evaluated, whatever was evaluated before (search/evolutionary.py and search/tactic/linas.py there).
    """
    index = SiteIndex.of(space)
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, index.cardinality, (population, len(index.genes)))
    told: list[Genomes] = []
    values: list[FloatArray] = []
    signs = np.array([-1.0 if goal.maximise else 1.0 for goal in objectives])
    while sum(map(len, told)) < evaluations:
        told.append(batch)
        values.append(np.stack([goal.evaluate(index.canonical(batch)) for goal in objectives], axis=1) * signs)
        known, targets = _one_hot(index, np.concatenate(told)), np.concatenate(values)
        predictors = [Ridge(alpha=1.0).fit(known, column) for column in targets.T]

        class Inner(Problem):  # type: ignore[misc]
            def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, predictors: list[Ridge] = predictors) -> None:
                encoded = _one_hot(index, x.astype(np.int64))
                out["F"] = np.stack([one.predict(encoded) for one in predictors], axis=1)

        problem = Inner(n_var=len(index.genes), n_obj=len(objectives), xl=0, xu=index.cardinality - 1, vtype=int)
        algorithm = NSGA2(
            pop_size=population, sampling=IntegerRandomSampling(), crossover=SBX(prob=0.9, eta=15.0, vtype=float, repair=RoundingRepair()),
            mutation=PM(prob=0.02, eta=20.0, vtype=float, repair=RoundingRepair()), eliminate_duplicates=True,
        )  # fmt: skip
        found = minimize(problem, algorithm, ("n_gen", 20_000 // population), seed=seed)
        batch = np.asarray(found.pop.get("X"), dtype=np.int64)
    return index.canonical(np.concatenate(told)[:evaluations])


def _one_hot(index: SiteIndex, genomes: Genomes) -> FloatArray:
    return np.concatenate([genomes[:, [gene]] == np.arange(choices) for gene, choices in enumerate(index.cardinality)], axis=1).astype(
        float
    )
