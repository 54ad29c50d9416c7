"""What a number or word of a design may be: the rules that its types and its files are checked by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OneOf", "Real", "Rule", "Value", "Whole", "check_fields"]

Value = int | float | str


class Rule(Protocol):
    """Says what is wrong with a value: nothing if it is an empty text."""

    def problem(self, value: object) -> str:
        """What is wrong with ``value``, for example ``is 0, not a whole number from 1 to 64``."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int

    def problem(self, value: object) -> str:
        """What is wrong with ``value``."""
        fine = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return "" if fine else f"is {value!r}, not a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from ``low`` to ``high``."""

    low: float
    high: float

    def problem(self, value: object) -> str:
        """What is wrong with ``value``."""
        fine = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        return "" if fine else f"is {value!r}, not a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few values."""

    values: tuple[Value, ...]

    def problem(self, value: object) -> str:
        """What is wrong with ``value``."""
        fine = any(type(value) is type(known) and value == known for known in self.values)
        return "" if fine else f"is {value!r}, not one of {', '.join(map(str, self.values))}"


def check_fields(what: object, rules: Mapping[str, Rule], where: str) -> None:
    """Raise :class:`ArgumentError` for the first attribute of ``what`` that breaks its rule."""
    for name, rule in rules.items():
        problem = rule.problem(getattr(what, name))
        if problem:
            raise ArgumentError(f"{where}.{name} {problem}", "see layerclock.devices.accelerators for what a design holds")
