"""``layerclock fit``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table


@click.command("fit")
@click.argument("table_path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Predictor file to write (.onnx).")
@click.option("--kind", default="layerwise", show_default=True, help="Predictor: layerwise, endtoend, or a plug-in's.")
@click.option("--space", "space_name", default="", help="Search space; by default the one that the table names.")
@json_option
def command(table_path: Path, output: Path, kind: str, space_name: str, as_json: bool) -> None:
    """Fit a latency predictor to a table and write it as one ONNX file.

    Example: layerclock fit runs/x/table.parquet -o cpu.onnx
    """
    from layerclock.datasets.table import read_table
    from layerclock.plugins import load_space
    from layerclock.predictors.fitting import fit

    predictor = fit(read_table(table_path), load_space(space_name) if space_name else None, kind)
    predictor.save(output)
    card = predictor.card
    if as_json:
        print_json(
            {"predictor": str(output), "kind": card.kind, "space": card.space, "target": str(card.target),
             "networks": card.fitted_on_networks, "interval_level": card.interval_level, "interval_half_width": card.interval_half_width,
             "noise_floor": card.noise_floor, "parameters": dict(card.parameters)}
        )  # fmt: skip
        return
    print_table(
        str(card.target),
        ("", ""),
        [
            ("kind", card.kind),
            ("fitted on", f"{card.fitted_on_networks} networks of {card.space}"),
            (f"{card.interval_level:.0%} interval", f"+-{card.interval_half_width:.1%}"),
            ("noise floor", f"{card.noise_floor:.2%}"),
            *((name, f"{value:.4g}") for name, value in card.parameters.items()),
            ("file", str(output)),
        ],
    )
