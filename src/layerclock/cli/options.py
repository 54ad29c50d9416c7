"""Types of options that several verbs share."""

from __future__ import annotations

import re

import click

__all__ = ["Duration", "Processors", "Shape"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Duration(click.ParamType[float, str | float]):
    """A time above zero, in seconds: 90s, 10m, 1.5h."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """What click asks of a type: the value of what was written."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(s|m|min|h)?", str(value).strip())
        if not found or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time: write 90s, 10m or 1.5h", param, ctx)
        return float(found[1]) * _UNITS[found[2] or ""]


class Shape(click.ParamType[tuple[str, tuple[int, ...]], str | tuple[str, tuple[int, ...]]]):
    """An input's name and its shape."""

    name = "name=1x3x224x224"

    def convert(
        self, value: str | tuple[str, tuple[int, ...]], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """What click asks of a type: the value of what was written."""
        if isinstance(value, tuple):
            return value
        name, _, axes = value.rpartition("=")
        if not name or not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", axes):
            self.fail(f"{value!r} is no shape: write input=1x3x224x224", param, ctx)
        return name, tuple(map(int, axes.split("x")))


class Processors(click.ParamType[tuple[int, ...], str | tuple[int, ...]]):
    """Numbers of processors."""

    name = "0,2-3"

    def convert(self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """What click asks of a type: the value of what was written."""
        if isinstance(value, tuple):
            return value
        chosen: list[int] = []
        for part in value.split(","):
            ends = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
            if not ends:
                self.fail(f"{value!r} names no processors: write 0 or 0,2-3", param, ctx)
            if ends[2] and int(ends[2]) < int(ends[1]):
                self.fail(f"{part!r} is no range: write {ends[2]}-{ends[1]}", param, ctx)
            chosen += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        return tuple(dict.fromkeys(chosen))
