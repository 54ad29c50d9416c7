"""Names of spaces: what a table, a predictor and a search call the space that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["named"]


def named(name: str, given: Mapping[str, tuple[float, float]]) -> str:
    """The name, with every parameter whose value (first) differs from the usual one (second): variants never share a name."""
    changed = [f"{key}={_exactly(value)}" for key, (value, usual) in given.items() if value != usual]
    return f"{name}:{','.join(changed)}" if changed else name


def _exactly(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return short if float(short := f"{value:g}") == value else repr(value)
