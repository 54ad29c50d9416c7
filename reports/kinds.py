"""Sorting layers or kernels into a few kinds that tell something apart."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["kinds"]

# An operator that takes this much of the time says little by itself; and this many kinds of it can still be told apart.
_TOO_MUCH = 0.5
_MOST_VALUES = 6


def kinds(operators: Sequence[str], attributes: Sequence[Mapping[str, object]], times: Sequence[float]) -> list[str]:
    """The kind of each of N parts: its operator, and where that takes half of ``times``, the value of one of its attributes, too.

    That is the attribute of most values, but no more than six, among those that every part of the operator has.
    """
    spent: dict[str, float] = defaultdict(float)
    for operator, time in zip(operators, times, strict=True):
        spent[operator] += max(time, 0.0)
    total = sum(spent.values())
    told = {
        operator: _telling([own for name, own in zip(operators, attributes, strict=True) if name == operator])
        for operator, time in spent.items()
        if total and time / total >= _TOO_MUCH
    }
    return [
        f"{operator}, {told[operator]} {own[told[operator]]}" if told.get(operator) else operator
        for operator, own in zip(operators, attributes, strict=True)
    ]


def _telling(attributes: Sequence[Mapping[str, object]]) -> str:
    """The name of the attribute to tell them apart by; "" if there is none."""
    shared = set(attributes[0]).intersection(*attributes)
    values = {name: len({str(own[name]) for own in attributes}) for name in sorted(shared)}
    # As many values as parts: that is a name, not a kind.
    fitting = {name: number for name, number in values.items() if 2 <= number <= _MOST_VALUES and number < len(attributes)}
    return max(fitting, key=fitting.__getitem__, default="")
