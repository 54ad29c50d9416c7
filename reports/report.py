"""A report on campaigns, tables, predictors and searches as one HTML page. Needs the extra ``report``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerclock.atomic import write_atomically
from layerclock.reports.differences import differences
from layerclock.reports.fronts import fronts
from layerclock.reports.inputs import read_inputs
from layerclock.reports.page import Page, render
from layerclock.reports.quality import quality
from layerclock.reports.steadiness import steadiness
from layerclock.reports.time_spent import time_spent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.reports.documents import Missing
    from layerclock.reports.inputs import Inputs

__all__ = ["Report", "report"]


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written: its ``sections``, what it lacks with the command that would give it, and what was passed over."""

    path: Path
    size_bytes: int
    sections: tuple[str, ...]
    missing: tuple[Missing, ...]
    left_out: tuple[str, ...]


def report(paths: Sequence[Path | str], output: Path | str = "report.html", *, title: str = "") -> Report:
    """Write one self-contained HTML page on what ``paths`` hold: campaign folders, tables, predictors, searches, in any mix.

    Two tables are compared, and the fronts of several searches are drawn over each other. Needs no network, nor does the page.
    Raises what :func:`~layerclock.reports.inputs.read_inputs` raises, and :class:`~layerclock.errors.OutputError`.
    """
    inputs = read_inputs(paths)
    made = [
        steadiness(inputs.tables),
        time_spent(inputs.tables),
        quality(inputs.predictors, inputs.tables),
        fronts(inputs.searches, inputs.tables),
        differences(inputs.tables),
    ]
    words: dict[str, Any] = {}
    drawings: dict[str, Any] = {"drift": [], "spent": [], "predictors": [], "searches": [], "difference": None}
    for section in made:
        words |= section.words
        drawings |= section.drawings
    page = Page(
        title=title or _title(inputs),
        sources=[str(path) for path in paths],
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        tiles=[tile for section in made for tile in section.tiles],
        words=words,
        drawings=drawings,
        missing=[one for section in made for one in section.missing],
    )
    document = render(page).encode()
    write_atomically(Path(output), lambda draft: draft.write_bytes(document))
    sections = tuple(name for _, name in page.sections)
    return Report(Path(output), len(document), sections, tuple(page.missing), tuple(inputs.left_out))


def _title(inputs: Inputs) -> str:
    """The devices and the space, as far as they are known."""
    devices = list(dict.fromkeys(target.device for one in inputs.tables for target in one.table.targets.values()))
    devices = devices or list(dict.fromkeys(one.predictor.target.device for one in inputs.predictors))
    spaces = list(dict.fromkeys([one.table.space for one in inputs.tables] + [one.search.space for one in inputs.searches]))
    subject = spaces[0].removeprefix("onnx:") if spaces else "Latency"
    return f"{subject} on {' and '.join(devices[:3])}" if devices else subject
