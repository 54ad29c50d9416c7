"""Plotly's own script, the one part of a page that is not ours: its ``basic`` bundle, as published, with its licence beside it.

It stands here because Plotly's Python package carries the whole library alone, which makes a page four times as large and as slow to
begin. To renew it: ``npm pack plotly.js-basic-dist-min``, copy the two files into ``reports/plotly/``, and write down the hash.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["PLOTLY_SHA256", "plotly_script"]

# Of plotly-basic.min.js 4.1.1; a test holds the file to it.
PLOTLY_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"


def plotly_script() -> str:
    """Plotly with scatter, bar and pie, minified, to stand in a ``script`` element."""
    return (Path(__file__).parent / "plotly" / "plotly-basic.min.js").read_text(encoding="utf-8")
