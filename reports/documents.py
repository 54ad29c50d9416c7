"""The form in which sections of a report are handed to its page: words for people, and numbers for its drawings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Fact", "Missing", "Section", "number", "percent", "rounded"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts; ``tone`` is "", ``good``, ``fair`` or ``bad``."""

    name: str
    value: str
    tone: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a report cannot show, why, and the command that would give it."""

    what: str
    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Section:
    """``words`` go to the page's template and ``drawings`` to its scripts; both hold plain values only. ``tiles`` stand on top."""

    words: dict[str, Any] = field(default_factory=dict)
    drawings: dict[str, Any] = field(default_factory=dict)
    tiles: list[Fact] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent; "not told" where it is not known."""
    return "not told" if share is None or math.isnan(share) else f"{share * 100:.{digits}f} %"


def number(value: float | None, unit: str = "", digits: int = 4) -> str:
    """A number to so many significant digits, with its unit."""
    if value is None or not math.isfinite(value):
        return "not told"
    return f"{value:,.{digits}g} {unit}".strip() if abs(value) < 10**digits else f"{value:,.0f} {unit}".strip()


def rounded(values: Iterable[float | None], digits: int = 5) -> list[float | None]:
    """Numbers to so many significant digits, for a smaller page; None where there is no number."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}") for value in values]
