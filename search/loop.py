"""The search loop: an algorithm proposes networks, the loop evaluates and records them, the algorithm is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from layerclock.errors import ArgumentError, SearchError
from layerclock.search.evaluations import Evaluations
from layerclock.search.objective import Constraint, FloatArray, Objective
from layerclock.search.result import SearchResult, Stop
from layerclock.search.variation import unseen
from layerclock.space import GenomeArray, SiteIndex

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace

__all__ = ["Algorithm", "AlgorithmFactory", "pareto_search"]

# A search gives up after this many proposals in a row that violate a constraint on a cheap objective: with the usual
# population at least a hundred generations, in which constraint domination walks towards the constraint.
_MAX_REJECTED = 5000

# So many failures and no success mean that not the networks are at fault.
_MAX_FAILED = 10

# Columns of evaluations.parquet that are neither a gene nor a measure.
_RESERVED = {"evaluation", "genome", "feasible", "pareto", "failure"}


class Algorithm(Protocol):
    """What proposes networks. It is told of every network that the loop took up, its own proposals or not."""

    @property
    def name(self) -> str:
        """What the result's files call it."""
        ...

    def propose(self) -> GenomeArray:
        """The next networks to evaluate, int64[n, G]; those known already are dropped.

        Where nothing new is among them, the loop goes on with random networks.
        """
        ...

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        """What became of ``genomes`` int64[n, G], canonical.

        ``values`` float64[n, M] are to be minimised (maximised objectives come negated), NaN where not evaluated;
        ``violation`` float64[n] is 0 for a feasible network and inf for one whose evaluation failed.
        """
        ...


AlgorithmFactory = Callable[[SiteIndex, int, int, int], Algorithm]
"""Makes an algorithm from the index, the number of objectives, the population and the seed."""


def pareto_search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint | str] = (),
    evaluations: int = 100,
    population: int | None = None,
    seed: int = 0,
    progress: Callable[[SearchResult], None] | None = None,
    metrics: Sequence[Objective] = (),
    algorithm: AlgorithmFactory | None = None,
) -> SearchResult:
    """Search ``space`` for the networks that no other beats in all ``objectives``; NSGA-II unless told otherwise.

    Exactly ``evaluations`` distinct networks are evaluated, unless the space holds fewer (``stopped`` says so). No
    network is evaluated twice, whatever the algorithm proposes. Networks that violate a constraint on a cheap objective
    are rejected before the others are evaluated, and do not count. A failed evaluation counts, is recorded with its
    reason, and is infeasible. ``metrics`` are recorded and may be constrained, but are not optimised.
    ``population`` defaults to a tenth of the evaluations, between 10 and 50. One seed gives one result.
    ``progress`` gets the result so far after each batch: show ``len(result)`` of ``result.budget``, or write it.

    Raises :class:`ArgumentError` and :class:`UnknownNameError` for arguments that cannot be, :class:`SearchError` if no
    network satisfies the constraints or all evaluations fail, :class:`MissingExtraError` without pymoo, and whatever an
    objective raises that is no :class:`LayerclockError`.
    """
    index = SiteIndex.of(space)
    measures = _checked_measures(index, objectives, metrics)
    names = [measured.name for measured in measures]
    foreign = [measured.name for measured in measures if measured.space_digest not in ("", index.digest)]
    if foreign:
        raise ArgumentError(
            f"the objective {foreign[0]!r} is for networks of another space than {space.name!r}", "fit a predictor for this space"
        )
    limits = tuple(Constraint.parse(str(constraint), names) for constraint in constraints)
    population = max(10, min(50, evaluations // 10)) if population is None else population
    if evaluations < 1 or population < 2 or seed < 0:
        raise ArgumentError(
            f"evaluations={evaluations}, population={population}, seed={seed} is not a search",
            "evaluations >= 1, population >= 2, seed >= 0",
        )
    if algorithm is None:
        from layerclock.search.nsga2 import Nsga2  # here, so that pymoo is needed only where it is used

        algorithm = Nsga2
    proposer = algorithm(index, len(objectives), population, seed)
    record = Evaluations(measures, limits)

    def result(stopped: Stop) -> SearchResult:
        values = np.array(record.values, dtype=np.float64).reshape(len(record), len(measures))
        return SearchResult(
            space=space.name,
            index=index,
            objectives=tuple(objectives),
            metrics=tuple(metrics),
            constraints=limits,
            algorithm=proposer.name,
            seed=seed,
            budget=evaluations,
            genomes=np.array(record.genomes, dtype=np.int64).reshape(len(record), len(index.genes)),
            values=values[:, : len(objectives)],
            metric_values=values[:, len(objectives) :],
            failures=tuple(record.failures),
            rejected=record.rejected,
            stopped=stopped,
        )

    signs = np.array([-1.0 if objective.maximise else 1.0 for objective in objectives])
    rng = np.random.default_rng([seed, 1])  # not the algorithm's own stream
    seen: set[bytes] = set()
    stopped: Stop = ""
    rejected_in_a_row = 0
    while not stopped:
        batch = _new(index.canonical(proposer.propose()), seen)
        if not len(batch):
            batch = unseen(index, population, rng, seen)
        if not len(batch):
            stopped = "exhausted"
            break
        seen.update(row.tobytes() for row in batch)
        outcome = record.add(batch, evaluations - len(record))
        proposer.tell(outcome.genomes, outcome.values[:, : len(objectives)] * signs, outcome.violation)
        rejected_in_a_row = 0 if outcome.recorded.any() else rejected_in_a_row + len(batch)
        if len(record) == record.failed >= _MAX_FAILED:
            break
        if len(record) == evaluations:
            stopped = "budget"
        elif rejected_in_a_row >= _MAX_REJECTED:
            stopped = "stalled"
        elif progress is not None and outcome.recorded.any():
            progress(result(""))
    final = result(stopped)
    if progress is not None and len(final):
        progress(final)
    if not final.feasible.any():
        raise _nothing_feasible(final, record)
    return final


def _checked_measures(index: SiteIndex, objectives: Sequence[Objective], metrics: Sequence[Objective]) -> tuple[Objective, ...]:
    if not objectives:
        raise ArgumentError("a search needs an objective", "such as latency_objective(predictor)")
    measures = (*objectives, *metrics)
    taken = _RESERVED | {gene.name for gene in index.genes}
    for measured in measures:
        if {measured.name, measured.column} & taken:
            raise ArgumentError(f"the name {measured.name!r} is taken", "give each objective and metric a name of its own, and no gene's")
        taken |= {measured.name, measured.column}
    return measures


def _new(genomes: GenomeArray, seen: set[bytes]) -> GenomeArray:
    fresh = {row.tobytes(): row for row in genomes if row.tobytes() not in seen}
    return np.array(list(fresh.values()), dtype=np.int64).reshape(len(fresh), genomes.shape[1])


def _nothing_feasible(result: SearchResult, record: Evaluations) -> SearchError:
    """The error that names the constraints that the nearest network violates, and its values."""
    if len(record) and len(record) == record.failed:
        return SearchError(
            f"all {len(record)} evaluations failed; the first: {record.failures[0]}",
            "check that predictor, evaluator and space belong together",
        )
    nearest = result.measured[result.violation.argmin()] if len(record) or record.nearest is None else record.nearest
    values = {measured.name: value for measured, value in zip(record.measures, nearest, strict=True)}
    # Of a rejected network only the cheap values are known.
    known = [limit for limit in record.constraints if not np.isnan(values[limit.name])]
    broken = [limit for limit in known if limit.violation(np.array([values[limit.name]]))[0] > 0]
    asked = " and ".join(str(limit) for limit in broken)
    seen = " and ".join(f"{limit.name}={values[limit.name]:.10g}" for limit in broken)
    return SearchError(
        f"no network of {result.space!r} satisfies {asked}: of {len(record) + record.rejected} proposed, the nearest has {seen}",
        "relax the constraint to what the nearest network has, allow more evaluations, or search another space",
    )
