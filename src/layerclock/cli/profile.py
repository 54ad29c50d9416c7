"""``layerclock profile``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from layerclock.cli.breakdown import breakdown, breakdown_json
from layerclock.cli.output import json_option, print_json, print_table, progress_bar, quiet_option
from layerclock.errors import ArgumentError, TooNoisyError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import load_space, open_device
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.plan import Plan
    from layerclock.profiler.sitting import Progress

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class _Duration(click.ParamType[float, str | float]):
    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(s|m|min|h)?", str(value).strip())
        if not found or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time: write 90s, 10m or 1.5h", param, ctx)
        return float(found[1]) * _UNITS[found[2] or ""]


class _Shape(click.ParamType[tuple[str, tuple[int, ...]], str | tuple[str, tuple[int, ...]]]):
    name = "name=1x3x224x224"

    def convert(
        self, value: str | tuple[str, tuple[int, ...]], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        if isinstance(value, tuple):
            return value
        name, _, axes = value.rpartition("=")
        if not name or not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", axes):
            self.fail(f"{value!r} is no shape: write input=1x3x224x224", param, ctx)
        return name, tuple(map(int, axes.split("x")))


class _Processors(click.ParamType[tuple[int, ...], str | tuple[int, ...]]):
    name = "0,2-3"

    def convert(self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        chosen: list[int] = []
        for part in value.split(","):
            ends = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
            if not ends:
                self.fail(f"{value!r} names no processors: write 0 or 0,2-3", param, ctx)
            chosen += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        return tuple(dict.fromkeys(chosen))


@click.command("profile")
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option("--device", "device_name", required=True, help="Device, as `layerclock devices` lists it.")
@click.option("--space", "space_name", help="Search space, such as ofa-mobilenetv3 or ofa-mobilenetv3:resolution=128.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of the campaign; for a model, runs/<its name> unless told otherwise.")  # fmt: skip
@click.option("--networks", default=40, show_default=True, help="Sub-networks to profile kernel by kernel.")
@click.option("--holdout", default=10, show_default=True, help="Further sub-networks, timed end to end only: the truth for `evaluate`.")
@click.option("--budget", "budget_s", type=_Duration(), help="Measure until every layer is steady or this time is spent: 90s, 10m, 1h.")
@click.option("--rounds", type=click.IntRange(min=2), help="Rounds over all networks, without a budget.  [default: 4; models: 6]")
@click.option("--runs", type=click.IntRange(min=1), help="Undisturbed runs of each network in a round.  [default: 8; models: 10]")
@click.option("--threads", default=1, show_default=True, help="Threads of the runtime.")
@click.option("--batch", default=1, show_default=True, help="Batch of the networks.")
@click.option("--precision", default="float32", show_default=True, help="Element type that the runtime computes in.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A session option of the runtime; may be repeated.")
@click.option("--shape", "shapes", multiple=True, type=_Shape(), help="Shape of a model's input with free axes; may be repeated.")
@click.option(
    "--depth", default=2, show_default=True, type=click.IntRange(min=1), help="Parts of a module's path that name a model's layer."
)
@click.option("--limit", "limit_s", type=_Duration(), default=60.0, show_default="60s", help="What takes longer to answer failed.")
@click.option("--affinity", type=_Processors(), default=(), help="Processors that networks are bound to.")
@click.option("--retry-failed", is_flag=True, help="Try networks again that failed in an earlier sitting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice of networks.")
@click.option("--max-noise", type=click.FloatRange(min=0), default=0.1, show_default=True,
              help="Exit with 3 if the relative noise floor is above this.")  # fmt: skip
@json_option
@quiet_option
def command(
    models: tuple[Path, ...], device_name: str, space_name: str | None, folder: Path | None, networks: int, holdout: int,
    budget_s: float | None, rounds: int | None, runs: int | None, threads: int, batch: int, precision: str, options: tuple[str, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...], depth: int, limit_s: float, affinity: tuple[int, ...], retry_failed: bool,
    seed: int, max_noise: float, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure sub-networks of a space, or given ONNX models, into a latency table.

    The table is <folder>/table.parquet. Ctrl-C keeps what was measured; the same command goes on from there.

    \b
    Examples: layerclock profile --device openvino:CPU --space ofa-mobilenetv3 --budget 10m -o runs/x
              layerclock profile model.onnx --device onnxruntime:cpu
    """
    if bool(models) == bool(space_name):
        raise click.UsageError("give either --space or at least one MODEL.onnx")
    if models:
        _refuse_plan_options()
    device = open_device(device_name, DeviceOptions(threads, batch, precision, _pairs(options)))
    with progress_bar(quiet) as report:
        tell = _teller(device_name, report)
        if space_name:
            if folder is None:
                raise click.UsageError("-o names the folder of the campaign, for example -o runs/x")
            space = load_space(space_name)
            from layerclock.profiler.campaign import profile  # after the names are known to be right

            table = profile(
                device, space, folder, networks=networks, holdout=holdout, rounds=rounds or 4, runs=runs or 8, budget_s=budget_s, seed=seed,
                plan=_announced(space, networks, holdout, seed, quiet), limit_s=limit_s, affinity=affinity, retry_failed=retry_failed,
                progress=tell,
            )  # fmt: skip
        else:
            from layerclock.profiler.files import profile_files

            folder = folder or Path("runs") / models[0].stem
            table = profile_files(
                device, models, folder, shapes=dict(shapes), depth=depth, rounds=rounds or 6, runs=runs or 10, budget_s=budget_s,
                limit_s=limit_s, affinity=affinity, retry_failed=retry_failed, progress=tell,
            )  # fmt: skip
    path = folder / "table.parquet"
    if as_json:
        print_json(_summary(table, path) | (breakdown_json(table) if models else {}))
    else:
        if models:
            breakdown(table)
        _print_summary(table, path)
    if not table.noise_floor <= max_noise:
        raise TooNoisyError(
            f"the noise floor of {table.noise_floor:.1%} is above {max_noise:.1%}; the table is written nevertheless",
            f"stop other work on this machine, or run the same command with more --rounds or --budget; see: layerclock table check {path}",
        )


def _refuse_plan_options() -> None:
    """What chooses sub-networks of a space has no meaning for given models. Raises a usage error."""
    context = click.get_current_context()
    for name in ("networks", "holdout", "seed"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} chooses sub-networks of a --space; given models are measured as they are")


def _announced(space: SearchSpace, networks: int, holdout: int, seed: int, quiet: bool) -> Plan | None:
    """The plan, told before it is carried out; None for numbers that make no plan, which the campaign refuses."""
    from layerclock.profiler.plan import make_plan

    if networks < 1 or holdout < 0:
        return None
    index = SiteIndex.of(space)
    plan = make_plan(index, networks, holdout, seed)
    counts = plan.coverage(index)
    if not quiet:
        click.echo(
            f"plan: {len(plan.profiled)} networks to profile, {len(plan.holdout)} held out; of {len(counts)} distinct layers "
            f"{int((counts > 0).sum())} are covered, each at least {int(counts.min())} times",
            err=True,
        )
    return plan


def _teller(device: str, report: Callable[[str, int, int, float], None]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        noise = "" if math.isnan(progress.noise) else f", +-{progress.noise:.1%}"
        coverage = f" ({progress.covered}/{progress.layers} layers{noise})"
        report(f"{device} {progress.stage}{coverage}", progress.done, progress.total, progress.left_s)

    return tell


def _summary(table: LatencyTable, path: Path) -> dict[str, object]:
    return {
        "table": str(path),
        "target": str(table.target),
        "rows": {level: table.level(level).num_rows for level in ("layer", "kernel", "network")},
        "layers_of_the_space": int(table.coverage["layers_of_the_space"]),
        "failed_networks": table.level("network")["status"].to_pylist().count("failed"),
        "noise_floor": table.noise_floor,
        "additivity": dict(table.additivity),
        "interference": dict(table.interference),
        "ceilings": dict(table.ceilings),
    }


def _print_summary(table: LatencyTable, path: Path) -> None:
    from layerclock.datasets.check import check_table

    counts = {level: table.level(level).num_rows for level in ("layer", "kernel", "network")}
    broken = [finding for finding in check_table(table) if not finding.kept]
    rows = [
        *((f"{level}s", str(count)) for level, count in counts.items()),
        ("of the space's layers", f"{counts['layer']} of {table.coverage['layers_of_the_space']:.0f}"),
        ("networks that failed", str(table.level("network")["status"].to_pylist().count("failed"))),
        ("noise floor", f"{table.noise_floor:.2%}"),
        ("layer sum / end to end", f"{table.additivity['median']:.3f}"),
        *(("runs undisturbed", f"{share:.0%}") for name, share in table.interference.items() if name == "undisturbed_share"),
        ("verdict", "; ".join(f"NOT: {finding.rule} ({finding.detail})" for finding in broken if finding.serious) or "to be trusted"),
        ("table", str(path)),
    ]
    print_table(str(table.target), ("", ""), rows)


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise ArgumentError(f"--option {option!r} is not KEY=VALUE", "for example --option ENABLE_CPU_PINNING=NO")
        pairs[key] = value
    return pairs
