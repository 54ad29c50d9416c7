"""Sphinx: the docs site. ``make docs`` builds it into build/docs, and no warning passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.version import VERSION

if TYPE_CHECKING:
    import click
    from sphinx.application import Sphinx

project = "Layerclock"
author = "the Layerclock developers"
release = version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# The order of the source is the order in which a reader needs things.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "Layerclock"
html_theme_options = {"sidebar_hide_name": False}


def setup(app: Sphinx) -> None:
    """Help texts are written for the terminal: their stars are no markup."""

    def without_markup(_: Sphinx, __: click.Context, lines: list[str]) -> None:
        lines[:] = [line.replace("*", r"\*") for line in lines]

    app.connect("sphinx-click-process-description", without_markup)
    app.connect("sphinx-click-process-options", without_markup)
