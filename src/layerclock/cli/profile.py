"""``layerclock profile``."""

from __future__ import annotations

from pathlib import Path

import click

from layerclock.cli.output import json_option, print_json, print_table, progress_bar, quiet_option
from layerclock.errors import ArgumentError, TooNoisyError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import load_space, open_device
from layerclock.space import SiteIndex


@click.command("profile")
@click.option("--device", "device_name", required=True, help="Device, as `layerclock devices` lists it.")
@click.option("--space", "space_name", required=True, help="Search space, such as ofa-mobilenetv3 or ofa-mobilenetv3:resolution=128.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the campaign.")
@click.option("--networks", default=40, show_default=True, help="Sub-networks to profile kernel by kernel.")
@click.option("--holdout", default=10, show_default=True, help="Further sub-networks, timed end to end only: the truth for `evaluate`.")
@click.option("--rounds", default=4, show_default=True, help="Rounds over all networks, spread in time.")
@click.option("--runs", default=5, show_default=True, help="Runs of each network in each round.")
@click.option("--threads", default=1, show_default=True, help="Threads of the runtime.")
@click.option("--batch", default=1, show_default=True, help="Batch of the exported networks.")
@click.option("--precision", default="float32", show_default=True, help="Element type that the runtime computes in.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A session option of the runtime; may be repeated.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice of networks.")
@click.option(
    "--max-noise",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Exit with 3 if the relative noise floor is above this.",
)
@json_option
@quiet_option
def command(
    device_name: str, space_name: str, folder: Path, networks: int, holdout: int, rounds: int, runs: int, threads: int, batch: int,
    precision: str, options: tuple[str, ...], seed: int, max_noise: float, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure sub-networks of a space on a device into a latency table.

    The table is <folder>/table.parquet. Ctrl-C keeps what was measured; the same command goes on from there.

    Example: layerclock profile --device openvino:CPU --space ofa-mobilenetv3 -o runs/x
    """
    device = open_device(device_name, DeviceOptions(threads, batch, precision, _pairs(options)))
    space = load_space(space_name)
    from layerclock.profiler.campaign import Progress, profile  # after the names are known to be right: it imports torch

    with progress_bar(quiet) as report:

        def tell(progress: Progress) -> None:
            report(f"{device_name} {progress.stage}", progress.done, progress.total, progress.left_s)

        table = profile(device, space, folder, networks=networks, holdout=holdout, rounds=rounds, runs=runs, seed=seed, progress=tell)
    path = folder / "table.parquet"
    counts = {level: table.level(level).num_rows for level in ("layer", "kernel", "network")}
    distinct = len(SiteIndex.of(space).vocabulary)
    covered = f"{counts['layer'] / distinct:.0%}" + ("" if counts["layer"] == distinct else ": profile more networks")
    failed = table.level("network")["status"].to_pylist().count("failed")
    if as_json:
        print_json(
            {"table": str(path), "target": str(table.target), "rows": counts, "layers_of_the_space": distinct,
             "failed_networks": failed, "noise_floor": table.noise_floor,
             "additivity": dict(table.additivity)}
        )  # fmt: skip
    else:
        print_table(
            str(table.target),
            ("", ""),
            [
                *((f"{level}s", str(count)) for level, count in counts.items()),
                ("of the space's layers", covered),
                ("networks that failed", str(failed)),
                ("noise floor", f"{table.noise_floor:.2%}"),
                ("layer sum / end to end", f"{table.additivity['median']:.3f}"),
                ("table", str(path)),
            ],
        )
    if not table.noise_floor <= max_noise:
        raise TooNoisyError(
            f"the noise floor of {table.noise_floor:.1%} is above {max_noise:.1%}; the table is written nevertheless",
            "stop other work on this machine, or measure more --rounds into a fresh folder",
        )


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise ArgumentError(f"--option {option!r} is not KEY=VALUE", "for example --option ENABLE_CPU_PINNING=NO")
        pairs[key] = value
    return pairs
