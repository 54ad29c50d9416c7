"""``layerclock fit``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table, quiet_option, refuse_overwriting, refuse_without, told
from layerclock.cli.trust import tell_distrust
from layerclock.errors import ArgumentError
from layerclock.interfaces import DeviceOptions


@click.command("fit")
@click.argument("table_paths", metavar="[TABLE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Predictor file to write (.onnx).")
@click.option("--kind", default="layerwise", show_default=True, help="Predictor: layerwise, endtoend, kernelwise, or a plug-in's.")
@click.option("--space", "space_name", default="", help="Search space; by default the one that the table names.")
@click.option("--transfer", is_flag=True, help="Fit to a few networks of a new device; the tables are those of other devices.")
@click.option("--device", "device_name", default="", help="With --transfer: the device on which they are measured.")
@click.option("--measured", type=click.Path(path_type=Path), help="With --transfer: a table of the new device, instead of measuring.")
@click.option("--samples", default=20, show_default=True, help="With --transfer: how many networks are measured.")
@click.option("--threads", default=1, show_default=True, help="With --transfer: threads of the runtime.")
@click.option("--campaign", type=click.Path(path_type=Path, file_okay=False),
              help="With --transfer: folder of the measurements; by default the output's name without .onnx.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="With --transfer: seed of the choice of networks.")
@json_option
@quiet_option
def command(
    table_paths: tuple[Path, ...], output: Path, kind: str, space_name: str, transfer: bool, device_name: str, measured: Path | None,
    samples: int, threads: int, campaign: Path | None, seed: int, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Fit a latency predictor to a table and write it as one ONNX file.

    A kernelwise one predicts networks of no known space; the table for it comes from `layerclock profile --composites`.

    With --transfer, 20 well chosen networks are measured on a new device, and other devices' tables, as many as there are, tell the rest.

    \b
    Examples: layerclock fit runs/x/table.parquet -o cpu.onnx
              layerclock fit --transfer tables/*.parquet --device openvino:CPU --samples 20 -o new.onnx
    """
    refuse_overwriting(output, [*table_paths, *([measured] if measured else [])])
    if transfer:
        from layerclock.cli.fit_transfer import fit_by_transfer

        fit_by_transfer(
            table_paths, output, space_name=space_name, device_name=device_name, options=DeviceOptions(threads), measured=measured,
            samples=samples, folder=campaign, seed=seed, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    refuse_without("--transfer", {"device_name": "device"} | {one: one for one in ("measured", "samples", "threads", "campaign", "seed")})
    if len(table_paths) != 1:
        raise click.UsageError(f"give one table, not {len(table_paths)}; several are the sources of --transfer")
    (table_path,) = table_paths
    name, _, parameters = kind.partition(":")
    if name == "kernelwise":
        if parameters:
            raise ArgumentError(f"the fit of a kernelwise predictor has no parameter {parameters!r}", "--kind kernelwise")
        _fit_kernelwise(table_path, output, as_json)
        return
    from layerclock.datasets.table import read_table
    from layerclock.plugins import load_space
    from layerclock.predictors.fitting import fit

    table = read_table(table_path)
    broken = tell_distrust(table_path, table)
    predictor = fit(table, load_space(space_name) if space_name else None, kind)
    predictor.save(output)
    card = predictor.card
    if as_json:
        print_json(
            {"predictor": str(output), "kind": card.kind, "space": card.space, "target": str(card.target),
             "networks": card.fitted_on_networks, "interval_level": card.interval_level, "interval_half_width": card.interval_half_width,
             "noise_floor": card.noise_floor, "parameters": dict(card.parameters), "broken_rules": broken}
        )  # fmt: skip
        return
    print_table(
        str(card.target),
        ("", ""),
        [
            ("kind", card.kind),
            ("fitted on", f"{card.fitted_on_networks} networks of {card.space}"),
            (f"{card.interval_level:.0%} interval", f"+-{card.interval_half_width:.1%}"),
            ("noise floor", told(card.noise_floor, ".2%")),
            *((name, f"{value:.4g}") for name, value in card.parameters.items()),
            ("file", str(output)),
        ],
    )


def _fit_kernelwise(table_path: Path, output: Path, as_json: bool) -> None:
    from layerclock.datasets.table import read_table
    from layerclock.predictors.kernelwise import fit_kernelwise

    table = read_table(table_path)
    broken = tell_distrust(table_path, table)
    predictor = fit_kernelwise(table)
    predictor.save(output)
    card = predictor.card
    errors = {name: error for name, error in card.family_errors.items() if card.words.families.get(name)}
    if as_json:
        print_json(
            {"predictor": str(output), "kind": card.kind, "target": str(card.target), "kernels": card.fitted_on_kernels,
             "networks": card.fitted_on_networks, "interval_level": card.interval_level, "noise_floor": card.noise_floor,
             "left_out_errors": errors, "broken_rules": broken}
        )  # fmt: skip
        return
    print_table(
        str(card.target),
        ("", ""),
        [
            ("kind", card.kind),
            ("fitted on", f"{card.fitted_on_kernels} kernels of {card.fitted_on_networks} networks"),
            ("noise floor", told(card.noise_floor, ".2%")),
            *((f"error on left-out {name}", f"{error:.1%}") for name, error in sorted(errors.items())),
            ("file", str(output)),
        ],
    )
