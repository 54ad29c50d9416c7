"""``layerclock table merge``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, refuse_overwriting

__all__ = ["command"]


@click.command("merge")
@click.argument("paths", metavar="TABLE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Table to write.")
@json_option
def command(paths: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Make one table of several of the same target; other targets are refused.

    Of rows of one key the better measured stays: more undisturbed samples, then the narrower interval.

    Example: layerclock table merge monday.parquet friday.parquet -o both.parquet
    """
    from layerclock.datasets.merging import merge_tables
    from layerclock.datasets.table import read_table

    refuse_overwriting(output, paths)
    tables = [read_table(path) for path in paths]
    merged = merge_tables(tables)
    merged.write(output)
    if as_json:
        print_json({"file": str(output), "rows": len(merged), "content_hash": merged.content_hash, "parents": merged.provenance.parents})
    else:
        click.echo(f"{output}: {len(merged)} rows of {sum(map(len, tables))} in {len(paths)} tables")
