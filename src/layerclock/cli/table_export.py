"""``layerclock table export``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, refuse_overwriting

__all__ = ["command"]

KINDS = ("csv", "jsonl", "ofa-yaml")


@click.command("export")
@click.argument("table_path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option("--to", "kind", required=True, type=click.Choice(KINDS), help="Format to write.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@json_option
def command(table_path: Path, kind: str, output: Path, as_json: bool) -> None:
    """Write a table in a format of other tools.

    csv and jsonl hold its rows, with the rest in FILE.footer.json: `table import rows` makes the same table of both. ofa-yaml is
    once-for-all's lookup table: the layers of an ofa-mobilenetv3 space, under the keys that once-for-all's own latency estimator
    looks up.

    Example: layerclock table export runs/x/table.parquet --to ofa-yaml -o 224_lookup_table.yaml
    """
    from layerclock.datasets.exports import export_table
    from layerclock.datasets.table import read_table

    refuse_overwriting(output, [table_path])
    table = read_table(table_path)
    export_table(table, kind, output)
    if as_json:
        print_json({"file": str(output), "format": kind, "space": table.space, "rows": len(table)})
    else:
        click.echo(f"{output}: {kind} of {table_path}")
