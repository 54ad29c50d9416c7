"""What verbs that build on a latency table tell about it before they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable

__all__ = ["broken_rules", "tell_distrust"]


def broken_rules(table: LatencyTable) -> list[str]:
    """The serious rules of `layerclock table check` that ``table`` breaks, each with what was found; none if it is to be trusted."""
    from layerclock.datasets.check import check_table

    return [f"{finding.rule} ({finding.detail})" for finding in check_table(table) if finding.serious and not finding.kept]


def tell_distrust(path: str | Path, table: LatencyTable) -> list[str]:
    """Say on standard error which serious rules the table at ``path`` breaks, if any; the same as :func:`broken_rules` returns."""
    broken = broken_rules(table)
    if broken:
        click.echo(
            f"{path} is NOT to be trusted as it is: {'; '.join(broken)}\n what to do: layerclock table check {path}",
            err=True,
        )
    return broken
