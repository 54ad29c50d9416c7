"""The page itself: words through a template that escapes everything, numbers as JSON that cannot leave its element."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from layerclock.reports.plotly_library import plotly_script
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.reports.documents import Fact, Missing

__all__ = ["Page", "json_for_script", "render"]

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("theme.js", "drift.js", "spent.js", "quality.js", "fronts.js", "difference.js", "start.js")
# File of each section, what the page's scripts draw from it, and its name in the contents; in their order on the page.
_SECTIONS = (
    ("device", "tables", "The device"),
    ("spent", "spent", "Where the time goes"),
    ("quality", "predictors", "The predictor"),
    ("fronts", "searches", "The search"),
    ("difference", "difference", "Differences"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: ``words`` and ``drawings`` of all sections together, plain values that may hold any text."""

    title: str
    sources: Sequence[str]
    written: str
    tiles: Sequence[Fact]
    words: Mapping[str, Any]
    drawings: Mapping[str, Any]
    missing: Sequence[Missing]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """File and name of each section that there is something for."""
        return [(file, name) for file, key, name in _SECTIONS if self.words.get(key)]


def render(page: Page) -> str:
    """The page as one HTML document that asks the network for nothing, and whose policy lets it run no script but its own."""
    library = plotly_script()
    parts = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{parts}}})();'
    loader = FileSystemLoader(_FOLDER)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    contents = [*page.sections, *([("missing", "What is missing")] if page.missing else [])]
    return environment.get_template("page.html").render(
        title=page.title, sources=page.sources, written=page.written, tool=f"layerclock {VERSION}", tiles=page.tiles, words=page.words,
        drawings=page.drawings, missing=page.missing, contents=contents, sections=[f"{file}.html" for file, _ in page.sections],
        policy=_policy(library, script),
        # These four are ours, Plotly's, or cannot leave their element.
        style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")), library=Markup(library), script=Markup(script),  # noqa: S704
        data=Markup(json_for_script(page.drawings)),  # noqa: S704
    )  # fmt: skip


def json_for_script(value: object) -> str:
    """JSON in which no character can end a ``script`` element, begin another, or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy under which these scripts run and nothing else does, and nothing is fetched.

    Styles may be inline: Plotly sets them on the elements that it draws.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
