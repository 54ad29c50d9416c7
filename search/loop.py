"""The search loop: an algorithm proposes networks, the loop evaluates and records them, the algorithm is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import numpy as np

from layerclock.atomic import locked
from layerclock.errors import ArgumentError, SearchError
from layerclock.interfaces import HasLiveOperations
from layerclock.plugins import load_plugin
from layerclock.search.evaluations import Evaluations, Screened, as_measured
from layerclock.search.infeasible import nothing_feasible
from layerclock.search.result import SearchResult, Stop
from layerclock.search.task import Task, checked
from layerclock.search.variation import Variation, distinct

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from layerclock.interfaces import SearchSpace
    from layerclock.search.objective import Constraint, FloatArray, Objective
    from layerclock.space import GenomeArray

__all__ = ["Algorithm", "AlgorithmFactory", "Search", "pareto_search"]

# A search gives up after this many proposals in a row that violate a constraint on a cheap objective: with the usual
# population at least a hundred generations, in which constraint domination walks towards the constraint.
_MAX_REJECTED = 5000

# So many failures and no success mean that not the networks are at fault.
_MAX_FAILED = 10

_FEWEST, _USUAL_MOST = 10, 50
_WRITE_EVERY_S = 1.0


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

        ``values`` float64[n, K] of the task's measures are to be minimised (maximised ones come negated), NaN where not evaluated;
        ``violation`` float64[n] is 0 for a feasible network and inf for one whose evaluation failed.
        """
        ...


AlgorithmFactory = Callable[[Task], Algorithm]
"""Makes an algorithm for a task."""


class Search:
    """A search that is driven from outside: :meth:`ask` for networks, evaluate them, :meth:`tell`; or :meth:`step`.

    Exactly ``evaluations`` distinct networks are evaluated, unless the space holds fewer (``stopped`` says so). No
    network is evaluated twice, whatever the algorithm proposes. Networks that violate a hard constraint on a cheap objective
    are rejected before the others are evaluated, and do not count. A failed evaluation counts, is recorded with its
    reason, and is infeasible. ``metrics`` are recorded and may be constrained, but are not optimised. ``algorithm`` is a
    registered name or a factory; ``population``, the size of a batch, defaults to a tenth of the evaluations, between 10 and 50.
    ``start`` int64[W, G] are networks to begin with (of a warm start), and ``allowed`` the positions that each gene may take.
    One seed gives one result.

    With ``folder``, every evaluation is written there within a second or so, those of which it is told at once, and a search of the same
    settings that finds itself there goes on: it proposes the same networks again and remembers their values. ``workers`` networks are
    evaluated at the same time, in threads.

    Raises :class:`ArgumentError` and :class:`~layerclock.errors.UnknownNameError` for arguments that cannot be,
    :class:`SearchError` if the folder holds another search, and :class:`~layerclock.errors.MissingExtraError` without pymoo.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint | str] = (),
        evaluations: int = 100,
        population: int | None = None,
        seed: int = 0,
        metrics: Sequence[Objective] = (),
        algorithm: str | AlgorithmFactory = "nsga2",
        start: GenomeArray | None = None,
        allowed: Sequence[Sequence[int]] | None = None,
        workers: int = 1,
        folder: Path | str | None = None,
    ) -> None:
        index, measures, limits = checked(space, objectives, constraints, metrics)
        population = max(_FEWEST, min(_USUAL_MOST, evaluations // 10)) if population is None else population
        if not all(isinstance(number, Integral) for number in (evaluations, population, seed, workers)):
            raise ArgumentError(
                f"evaluations={evaluations!r}, population={population!r}, seed={seed!r}, workers={workers!r} are not all whole numbers",
                "such as evaluations=100",
            )
        if evaluations < 1 or population < 2 or seed < 0 or workers < 1:
            raise ArgumentError(
                f"evaluations={evaluations}, population={population}, seed={seed}, workers={workers} is not a search",
                "evaluations >= 1, population >= 2, seed >= 0, workers >= 1",
            )
        begin = np.zeros((0, len(index.genes)), dtype=np.int64) if start is None else distinct(index.canonical(start), set())
        if allowed is not None and len(allowed) != len(index.genes):
            raise ArgumentError(
                f"choices of {len(allowed)} genes are allowed, and {space.name!r} has {len(index.genes)}", "one entry a gene"
            )
        live = space.live_operations if isinstance(space, HasLiveOperations) else None
        self.task = Task(index, Variation(index, allowed), measures, len(objectives), limits, evaluations, population, seed, begin, live)
        factory = load_plugin("algorithms", algorithm) if isinstance(algorithm, str) else algorithm
        self.algorithm: Algorithm = factory(self.task)
        self._space = space.name
        held = [list(map(int, row)) for row in self.task.variation.choices] if allowed is not None else []
        self._begun_with = hashlib.sha256(repr((begin.tolist(), held)).encode()).hexdigest()[:16] if len(begin) or held else ""
        self._folder = None if folder is None else Path(folder)
        self._written_s = -np.inf
        self.stopped: Stop = ""
        self.record = Evaluations(measures, limits, workers)
        if self._folder is not None:
            from layerclock.search.result_files import read_evaluations  # here, so that pyarrow is needed only for files

            earlier = read_evaluations(self._folder, self.result())
            if not all(failure for _, failure in earlier.values()):  # what made all of them fail may be mended by now
                self.record.remember(earlier)
        self._rng = np.random.default_rng([seed, 1])  # not the algorithm's own stream
        self._seen: set[bytes] = set()
        self._asked: Screened | None = None
        self._rejected_in_a_row = 0

    def result(self) -> SearchResult:
        """Everything evaluated so far."""
        task, record = self.task, self.record
        values = np.array(record.values, dtype=np.float64).reshape(len(record), len(task.measures))
        return SearchResult(
            space=self._space,
            index=task.index,
            objectives=task.measures[: task.objectives],
            metrics=task.measures[task.objectives :],
            constraints=task.constraints,
            algorithm=self.algorithm.name,
            seed=task.seed,
            population=task.population,
            begun_with=self._begun_with,
            budget=task.evaluations,
            genomes=np.array(record.genomes, dtype=np.int64).reshape(len(record), len(task.index.genes)),
            values=values[:, : task.objectives],
            metric_values=values[:, task.objectives :],
            failures=tuple(record.failures),
            rejected=record.rejected,
            stopped=self.stopped,
        )

    def ask(self) -> GenomeArray:
        """The next networks to evaluate, int64[n, G]: new, canonical, and within the hard constraints on cheap measures.

        None where the search has ended. Asked again before it is told, it gives the same ones. Batches of which everything is known,
        as the folder remembers it or as a cheap measure failed, are recorded on the way.
        """
        while True:
            self._propose()
            if self._asked is None or len(self._asked.open):
                break
            self._record_asked()
        return np.zeros((0, len(self.task.index.genes)), dtype=np.int64) if self._asked is None else self._asked.genomes[self._asked.open]

    def _propose(self) -> None:
        """Screen what the algorithm proposes until there is a batch to record, or the search has ended."""
        while self._asked is None and not self.stopped:
            batch = distinct(self.task.index.canonical(self.algorithm.propose()), self._seen)
            if not len(batch):
                batch = self.task.variation.unseen(self.task.population, self._rng, self._seen)
            if not len(batch):
                self.stopped = "exhausted"
                break
            self._seen.update(row.tobytes() for row in batch)
            screened = self.record.screen(batch, self.task.evaluations - len(self.record))
            if screened.recorded.any():
                self._asked = screened
                break
            self._tell_algorithm(screened)
            self._rejected_in_a_row += len(batch)
            if self._rejected_in_a_row >= _MAX_REJECTED:
                self.stopped = "stalled"

    def tell(self, genomes: GenomeArray, values: FloatArray) -> None:
        """The values float64[n, K] of the networks that were asked for, one column a measure, in its own unit; NaN where it failed.

        Columns of cheap measures are not looked at. Raises :class:`ArgumentError` for other networks or another shape.
        """
        asked = self.ask()
        given = np.asarray(values, dtype=np.float64)
        if self._asked is None or not np.array_equal(asked, genomes) or given.shape != (len(asked), len(self.task.measures)):
            raise ArgumentError(
                f"told of genomes {np.shape(genomes)} with values {given.shape}",
                f"tell all {len(asked)} networks that ask() gave, in its order, with {len(self.task.measures)} values each",
            )
        rows = self._asked.open
        for column in self.task.dear:
            measured, reasons = as_measured(self.task.measures[column].name, given[:, column])
            self._asked.values[rows, column] = measured
            for row, reason in zip(rows, reasons, strict=True):
                self._asked.reasons[row] = self._asked.reasons[row] or reason
        self._written_s = -np.inf  # what was evaluated elsewhere is written at once: nobody knows how long the next one takes
        self._record_asked()

    def step(self, progress: Callable[[SearchResult], None] | None = None) -> None:
        """Ask, let the objectives evaluate, and take their answers; raises what an objective raises that is no LayerclockError."""
        self._propose()
        if self._asked is None:
            self._write(always=True)
            return

        def done() -> None:
            if progress is not None:
                progress(self.result())
            self._write()

        try:
            self.record.evaluate(self._asked, done)
        except BaseException:
            self._written_s = -np.inf
            self._write()
            raise
        self._finish(self._asked)

    def _record_asked(self) -> None:
        if self._asked is not None:
            self.record.record(self._asked, np.arange(len(self._asked.genomes)))
            self._finish(self._asked)

    def _finish(self, batch: Screened) -> None:
        """The batch is recorded: the algorithm learns of it."""
        self._tell_algorithm(batch)
        self._rejected_in_a_row = 0
        self._asked = None
        if len(self.record) >= self.task.evaluations:
            self.stopped = "budget"
        elif len(self.record) == self.record.failed >= _MAX_FAILED:
            self.stopped = "failed"
        self._write(always=bool(self.stopped))

    def _tell_algorithm(self, screened: Screened) -> None:
        self.algorithm.tell(screened.genomes, screened.values * self.task.signs, self.record.violation(screened))

    def _write(self, always: bool = False) -> None:
        if self._folder is not None and (always or monotonic() - self._written_s > _WRITE_EVERY_S):
            result = self.result()
            result.write(self._folder)
            self._written_s = monotonic()
            if always:
                from layerclock.search.picture import draw_front  # here, for matplotlib takes a second

                draw_front(result, self._folder / "pareto.svg")


def pareto_search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint | str] = (),
    evaluations: int = 100,
    population: int | None = None,
    seed: int = 0,
    progress: Callable[[SearchResult], None] | None = None,
    metrics: Sequence[Objective] = (),
    algorithm: str | AlgorithmFactory = "nsga2",
    start: GenomeArray | None = None,
    allowed: Sequence[Sequence[int]] | None = None,
    workers: int = 1,
    folder: Path | str | None = None,
) -> SearchResult:
    """Search ``space`` for the networks that no other beats in all ``objectives``: a :class:`Search`, run to its end.

    ``progress`` gets the result so far after each part of a batch: show ``len(result)`` of ``result.budget``.

    Raises what :class:`Search` raises, :class:`SearchError` if no network satisfies the hard constraints, all evaluations fail or another
    search is at work in ``folder``, and whatever an objective raises that is no :class:`~layerclock.errors.LayerclockError`.
    """
    with _alone_in(folder):
        search = Search(
            space, objectives, constraints, evaluations, population, seed, metrics, algorithm, start, allowed, workers, folder
        )  # fmt: skip
        while not search.stopped:
            search.step(progress)
    final = search.result()
    if progress is not None and len(final):
        progress(final)
    if not final.feasible.any():
        raise nothing_feasible(final, search.record)
    return final


def _alone_in(folder: Path | str | None) -> AbstractContextManager[None]:
    if folder is None:
        return nullcontext()
    return locked(Path(folder), SearchError(f"another search is at work in {folder}", "wait for it, or give another folder"))
