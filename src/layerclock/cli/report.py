"""``layerclock report``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table, quiet_option, refuse_overwriting


@click.command("report")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", default="report.html", show_default=True, type=click.Path(path_type=Path, dir_okay=False),
              help="The page to write.")  # fmt: skip
@click.option("--title", default="", help="Heading of the page; by default the space and the devices.")
@json_option
@quiet_option
def command(paths: tuple[Path, ...], output: Path, title: str, as_json: bool, quiet: bool) -> None:
    """Show campaigns, tables, predictors and searches on one HTML page.

    PATHs are campaign folders (with the predictors and the search in them), tables, predictors and search folders, in any mix.
    Two tables are compared, several searches drawn over each other. The page needs no network.

    \b
    Examples: layerclock report runs/x -o report.html
              layerclock report runs/x runs/y cpu.onnx runs/s -o report.html
    """
    from layerclock.reports.report import report

    refuse_overwriting(output, paths)
    made = report(paths, output, title=title)
    if as_json:
        print_json({
            "output": str(made.path), "size_bytes": made.size_bytes, "sections": list(made.sections),
            "missing": [asdict(one) for one in made.missing], "left_out": list(made.left_out),
        })  # fmt: skip
        return
    click.echo(f"{made.path}, {made.size_bytes / 1e6:.1f} MB: {', '.join(made.sections).lower()}")
    for text in made.left_out:
        click.echo(f"passed over: {text}")
    if made.missing and not quiet:
        print_table("\nNot in it", ("", "why", "how to get it"), [(one.what, one.why, one.command) for one in made.missing])
