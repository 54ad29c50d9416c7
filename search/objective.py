"""What a search optimises and what it must respect: objectives and constraints.

An objective is a vectorised function of canonical genomes. Nothing here knows a search algorithm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import AccuracyEvaluator, Predictor
    from layerclock.space import GenomeArray, SiteIndex

__all__ = [
    "Constraint",
    "FloatArray",
    "Objective",
    "accuracy_objective",
    "latency_objective",
    "macs_objective",
    "params_objective",
    "total_violation",
]

FloatArray = npt.NDArray[np.float64]

_NAME = r"[A-Za-z_][\w.]*"
_CONSTRAINT = re.compile(rf"\s*({_NAME})\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """A number that a search makes small (or large, with ``maximise``).

    ``evaluate`` takes canonical genomes int64[N, G] and returns float64[N]; NaN says that a network could not be
    evaluated. ``cheap`` objectives (a predictor, an exact count) are evaluated before the others, so that a network
    which violates a constraint on one of them costs nothing more. ``unit`` is for names that do not end with it.
    ``space_digest``, where given, is the :attr:`SiteIndex.digest` of the only space whose genomes it understands.
    Raises :class:`ArgumentError` for a name that could not stand in a constraint.
    """

    name: str
    evaluate: Callable[[GenomeArray], npt.NDArray[np.floating[Any]]]
    maximise: bool = False
    unit: str = ""
    cheap: bool = False
    space_digest: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ArgumentError(f"an objective cannot be called {self.name!r}", "use letters, digits, underscores and dots")

    @property
    def column(self) -> str:
        """Name of its column in files: the name, with the unit at its end."""
        named = not self.unit or self.name == self.unit or self.name.endswith(f"_{self.unit}")
        return self.name if named else f"{self.name}_{self.unit}"


def latency_objective(predictor: Predictor, name: str = "latency_ms") -> Objective:
    """Predicted latency in ms, cheap. Give ``name`` where a search minimises the latencies of several devices."""

    def evaluate(genomes: GenomeArray) -> FloatArray:
        return predictor.predict(genomes).latency_ms

    card = getattr(predictor, "card", None)  # predictors of third parties need none
    return Objective(name, evaluate, unit="ms", cheap=True, space_digest=getattr(card, "space_digest", ""))


def accuracy_objective(evaluator: AccuracyEvaluator, cheap: bool = False) -> Objective:
    """The evaluator's metric, maximised, in the metric's own unit. ``cheap`` suits a learned accuracy predictor."""
    return Objective(evaluator.metric, evaluator.evaluate, maximise=True, cheap=cheap)


def macs_objective(index: SiteIndex) -> Objective:
    """Exact number of multiply-accumulates, minimised, cheap."""
    return Objective("macs", lambda genomes: index.macs(genomes).astype(np.float64), cheap=True)


def params_objective(index: SiteIndex) -> Objective:
    """Exact number of trained weights, minimised, cheap."""
    return Objective("params", lambda genomes: index.params(genomes).astype(np.float64), cheap=True)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on an objective or metric, in its own unit; the bound itself is allowed."""

    name: str
    operator: Literal["<=", ">="]
    limit: float

    @classmethod
    def parse(cls, text: str, known: Sequence[str]) -> Constraint:
        """The constraint that a text such as ``latency_ms<=1.5`` or ``top1_percent>=90`` means.

        Raises :class:`ArgumentError` for a text of another form and :class:`UnknownNameError` for a name that is not
        among ``known``.
        """
        hint = f"write NAME<=NUMBER or NAME>=NUMBER, such as {known[0] if known else 'latency_ms'}<=1.5"
        found = _CONSTRAINT.fullmatch(text)
        if found is None:
            raise ArgumentError(f"{text!r} is not a constraint", hint)
        name, operator, written = found.groups()
        try:
            limit = float(written)
        except ValueError:
            raise ArgumentError(f"{text!r} is not a constraint: {written!r} is no number", hint) from None
        if not np.isfinite(limit):
            raise ArgumentError(f"{text!r} is not a constraint: its limit is not finite", hint)
        if name not in known:
            raise UnknownNameError("objective or metric", name, known)
        return cls(name, "<=" if operator == "<=" else ">=", limit)

    def violation(self, values: FloatArray) -> FloatArray:
        """How far each value is beyond the limit, relative to the limit: float64[N], 0 where it holds, inf for NaN."""
        beyond = values - self.limit if self.operator == "<=" else self.limit - values
        relative = beyond / (abs(self.limit) or 1.0)
        # A violation never rounds to 0, so that "0" and "holds" mean the same everywhere.
        violated = np.where(beyond > 0, np.maximum(relative, np.finfo(np.float64).tiny), 0.0)
        return np.where(np.isnan(values), np.inf, violated)

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{repr(float(self.limit)).removesuffix('.0')}"


def total_violation(constraints: Sequence[Constraint], names: Sequence[str], values: FloatArray) -> FloatArray:
    """Sum of the relative violations of each row of ``values`` float64[N, K], whose columns are ``names``: float64[N]."""
    total = np.zeros(len(values))
    for constraint in constraints:
        total += constraint.violation(values[:, list(names).index(constraint.name)])
    return total
