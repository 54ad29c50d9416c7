"""Plotly's own script, as its Python package carries it: the one part of a page that is not ours."""

from __future__ import annotations

from plotly.offline import get_plotlyjs

__all__ = ["plotly_script"]


def plotly_script() -> str:
    """The whole of plotly.js, minified, to stand in a ``script`` element."""
    script: str = get_plotlyjs()
    return script
