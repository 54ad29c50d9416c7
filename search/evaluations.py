"""Evaluates what a search proposes, cheap measures first, and keeps every evaluation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, CampaignError, LayerclockError, OutputError
from layerclock.search.objective import Constraint, FloatArray, Objective, hard_violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from layerclock.space import GenomeArray

__all__ = ["Evaluations", "Screened", "measure"]

# Expensive measures are asked for so many networks at once that an interruption loses about this much time.
_CHUNK_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """New networks with their cheap values: ``values`` float64[n, K] with NaN where nothing was evaluated.

    ``recorded`` bool[n] tells the evaluations from the networks that a cheap constraint rejected, whose ``violation``
    float64[n] is above 0; ``reasons`` say why an evaluation failed, "" where it did not. Of those that are ``remembered`` bool[n] from an
    earlier run, all values are known.
    """

    genomes: GenomeArray
    values: FloatArray
    violation: FloatArray
    reasons: list[str]
    recorded: npt.NDArray[np.bool_]
    remembered: npt.NDArray[np.bool_]

    @property
    def open(self) -> npt.NDArray[np.int64]:
        """Rows whose expensive measures are to be evaluated."""
        failed = np.array([reason != "" for reason in self.reasons], dtype=np.bool_)
        return np.flatnonzero(self.recorded & ~self.remembered & ~failed)


def measure(objective: Objective, genomes: GenomeArray) -> tuple[FloatArray, list[str]]:
    """Values float64[N] of one objective, NaN where it failed, and for each network the reason ("" where it did not).

    A network fails if its value is not finite, or if evaluating it raises a :class:`LayerclockError`. Where a batch
    raises one, its networks are evaluated one by one, so that only those at fault are marked. A :class:`CampaignError` (of a fleet, or of a
    campaign in which a device measures) or an :class:`OutputError` is no network's fault, and any other exception is a defect of the
    objective: they pass through. Raises :class:`ArgumentError` if the objective does not return N numbers.
    """
    try:
        returned = objective.evaluate(genomes)
    except (CampaignError, OutputError):
        raise
    except LayerclockError as error:
        if len(genomes) == 1:
            return np.array([np.nan]), [f"{objective.name}: {error}"]
        single = [measure(objective, genomes[row : row + 1]) for row in range(len(genomes))]
        return np.concatenate([values for values, _ in single]), [reason for _, reasons in single for reason in reasons]
    values = np.array(returned, dtype=np.float64)
    if values.shape != (len(genomes),):
        raise ArgumentError(f"objective {objective.name!r} returned shape {values.shape} for {len(genomes)} networks")
    return as_measured(objective.name, values)


def as_measured(name: str, values: FloatArray) -> tuple[FloatArray, list[str]]:
    """``values`` float64[N] with NaN for all that is not finite, and the reason for each such one."""
    reasons = ["" if finite else f"{name} is {value}" for value, finite in zip(values, np.isfinite(values), strict=True)]
    return np.where(np.isfinite(values), values, np.nan), reasons


class Evaluations:
    """Everything that a search has evaluated so far, in order.

    ``measures`` are the objectives and, after them, the metrics that are only recorded; they are the columns of every
    array of values. ``rejected`` counts the networks that violated a constraint on a cheap measure, and were therefore
    evaluated no further and not recorded; ``nearest`` holds genome int64[G] and values float64[K] of the one that came nearest.
    ``remembered`` are the values and failures of an earlier run by the bytes of the genomes. ``workers`` is the number of networks that
    are evaluated at the same time, in threads.
    """

    def __init__(self, measures: Sequence[Objective], constraints: Sequence[Constraint], workers: int = 1) -> None:
        self.measures = tuple(measures)
        self.constraints = tuple(constraints)
        self.genomes: list[GenomeArray] = []
        self.values: list[FloatArray] = []
        self.failures: list[str] = []
        self.rejected = 0
        self.nearest: tuple[GenomeArray, FloatArray] | None = None
        self._nearest_violation = np.inf
        self.remembered: dict[bytes, tuple[FloatArray, str]] = {}
        self._workers = workers
        self._chunk = workers
        self._dear = [column for column, measured in enumerate(self.measures) if not measured.cheap]
        cheap = {measured.name for measured in self.measures if measured.cheap}
        self._cheap_constraints = tuple(constraint for constraint in self.constraints if constraint.name in cheap)

    def __len__(self) -> int:
        return len(self.failures)

    @property
    def failed(self) -> int:
        """Number of recorded evaluations that failed."""
        return sum(reason != "" for reason in self.failures)

    def remember(self, earlier: Mapping[bytes, tuple[FloatArray, str]]) -> None:
        """Values float64[K] and failure of networks that an earlier run evaluated, by their genomes' bytes: not evaluated again."""
        self.remembered.update(earlier)

    def screen(self, genomes: GenomeArray, room: int) -> Screened:
        """The cheap values of new canonical ``genomes`` int64[N, G], of which up to ``room`` will be recorded; all of those remembered.

        What comes after the last one that finds room is left out. Raises as :func:`measure` does.
        """
        values = np.full((len(genomes), len(self.measures)), np.nan)
        reasons = [""] * len(genomes)
        self._fill(genomes, values, reasons, np.arange(len(genomes)), cheap=True)
        failed = np.array([reason != "" for reason in reasons], dtype=np.bool_)
        beyond = hard_violation(self._cheap_constraints, self.measures, genomes, values)
        recorded = failed | (beyond == 0)
        end = int(np.searchsorted(np.cumsum(recorded), room) + 1)
        screened = Screened(
            genomes[:end], values[:end], beyond[:end], reasons[:end], recorded[:end], np.zeros(len(genomes), dtype=np.bool_)[:end]
        )  # fmt: skip
        self._reject(screened)
        for row in screened.open:
            known = self.remembered.get(screened.genomes[row].tobytes())
            if known is not None:
                screened.values[row, self._dear], screened.reasons[row] = known[0][self._dear], known[1]
                screened.remembered[row] = True
        return screened

    def evaluate(self, screened: Screened, done: Callable[[], None]) -> None:
        """Fill in the expensive measures and record, calling ``done`` after every part; raises as :func:`measure` does."""
        begin = 0
        while begin < len(screened.genomes):
            rows = np.arange(begin, min(begin + self._chunk, len(screened.genomes)))
            start = monotonic()
            self._fill(screened.genomes, screened.values, screened.reasons, np.intersect1d(rows, screened.open), cheap=False)
            spent_s = monotonic() - start
            self.record(screened, rows)
            begin += len(rows)
            self._chunk = 2 * self._chunk if spent_s < _CHUNK_S / 2 else max(self._workers, self._chunk // 2)
            done()

    def record(self, screened: Screened, rows: npt.NDArray[np.int64]) -> None:
        """Keep those of ``rows`` that count as evaluations."""
        for row in rows[screened.recorded[rows]]:
            self.genomes.append(screened.genomes[row])
            self.values.append(screened.values[row])
            self.failures.append(screened.reasons[row])

    def violation(self, screened: Screened) -> FloatArray:
        """Sum of the relative violations of all hard constraints, inf where an evaluation failed: float64[n]."""
        known = hard_violation(self.constraints, self.measures, screened.genomes, screened.values)
        violation = np.where(screened.recorded, known, screened.violation)
        violation[[reason != "" for reason in screened.reasons]] = np.inf
        return violation

    def _fill(self, genomes: GenomeArray, values: FloatArray, reasons: list[str], rows: npt.NDArray[np.int64], cheap: bool) -> None:
        """Evaluate the cheap or the other measures of ``rows``, each as one batch, leaving out what has failed before."""
        for column, measured in enumerate(self.measures):
            left = np.array([row for row in rows if not reasons[row]], dtype=np.int64)
            if measured.cheap != cheap or not len(left):
                continue
            values[left, column], found = self._measured(measured, genomes[left], parallel=not cheap)
            for row, reason in zip(left, found, strict=True):
                reasons[row] = reason

    def _measured(self, measured: Objective, genomes: GenomeArray, parallel: bool) -> tuple[FloatArray, list[str]]:
        if not parallel or measured.together or self._workers == 1 or len(genomes) == 1:
            return measure(measured, genomes)
        with ThreadPoolExecutor(self._workers) as pool:
            single = list(pool.map(lambda row: measure(measured, genomes[row : row + 1]), range(len(genomes))))
        return np.concatenate([values for values, _ in single]), [reason for _, reasons in single for reason in reasons]

    def _reject(self, screened: Screened) -> None:
        rows = np.flatnonzero(~screened.recorded)
        self.rejected += len(rows)
        if len(rows) and screened.violation[rows].min() < self._nearest_violation:
            nearest = rows[screened.violation[rows].argmin()]
            self._nearest_violation = float(screened.violation[nearest])
            self.nearest = screened.genomes[nearest], screened.values[nearest]
