"""What all verbs share: JSON or a table for people on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "json_option",
    "print_json",
    "print_table",
    "progress_bar",
    "progress_bars",
    "quiet_option",
    "refuse_overwriting",
    "refuse_without",
    "told",
]

# Without a terminal, progress is a line at most this often.
_SECONDS_BETWEEN_LINES = 10.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")

Report = Callable[[str, int, int, float], None]


def print_json(document: object) -> None:
    """One JSON document on standard output; NaN, which JSON does not have, becomes null."""
    click.echo(json.dumps(_without_nan(document), indent=1))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def refuse_overwriting(output: Path | None, inputs: Iterable[Path]) -> None:
    """Raise :class:`ArgumentError` if ``output`` is one of the files that are read: a table that was shipped cannot be made again."""
    for path in inputs:
        if output is not None and output.exists() and path.exists() and output.samefile(path):
            raise ArgumentError(f"-o {output} would overwrite what is read", "name another file")


def refuse_without(flag: str, options: Mapping[str, str]) -> None:
    """Raise a usage error for an option, by its parameter's name, that was given and says something with ``flag`` only."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} says nothing without {flag}")


def told(value: float, form: str) -> str:
    """``value`` in the ``form`` of :func:`format`, or that nobody told it, where it is NaN."""
    return "not told" if math.isnan(value) else format(value, form)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people, as wide as the terminal; 80 columns where there is none. Columns of numbers are right-aligned."""
    table = Table(header_style="bold", box=None, pad_edge=False, show_header=any(columns))
    for position, name in enumerate(columns):
        words = any(isinstance(row[position], str) and not _is_number(row[position]) for row in rows)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    if title:
        console.print(title, style="bold")
    console.print(table)


def _is_number(text: object) -> bool:
    return str(text).strip("%+-x ").replace(".", "", 1).replace(",", "").isdigit()


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Report]:
    """Give ``report(stage, done, total, seconds_left)``: a bar on a terminal, else now and then a line."""
    with progress_bars(quiet, 1) as reports:
        yield reports[0]


@contextmanager
def progress_bars(quiet: bool, number: int) -> Iterator[list[Report]]:
    """As :func:`progress_bar`, for so many things that go on at the same time."""
    if quiet:
        yield [lambda *_: None] * number
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(30),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield [_Bar(bar) for _ in range(number)]
    else:
        yield [_Lines() for _ in range(number)]


class _Bar:
    def __init__(self, bar: Progress) -> None:
        self._bar, self._task = bar, bar.add_task("", total=1, left="")

    def __call__(self, stage: str, done: int, total: int, left_s: float) -> None:
        self._bar.update(self._task, description=stage, completed=done, total=total, left=_left(left_s))


class _Lines:
    def __init__(self) -> None:
        self._stage, self._last = "", -math.inf

    def __call__(self, stage: str, done: int, total: int, left_s: float) -> None:
        if stage != self._stage or monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._stage, self._last = stage, monotonic()
            click.echo(f"{stage}: {done}/{total} {_left(left_s)}".rstrip(), err=True)


def _left(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.1f} min left"
