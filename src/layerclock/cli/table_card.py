"""``layerclock table card``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, refuse_overwriting

__all__ = ["command"]


@click.command("card")
@click.argument("path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Markdown file to write; else it is printed.")
@json_option
def command(path: Path, output: Path | None, as_json: bool) -> None:
    """Describe a table for people: device, settings, how it was measured, verdict, origin, and what it is not for.

    Example: layerclock table card runs/x/table.parquet -o card.md
    """
    from layerclock.atomic import write_atomically
    from layerclock.datasets.card import table_card
    from layerclock.datasets.table import read_table

    refuse_overwriting(output, [path])
    text = table_card(read_table(path))
    if output is not None:
        write_atomically(output, lambda draft: draft.write_text(text, encoding="utf-8"))
    if as_json:
        print_json({"table": str(path), "file": None if output is None else str(output), "card": text})
    else:
        click.echo(text.rstrip() if output is None else f"{output}: card of {path}")
