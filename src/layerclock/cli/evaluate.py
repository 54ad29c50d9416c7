"""``layerclock evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from layerclock.predictors.evaluate import Evaluation


@click.command("evaluate")
@click.argument("predictor_path", metavar="PREDICTOR", type=click.Path(path_type=Path))
@click.argument("table_path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option(
    "--role", type=click.Choice(["holdout", "profiled"]), default="holdout", show_default=True, help="Networks to hold it against."
)
@json_option
def command(predictor_path: Path, table_path: Path, role: str, as_json: bool) -> None:
    """Hold a predictor against measured networks that it never saw.

    Example: layerclock evaluate cpu.onnx runs/x/table.parquet
    """
    from layerclock.datasets.table import read_table
    from layerclock.predictors.evaluate import evaluate
    from layerclock.predictors.portable import load

    predictor = load(predictor_path)
    result = evaluate(predictor, read_table(table_path), role)
    if as_json:
        print_json({"predictor": str(predictor_path), "table": str(table_path), "role": role, **result.to_dict()})
        return
    print_table(f"{predictor.card.kind} predictor on {result.networks} {role} networks", ("", ""), _rows(result))


def _rows(result: Evaluation) -> list[tuple[str, str]]:
    """An evaluation as rows of name and value, in words for people."""
    return [
        ("mean error", f"{result.mean_error:.2%}"),
        ("noise floor of the truth", f"{result.noise_floor:.2%}"),
        ("largest error", f"{result.largest_error:.2%}"),
        ("within 5 % / 10 %", f"{result.within_5_percent:.0%} / {result.within_10_percent:.0%}"),
        ("Spearman / Kendall", f"{result.spearman:.3f} / {result.kendall:.3f}"),
        ("inside the interval", f"{result.interval_coverage:.0%} (meant: {result.interval_level:.0%})"),
    ]
