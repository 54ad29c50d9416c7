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
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import AccuracyEvaluator, Predictor
    from layerclock.space import GenomeArray, SiteIndex

__all__ = [
    "Constraint",
    "FloatArray",
    "Objective",
    "accuracy_objective",
    "hard_violation",
    "interval_ends",
    "latency_objective",
    "macs_objective",
    "params_objective",
    "penalised",
]

FloatArray = npt.NDArray[np.float64]

_NAME = r"[A-Za-z_][\w.]*"
_CONSTRAINT = re.compile(rf"\s*({_NAME})\s*([<>][=~])\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """A number that a search makes small (or large, with ``maximise``).

    ``evaluate`` takes canonical genomes int64[N, G] and returns float64[N]; NaN says that a network could not be
    evaluated. ``cheap`` objectives (a predictor, an exact count) are evaluated before the others, so that a network
    which violates a constraint on one of them costs nothing more. ``unit`` is for names that do not end with it.
    ``space_digest``, where given, is the :attr:`SiteIndex.digest` of the only space whose genomes it understands.
    ``interval``, where given, returns the lower and upper ends float64[N] between which the number is expected: a hard
    constraint then holds where the unfavourable end satisfies it. ``source`` says where the numbers come from, such as the name of
    an evaluator: a search is only continued with the same ones. ``target``, where known, is what predicted latencies are valid for.
    ``together`` objectives (a measured device) are asked for many networks in one call, whatever the number of workers.
    Raises :class:`ArgumentError` for a name that could not stand in a constraint.
    """

    name: str
    evaluate: Callable[[GenomeArray], npt.NDArray[np.floating[Any]]]
    maximise: bool = False
    unit: str = ""
    cheap: bool = False
    space_digest: str = ""
    interval: Callable[[GenomeArray], tuple[FloatArray, FloatArray]] | None = None
    source: str = ""
    target: Target | None = None
    together: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ArgumentError(f"an objective cannot be called {self.name!r}", "use letters, digits, underscores and dots")

    @property
    def column(self) -> str:
        """Name of its column in files: the name, with the unit at its end."""
        named = not self.unit or self.name == self.unit or self.name.endswith(f"_{self.unit}")
        return self.name if named else f"{self.name}_{self.unit}"


def latency_objective(predictor: Predictor, name: str = "latency_ms") -> Objective:
    """Predicted latency in ms, cheap, with its interval. Give ``name`` where a search minimises the latencies of several devices.

    Where the predictor has a ``digest`` (as ours do), a search that goes on does so with this very one alone.

    Raises :class:`ArgumentError` for what predicts no genomes, such as the name of a file.
    """
    # Predictors of third parties need neither.
    card, target = getattr(predictor, "card", None), getattr(predictor, "target", None)
    if not callable(getattr(predictor, "predict", None)) or not (card is None or hasattr(card, "space_digest")):
        raise ArgumentError(f"a {type(predictor).__name__} predicts no genomes", 'give layerclock.load("FILE.onnx")')

    def evaluate(genomes: GenomeArray) -> FloatArray:
        return predictor.predict(genomes).latency_ms

    def interval(genomes: GenomeArray) -> tuple[FloatArray, FloatArray]:
        predictions = predictor.predict(genomes)
        return predictions.lower_ms, predictions.upper_ms

    return Objective(
        name, evaluate, unit="ms", cheap=True, space_digest=getattr(card, "space_digest", ""), interval=interval,
        target=target if isinstance(target, Target) else None, source=str(getattr(predictor, "digest", "")),
    )  # fmt: skip


def accuracy_objective(evaluator: AccuracyEvaluator, cheap: bool = False) -> Objective:
    """The evaluator's metric, maximised, in the metric's own unit. ``cheap`` suits a learned accuracy predictor.

    Raises :class:`ArgumentError` for what is no evaluator.
    """
    if not isinstance(getattr(evaluator, "metric", None), str) or not callable(getattr(evaluator, "evaluate", None)):
        raise ArgumentError(f"{evaluator!r} is no evaluator", "it needs the metric's name as `metric`, and `evaluate(genomes)`")
    return Objective(evaluator.metric, evaluator.evaluate, maximise=True, cheap=cheap)


def macs_objective(index: SiteIndex) -> Objective:
    """Exact number of multiply-accumulates, minimised, cheap."""
    return Objective("macs", lambda genomes: index.macs(genomes).astype(np.float64), cheap=True)


def params_objective(index: SiteIndex) -> Objective:
    """Exact number of trained weights, minimised, cheap."""
    return Objective("params", lambda genomes: index.params(genomes).astype(np.float64), cheap=True)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on an objective or metric, in its own unit; the bound itself is allowed.

    A hard one divides networks into feasible and infeasible. A ``soft`` one, written ``latency_ms<~6``, only makes a network's
    objectives worse, as many times as it is beyond the bound.
    """

    name: str
    operator: Literal["<=", ">="]
    limit: float
    soft: bool = False

    @classmethod
    def parse(cls, text: str, known: Sequence[str]) -> Constraint:
        """The constraint that a text such as ``latency_ms<=1.5`` or ``top1_percent>~90`` means.

        Raises :class:`ArgumentError` for a text of another form and :class:`UnknownNameError` for a name that is not
        among ``known``.
        """
        example = known[0] if known else "latency_ms"
        hint = f"write NAME<=NUMBER or NAME>=NUMBER, such as {example}<=1.5; {example}<~1.5 for a soft one"
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
        return cls(name, "<=" if operator.startswith("<") else ">=", limit, operator.endswith("~"))

    def violation(self, values: FloatArray) -> FloatArray:
        """How far each value is beyond the limit, relative to the limit: float64[N], 0 where it holds, inf for NaN."""
        beyond = values - self.limit if self.operator == "<=" else self.limit - values
        relative = beyond / (abs(self.limit) or 1.0)
        # A violation never rounds to 0, so that "0" and "holds" mean the same everywhere.
        violated = np.where(beyond > 0, np.maximum(relative, np.finfo(np.float64).tiny), 0.0)
        return np.where(np.isnan(values), np.inf, violated)

    def __str__(self) -> str:
        operator = f"{self.operator[0]}~" if self.soft else self.operator
        return f"{self.name}{operator}{repr(float(self.limit)).removesuffix('.0')}"


def hard_violation(
    constraints: Sequence[Constraint], measures: Sequence[Objective], genomes: GenomeArray, values: FloatArray
) -> FloatArray:
    """Sum of the relative violations of the hard constraints, float64[N].

    ``values`` float64[N, K] of the ``measures`` of ``genomes`` int64[N, G], in their own units. Where a measure has an interval, its
    unfavourable end is held against the limit.
    """
    total = np.zeros(len(values))
    for constraint, column, measured in _of_measures(constraints, measures):
        if constraint.soft:
            continue
        ends = interval_ends(measured, genomes, values[:, column])
        total += constraint.violation(values[:, column] if ends is None else ends[constraint.operator == "<="])
    return total


def interval_ends(measured: Objective, genomes: GenomeArray, values: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Lower and upper ends float64[N] of the intervals of ``genomes`` int64[N, G]; None for a measure without.

    NaN where there is no value in ``values`` float64[N]: what refuses a network has no interval of it either.
    """
    if measured.interval is None:
        return None
    known = ~np.isnan(values)
    lower, upper = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if known.any():
        lower[known], upper[known] = measured.interval(genomes[known])
    return lower, upper


def penalised(constraints: Sequence[Constraint], measures: Sequence[Objective], values: FloatArray) -> FloatArray:
    """``values`` float64[N, K] to be minimised (maximised measures negated), worse by the share that a soft constraint is violated.

    A value of twice the limit doubles what is minimised and halves what is maximised. With one soft constraint on latency the latter is
    the soft objective of MnasNet (Tan et al., CVPR 2019, arXiv:1807.11626, equation 3, exponents 0 and -1).
    """
    beyond = np.zeros((len(values), 1))
    for constraint, column, measured in _of_measures(constraints, measures):
        if constraint.soft:
            own = -values[:, column] if measured.maximise else values[:, column]
            beyond[:, 0] += constraint.violation(own)
    factor = 1.0 + beyond
    return np.where(beyond > 0, np.where(values > 0, values * factor, values / factor), values)


def _of_measures(constraints: Sequence[Constraint], measures: Sequence[Objective]) -> list[tuple[Constraint, int, Objective]]:
    column = {measured.name: number for number, measured in enumerate(measures)}
    return [(one, column[one.name], measures[column[one.name]]) for one in constraints if one.name in column]
