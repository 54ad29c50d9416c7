"""``layerclock profile``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from layerclock.cli.breakdown import breakdown, breakdown_json
from layerclock.cli.fleet_options import fleet_choice, fleet_options
from layerclock.cli.options import Duration, Processors, Shape
from layerclock.cli.output import json_option, print_json, print_table, progress_bar, quiet_option, told
from layerclock.cli.precision_loss import accuracy_figures, fallback_figures
from layerclock.cli.profile_fleet import profile_on_fleet, progress_teller
from layerclock.cli.trust import broken_rules
from layerclock.errors import ArgumentError, TooNoisyError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import load_evaluator, load_space, open_device
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, SearchSpace
    from layerclock.profiler.plan import Plan
    from layerclock.profiler.progress import Progress


@click.command("profile")
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option("--device", "device_names", required=True, multiple=True,
              help="Device, as `layerclock devices` lists it; on a fleet it may be repeated.")  # fmt: skip
@click.option("--space", "space_name", help="Search space, such as ofa-mobilenetv3 or ofa-mobilenetv3:resolution=128.")
@click.option("--composites", is_flag=True, help="Networks made to show the runtime's kernels: what a kernel-wise predictor learns from.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of the campaign; for a model, runs/<its name> unless told otherwise.")  # fmt: skip
@click.option("--networks", default=40, show_default=True, help="Sub-networks to profile kernel by kernel.")
@click.option("--holdout", default=10, show_default=True, help="Further sub-networks, timed end to end only: the truth for `evaluate`.")
@click.option("--calibration", default=20, show_default=True, help="As many again, on which predictors' intervals are calibrated.")
@click.option("--budget", "budget_s", type=Duration(), help="Measure until every layer is steady or this time is spent: 90s, 10m, 1h.")
@click.option("--rounds", type=click.IntRange(min=2), help="Rounds over all networks, without a budget.  [default: 8]")
@click.option("--runs", type=click.IntRange(min=1), help="Undisturbed runs of each network in a round.  [default: 8; models: 10]")
@click.option("--threads", default=1, show_default=True, help="Threads of the runtime.")
@click.option("--batch", default=1, show_default=True, help="Batch of the networks.")
@click.option("--precision", default="float32", show_default=True, help="What the runtime computes in: fp32, bf16, fp16 or int8.")
@click.option("--inputs", "inputs", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE.npz",
              help="Real inputs by name, for quantising; some spaces have their own.")  # fmt: skip
@click.option("--accuracy", "evaluator", metavar="EVALUATOR",
              help="Judge four of the networks on the device and in float32, for example by digits-supernet.")  # fmt: skip
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A session option of the runtime; may be repeated.")
@click.option("--shape", "shapes", multiple=True, type=Shape(), help="Shape of a model's input with free axes; may be repeated.")
@click.option(
    "--depth", default=2, show_default=True, type=click.IntRange(min=1), help="Parts of a module's path that name a model's layer."
)
@click.option("--limit", "limit_s", type=Duration(), default=60.0, show_default="60s", help="What takes longer to answer failed.")
@click.option("--affinity", type=Processors(), default=(), help="Processors that networks are bound to.")
@click.option("--retry-failed", is_flag=True, help="Try networks again that failed in an earlier sitting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the choice of networks.")
@click.option("--max-noise", type=click.FloatRange(min=0), default=0.1, show_default=True,
              help="Exit with 3 if the relative noise floor is above this.")  # fmt: skip
@click.option("--licence", default="", help="Under which others may use the table, such as CC-BY-4.0; a published table should have one.")
@fleet_options
@click.option("--board", "boards", multiple=True, help="On a fleet, measure only on the board of this name; may be repeated.")
@json_option
@quiet_option
def command(
    models: tuple[Path, ...], device_names: tuple[str, ...], space_name: str | None, composites: bool, folder: Path | None,
    networks: int, holdout: int, calibration: int, budget_s: float | None, rounds: int | None, runs: int | None, threads: int,
    batch: int, precision: str, inputs: Path | None, evaluator: str | None, options: tuple[str, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...], depth: int, limit_s: float, affinity: tuple[int, ...], retry_failed: bool, seed: int,
    max_noise: float, licence: str, boards: tuple[str, ...], as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure sub-networks of a space, given ONNX models, or composite networks into a latency table.

    The table is <folder>/table.parquet. Ctrl-C keeps what was measured; the same command goes on from there. With --fleet the boards that
    hold the device measure; several devices then get a folder each in <folder>, and are measured at the same time.

    \b
    Examples: layerclock profile --device openvino:CPU --space ofa-mobilenetv3 --budget 10m -o runs/x
              layerclock profile model.onnx --device onnxruntime:cpu
              layerclock profile --device onnxruntime:cpu --composites --budget 15m -o runs/kernels
              layerclock profile --fleet tls://lab:8786 --device openvino:CPU --space bert -o runs/b
    """
    if [bool(models), bool(space_name), composites].count(True) != 1:
        raise click.UsageError("give one of --space, --composites and at least one MODEL.onnx")
    if models:
        _refuse(_NOT_FOR_MODELS, "given models: they are measured as they are")
    if space_name:
        _refuse(_NOT_FOR_SPACES, "the networks of a space: they have its inputs and layers")
    if budget_s is not None:
        _refuse(("rounds",), "a --budget: there are as many as fit")
    if composites:
        _refuse(_NOT_FOR_COMPOSITES, "composites: --budget says how many are measured")
    if folder is None and not models:
        raise click.UsageError("-o names the folder of the campaign, for example -o runs/x")
    folder = folder or Path("runs") / models[0].stem
    if evaluator and not space_name:
        raise click.UsageError("--accuracy judges networks of a --space")
    if evaluator and any(name.startswith("torch:") for name in device_names):
        raise click.UsageError("--accuracy is not for torch's devices: they run networks with weights of their own")
    if evaluator:
        load_evaluator(evaluator)  # before minutes are spent on measuring
    options_of_device = DeviceOptions(threads, batch, precision, _pairs(options))
    if options_of_device.precision != "int8":
        _refuse(("inputs",), f"{options_of_device.precision}: only --precision int8 looks at them")
    space = load_space(space_name) if space_name else None
    plan = _announced(space, networks, holdout, calibration, seed, quiet) if space else None

    def measured(device: Device, own: Path, tell: Callable[[Progress], None]) -> LatencyTable:
        if space:
            from layerclock.profiler.campaign import profile  # after the names are known to be right

            return profile(
                device, space, own, networks=networks, holdout=holdout, calibration=calibration, rounds=rounds or 8, runs=runs or 8,
                budget_s=budget_s, seed=seed, plan=plan, limit_s=limit_s, affinity=affinity, retry_failed=retry_failed,
                calibration_inputs=inputs, progress=tell,
            )  # fmt: skip
        if composites:
            return _profile_composites(device, own, budget_s or 900.0, runs or 6, seed, limit_s, affinity, retry_failed, tell)
        from layerclock.profiler.files import profile_files

        return profile_files(
            device, models, own, shapes=dict(shapes), depth=depth, rounds=rounds or 8, runs=runs or 10, budget_s=budget_s,
            limit_s=limit_s, affinity=affinity, retry_failed=retry_failed, calibration_inputs=inputs, progress=tell,
        )  # fmt: skip

    more: dict[str, float] = {}
    if fleet := fleet_choice():
        if evaluator:
            raise click.UsageError("--accuracy is for devices of this machine")
        tables = profile_on_fleet(fleet, device_names, options_of_device, boards, folder, measured, quiet)
    elif len(device_names) > 1 or boards:
        raise click.UsageError("several --device, and --board, are for a --fleet; here measure one device after the other")
    else:
        device = open_device(device_names[0], options_of_device)
        with progress_bar(quiet) as report:
            tables = {folder: measured(device, folder, progress_teller(device_names[0], report))}
        more |= fallback_figures(tables[folder])
        if evaluator and space:
            more |= accuracy_figures(device, space, evaluator, tables[folder])
    paths = {own / "table.parquet": table for own, table in tables.items()}
    if licence:
        paths = {path: replace(table, provenance=replace(table.provenance, licence=licence)) for path, table in paths.items()}
        for path, table in paths.items():
            table.write(path)
    if as_json:
        summaries = [_summary(table, path) | more | (breakdown_json(table) if models else {}) for path, table in paths.items()]
        print_json(summaries[0] if len(device_names) == 1 else summaries)
    else:
        for path, table in paths.items():
            if models:
                breakdown(table)
            _print_summary(table, path, more)
    for path, table in paths.items():
        if not table.noise_floor <= max_noise:
            said = (
                f"of {table.noise_floor:.1%} is above {max_noise:.1%}" if table.noise_floor > max_noise else "is not known: too few rounds"
            )
            raise TooNoisyError(
                f"the noise floor {said}; the table is written nevertheless",
                f"stop other work on the machine that measures, or run the same command with more --rounds or --budget; see: "
                f"layerclock table check {path}",
            )


def _profile_composites(
    device: Device, folder: Path, budget_s: float, runs: int, seed: int, limit_s: float, affinity: tuple[int, ...], retry_failed: bool,
    tell: Callable[[Progress], None],
) -> LatencyTable:  # fmt: skip
    from layerclock.predictors.kernelwise import errors_by_gene
    from layerclock.profiler.composite_campaign import profile_composites

    def errors(table: LatencyTable) -> dict[str, float]:
        return errors_by_gene(table, "theme")

    return profile_composites(
        device, folder, budget_s=budget_s, runs=runs, seed=seed, limit_s=limit_s, affinity=affinity, retry_failed=retry_failed,
        errors=errors, progress=tell,
    )  # fmt: skip


# Options that say nothing about given models, about a space, or about composites.
_NOT_FOR_MODELS = ("networks", "holdout", "calibration", "seed")
_NOT_FOR_SPACES = ("shapes", "depth")
_NOT_FOR_COMPOSITES = ("networks", "holdout", "calibration", "rounds", "inputs", "shapes", "depth")


def _refuse(names: tuple[str, ...], what: str) -> None:
    """Raise a usage error for an option that was given and says nothing here."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.removesuffix('s') if name == 'shapes' else name} says nothing about {what}")


def _announced(space: SearchSpace, networks: int, holdout: int, calibration: int, seed: int, quiet: bool) -> Plan | None:
    """The plan, told before it is carried out; None for numbers that make no plan, which the campaign refuses."""
    from layerclock.profiler.plan import make_plan

    if networks < 1 or holdout < 0 or calibration < 0:
        return None
    index = SiteIndex.of(space)
    plan = make_plan(index, networks, holdout, seed, calibration)
    counts = plan.coverage(index)
    if not quiet:
        click.echo(
            f"plan: {len(plan.profiled)} networks to profile, {len(plan.holdout)} held out, {len(plan.calibration)} for intervals; of "
            f"{len(counts)} distinct layers "
            f"{int((counts > 0).sum())} are covered, each at least {int(counts.min())} times",
            err=True,
        )
    return plan


def _summary(table: LatencyTable, path: Path) -> dict[str, object]:
    return {
        "table": str(path),
        "target": str(table.target),
        "rows": {level: table.level(level).num_rows for level in ("layer", "kernel", "network")},
        "layers_of_the_space": int(table.coverage["layers_of_the_space"]),
        "failed_networks": len(table.failures()),
        "noise_floor": table.noise_floor,
        "additivity": dict(table.additivity),
        "interference": dict(table.interference),
        "ceilings": dict(table.ceilings),
    }


def _print_summary(table: LatencyTable, path: Path, more: dict[str, float]) -> None:
    counts = {level: table.level(level).num_rows for level in ("layer", "kernel", "network")}
    rows = [
        *((f"{level}s", str(count)) for level, count in counts.items()),
        ("of the space's layers", f"{counts['layer']} of {table.coverage['layers_of_the_space']:.0f}"),
        ("networks that failed", str(len(table.failures()))),
        ("noise floor", told(table.noise_floor, ".2%")),
        ("layer sum / end to end", told(table.additivity["median"], ".3f")),
        *(("runs undisturbed", f"{share:.0%}") for name, share in table.interference.items() if name == "undisturbed_share"),
        ("verdict", "; ".join(f"NOT: {rule}" for rule in broken_rules(table)) or "to be trusted"),
        *((name.replace("_", " "), f"{value:g}") for name, value in more.items()),
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
