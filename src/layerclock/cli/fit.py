"""``layerclock fit``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table


@click.command("fit")
@click.argument("table_path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Predictor file to write (.onnx).")
@click.option("--kind", default="layerwise", show_default=True, help="Predictor: layerwise, endtoend, kernelwise, or a plug-in's.")
@click.option("--space", "space_name", default="", help="Search space; by default the one that the table names.")
@json_option
def command(table_path: Path, output: Path, kind: str, space_name: str, as_json: bool) -> None:
    """Fit a latency predictor to a table and write it as one ONNX file.

    A kernelwise one predicts networks of no known space; the table for it comes from `layerclock profile --composites`.

    Example: layerclock fit runs/x/table.parquet -o cpu.onnx
    """
    if kind == "kernelwise":
        _fit_kernelwise(table_path, output, as_json)
        return
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


def _fit_kernelwise(table_path: Path, output: Path, as_json: bool) -> None:
    from layerclock.datasets.table import read_table
    from layerclock.predictors.kernelwise import fit_kernelwise

    predictor = fit_kernelwise(read_table(table_path))
    predictor.save(output)
    card = predictor.card
    errors = {name: error for name, error in card.family_errors.items() if card.words.families.get(name)}
    if as_json:
        print_json(
            {"predictor": str(output), "kind": card.kind, "target": str(card.target), "kernels": card.fitted_on_kernels,
             "networks": card.fitted_on_networks, "interval_level": card.interval_level, "noise_floor": card.noise_floor,
             "left_out_errors": errors}
        )  # fmt: skip
        return
    print_table(
        str(card.target),
        ("", ""),
        [
            ("kind", card.kind),
            ("fitted on", f"{card.fitted_on_kernels} kernels of {card.fitted_on_networks} networks"),
            ("noise floor", f"{card.noise_floor:.2%}"),
            *((f"error on left-out {name}", f"{error:.1%}") for name, error in sorted(errors.items())),
            ("file", str(output)),
        ],
    )
