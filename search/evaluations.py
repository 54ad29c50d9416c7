"""Evaluates what a search proposes, cheap objectives first, and keeps every evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, LayerclockError
from layerclock.search.objective import Constraint, FloatArray, Objective, total_violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.space import GenomeArray

__all__ = ["Evaluations", "Outcome", "measure"]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one batch, in its order: ``values`` float64[n, K] with NaN where nothing was evaluated.

    ``violation`` float64[n] is 0 where all constraints hold, inf where the evaluation failed; ``recorded`` bool[n] tells
    the evaluations from the networks that were rejected by a cheap constraint.
    """

    genomes: GenomeArray
    values: FloatArray
    violation: FloatArray
    recorded: npt.NDArray[np.bool_]


def measure(objective: Objective, genomes: GenomeArray) -> tuple[FloatArray, list[str]]:
    """Values float64[N] of one objective, NaN where it failed, and for each network the reason ("" where it did not).

    A network fails if its value is not finite, or if evaluating it raises a :class:`LayerclockError`. Where a batch
    raises one, its networks are evaluated one by one, so that only those at fault are marked. Any other exception is a
    defect of the objective and passes through. Raises :class:`ArgumentError` if the objective does not return N numbers.
    """
    try:
        returned = objective.evaluate(genomes)
    except LayerclockError as error:
        if len(genomes) == 1:
            return np.array([np.nan]), [f"{objective.name}: {error}"]
        single = [measure(objective, genomes[row : row + 1]) for row in range(len(genomes))]
        return np.concatenate([values for values, _ in single]), [reason for _, reasons in single for reason in reasons]
    values = np.array(returned, dtype=np.float64)
    if values.shape != (len(genomes),):
        raise ArgumentError(f"objective {objective.name!r} returned shape {values.shape} for {len(genomes)} networks")
    reasons = ["" if finite else f"{objective.name} is {value}" for value, finite in zip(values, np.isfinite(values), strict=True)]
    return np.where(np.isfinite(values), values, np.nan), reasons


class Evaluations:
    """Everything that a search has evaluated so far, in order.

    ``measures`` are the objectives and, after them, the metrics that are only recorded; they are the columns of every
    array of values. ``rejected`` counts the networks that violated a constraint on a cheap measure, and were therefore
    evaluated no further and not recorded; ``nearest`` holds the values float64[K] of the one that came nearest.
    """

    def __init__(self, measures: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.measures = tuple(measures)
        self.constraints = tuple(constraints)
        self.genomes: list[GenomeArray] = []
        self.values: list[FloatArray] = []
        self.failures: list[str] = []
        self.rejected = 0
        self.nearest: FloatArray | None = None
        self._nearest_violation = np.inf
        self._names = tuple(measured.name for measured in self.measures)
        cheap = {measured.name for measured in self.measures if measured.cheap}
        self._cheap_constraints = tuple(constraint for constraint in self.constraints if constraint.name in cheap)

    def __len__(self) -> int:
        return len(self.failures)

    @property
    def failed(self) -> int:
        """Number of recorded evaluations that failed."""
        return sum(reason != "" for reason in self.failures)

    def add(self, genomes: GenomeArray, room: int) -> Outcome:
        """Evaluate new canonical ``genomes`` int64[N, G] and record up to ``room`` of them.

        What comes after the last one that finds room is left out of the outcome. Raises as :func:`measure` does.
        """
        values = np.full((len(genomes), len(self.measures)), np.nan)
        reasons = [""] * len(genomes)
        self._fill(genomes, values, reasons, np.arange(len(genomes)), cheap=True)
        failed = np.array([reason != "" for reason in reasons], dtype=np.bool_)
        beyond = total_violation(self._cheap_constraints, self._names, values)
        recorded = failed | (beyond == 0)
        end = int(np.searchsorted(np.cumsum(recorded), room) + 1)
        genomes, values, reasons, recorded, beyond = genomes[:end], values[:end], reasons[:end], recorded[:end], beyond[:end]
        self._reject(values[~recorded], beyond[~recorded])
        sound = np.flatnonzero([kept and not reason for kept, reason in zip(recorded, reasons, strict=True)])
        self._fill(genomes, values, reasons, sound, cheap=False)
        for row in np.flatnonzero(recorded):
            self.genomes.append(genomes[row])
            self.values.append(values[row])
            self.failures.append(reasons[row])
        violation = np.where(recorded, total_violation(self.constraints, self._names, values), beyond)
        violation[[reason != "" for reason in reasons]] = np.inf
        return Outcome(genomes, values, violation, recorded)

    def _fill(self, genomes: GenomeArray, values: FloatArray, reasons: list[str], rows: npt.NDArray[np.int64], cheap: bool) -> None:
        """Evaluate the cheap or the other measures of ``rows``, each as one batch, leaving out what has failed before."""
        for column, measured in enumerate(self.measures):
            left = np.array([row for row in rows if not reasons[row]], dtype=np.int64)
            if measured.cheap != cheap or not len(left):
                continue
            values[left, column], found = measure(measured, genomes[left])
            for row, reason in zip(left, found, strict=True):
                reasons[row] = reason

    def _reject(self, values: FloatArray, violation: FloatArray) -> None:
        self.rejected += len(values)
        if len(values) and violation.min() < self._nearest_violation:
            self._nearest_violation = float(violation.min())
            self.nearest = values[violation.argmin()]
