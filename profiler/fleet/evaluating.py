"""Accuracy evaluators on a fleet: every network is one task of a worker that holds no device.

So no evaluation disturbs a measurement. The evaluator is made on each worker from its name. Since each may have weights or files of its
own, every worker first evaluates one network that all others evaluated, too: one that answers differently ends the search.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, FleetError, LayerclockError, SearchError
from layerclock.plugins import load_evaluator
from layerclock.profiler.fleet.board import PROCESS
from layerclock.profiler.fleet.cluster import MemberLostError
from layerclock.profiler.fleet.members import EVALUATIONS
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Future

    from layerclock.interfaces import AccuracyEvaluator, SearchSpace
    from layerclock.profiler.fleet.cluster import Cluster

__all__ = ["FleetEvaluator", "evaluate_here", "evaluation_slots", "evaluator_facts"]

# A network whose worker is lost is evaluated elsewhere, so often.
_LOSSES = 3
# One evaluation may take as long as a training; Dask notices by itself when a worker dies.
_PATIENCE_S = 24 * 3600.0
# Workers of different processors may judge a borderline example differently; other weights differ by more than this share.
_AGREEMENT = 1e-3


@lru_cache(maxsize=4)
def _evaluator(name: str) -> AccuracyEvaluator:
    return load_evaluator(name)


@lru_cache(maxsize=64)
def _probed(name: str, probe: tuple[int, ...]) -> float:
    return float(_evaluator(name).evaluate(np.array([probe]))[0])


def evaluation_slots(cluster: Cluster) -> int:
    """How many evaluations the fleet takes at the same time, as of now, at least 1."""
    return max(1, int(sum(member.holds(EVALUATIONS) for member in cluster.members(EVALUATIONS))))


def evaluator_facts(name: str) -> tuple[str, bool, str, str]:
    """A worker's evaluator: metric, whether it is cheap, name and digest of its space (empty if any will do).

    Where there is none, the metric is empty, and the reason stands in the place of the space.
    """
    try:
        evaluator = _evaluator(name)
        own: SearchSpace | None = getattr(evaluator, "space", None)
        digest = SiteIndex.of(own).digest if own is not None else ""
        return evaluator.metric, bool(getattr(evaluator, "cheap", False)), own.name if own is not None else "", digest
    except LayerclockError as error:
        return "", False, str(error), ""


def evaluate_here(name: str, genome: tuple[int, ...], probe: tuple[int, ...]) -> tuple[str, float | str, float | str]:
    """On a worker: its process, and the values of ``genome`` and of ``probe``, or why there is none."""

    def value_of(evaluated: Callable[[], float]) -> float | str:
        try:
            return evaluated()
        except LayerclockError as error:
            return str(error)

    probed = value_of(lambda: _probed(name, probe))
    return PROCESS, value_of(lambda: float(_evaluator(name).evaluate(np.array([genome]))[0])), probed


def _alike(first: float | str, second: float | str) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return isinstance(first, str) and isinstance(second, str)
    return bool(np.isclose(first, second, rtol=_AGREEMENT, atol=0.0, equal_nan=True))


class FleetEvaluator:
    """An :class:`~layerclock.interfaces.AccuracyEvaluator` whose networks are evaluated side by side on a fleet.

    ``space`` is the search's. It may be asked from several threads. Raises :class:`FleetError` if no worker takes evaluations in time, and
    :class:`ArgumentError` if the workers' evaluator judges networks of another space.
    """

    def __init__(self, cluster: Cluster, name: str, space: SearchSpace) -> None:
        self._cluster, self._name = cluster, name
        self._lock = Lock()
        self._probe: tuple[int, ...] | None = None
        self._probed: float | str | None = None
        self._failures: dict[tuple[int, ...], str] = {}
        self._known: dict[tuple[int, ...], float] = {}
        self.metric, self.cheap, own, digest = self._answer(evaluator_facts, (name,), None)
        if not self.metric:
            raise FleetError(f"the fleet's workers have no evaluator {name!r}: {own}", "install there what it needs")
        if digest and digest != SiteIndex.of(space).digest:
            raise ArgumentError(f"the evaluator {name!r} judges networks of {own!r}, not of {space.name!r}", "search the evaluator's space")

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The metric of each genome, float64[N], in order.

        Raises :class:`SearchError` if a network cannot be evaluated, and :class:`FleetError` if workers disagree or are
        lost again and again.
        """
        rows = [tuple(map(int, genome)) for genome in np.asarray(genomes).tolist()]
        with self._lock:
            if self._probe is None and rows:
                self._probe = rows[0]
        todo = [row for row in dict.fromkeys(rows) if row not in self._known and row not in self._failures]
        begun = [(row, self._begun((self._name, row, self._probe))) for row in todo]
        for row, future in begun:
            process, value, probed = self._answer(evaluate_here, (self._name, row, self._probe), future)
            self._agree(process, probed)
            if isinstance(value, str):
                self._failures[row] = value
            else:
                self._known[row] = value
        for row in rows:
            if row in self._failures:
                raise SearchError(self._failures[row])
        return np.array([self._known[row] for row in rows])

    def _agree(self, process: str, probed: float | str) -> None:
        """Raises :class:`FleetError` if this worker's answer about the probe, a value or that it has none, is not that of those before."""
        with self._lock:
            if self._probed is None:
                self._probed = probed
            if not _alike(self._probed, probed):
                raise FleetError(
                    f"workers disagree: {self._probed!r} and, in process {process[:8]}, {probed!r} for the same network",
                    "give every worker the same weights and files for the evaluator",
                )

    def _begun(self, arguments: tuple[Any, ...]) -> Future[Any] | None:
        try:
            return self._cluster.submit(evaluate_here, arguments, EVALUATIONS)
        except MemberLostError:
            return None

    def _answer(self, function: Callable[..., Any], arguments: tuple[Any, ...], future: Future[Any] | None) -> Any:
        for _ in range(_LOSSES):
            self._cluster.wait_for(EVALUATIONS, bool)
            try:
                future = future or self._cluster.submit(function, arguments, EVALUATIONS)
                return self._cluster.result(future, EVALUATIONS, None, _PATIENCE_S)
            except MemberLostError as error:
                self._cluster.tell(f"an evaluation was lost: {error}")
                future = None
        raise FleetError(f"an evaluation was lost {_LOSSES} times on end", "look at the workers; what was evaluated is kept")
