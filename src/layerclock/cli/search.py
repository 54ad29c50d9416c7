"""``layerclock search``."""

from __future__ import annotations

import csv
import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from layerclock.atomic import write_atomically
from layerclock.cli.fleet_options import fleet_choice, fleet_options
from layerclock.cli.measured import Wishes, measure_networks, open_for_front
from layerclock.cli.objectives import HELP, is_of_generation, parse_objectives, word
from layerclock.cli.output import Report, json_option, print_json, print_table, progress_bar, quiet_option
from layerclock.errors import ArgumentError, LayerclockError, SearchError
from layerclock.plugins import load_space, plugin_names
from layerclock.search.saved_search import FRONT_MEASURED
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from layerclock.interfaces import Device, SearchSpace
    from layerclock.search.objective import FloatArray, Objective
    from layerclock.search.result import SearchResult
    from layerclock.space import GenomeArray

__all__ = ["naming_the_place", "progress_teller", "result_rows"]


@click.command("search")
@click.option("--space", "space_name", required=True, help="Search space.")
@click.option("--objective", "objectives", multiple=True, required=True, metavar="KIND[:WHAT]", help=f"{HELP} One or more.")
@click.option("--constraint", "constraints", multiple=True,
              help='Such as "latency_ms<=6", or "latency_ms<~6" for a soft one; predictions must hold with their intervals.')  # fmt: skip
@click.option("--algorithm", default="scout", show_default=True, help="One of: " + ", ".join(plugin_names("algorithms")) + ".")
@click.option("--evaluations", default=100, show_default=True, help="Distinct networks to evaluate.")
@click.option("--population", type=int, help="Size of a batch; by default a tenth of the evaluations, between 10 and 50.")
@click.option("--warm-start", "earlier", multiple=True, type=click.Path(path_type=Path, exists=True),
              help="Folder of an earlier search, of this space or another: begin with its front. May be repeated.")  # fmt: skip
@click.option("--reduce", is_flag=True, help="Search only the choices that are usual in the earlier searches' fronts.")
@click.option("--workers", type=click.IntRange(min=1),
              help="Networks to evaluate at the same time, in threads.  [default: 1; on a fleet as many as it takes]")  # fmt: skip
@click.option("--measure", "device", help="Measure the front on this device at the end, and hold it against the constraints.")
@click.option("--threads", type=click.IntRange(min=1),
              help="Of devices that measure.  [default: with --measure as the predictor of that device has them, else 1]")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Likewise.")
@click.option("--precision", help="Likewise: fp32, bf16, fp16 or int8.")
@click.option("--seed", default=0, show_default=True, help="Seed: one seed gives one result.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the result.")
@fleet_options
@json_option
@quiet_option
def command(
    space_name: str, objectives: tuple[str, ...], constraints: tuple[str, ...], algorithm: str, evaluations: int, population: int | None,
    earlier: tuple[Path, ...], reduce: bool, workers: int | None, device: str | None, threads: int | None, batch: int | None,
    precision: str | None, seed: int, folder: Path, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Search a space for the networks that no other beats in all objectives.

    Writes evaluations.parquet, pareto.csv, pareto.json and pareto.svg. Interrupted, it goes on when called again. With --fleet, accuracies
    are evaluated by the fleet's workers without devices.

    Example: layerclock search --space digits-mobilenetv3 --objective accuracy:digits-supernet
    --objective latency:cpu.onnx --constraint "latency_ms<=0.9" -o runs/s
    """
    from layerclock.search.loop import pareto_search

    if device and any(map(is_of_generation, objectives)):
        raise click.UsageError("--measure times one run of a network, and the latency of a generated sequence is that of many")
    space = load_space(space_name)
    index = SiteIndex.of(space)
    start, allowed = _earlier(earlier, reduce, index)
    wishes = Wishes(threads, batch, precision)
    with ExitStack() as stack:
        chosen, slots = _objectives(objectives, space, index, folder, wishes, stack)
        # Opened before the search, so that what is missing shows at once.
        front_device = open_for_front(device, wishes, [goal.target for goal in chosen if goal.target]) if device else None
        report = stack.enter_context(progress_bar(quiet))
        with naming_the_place(folder):
            result = pareto_search(
                space, chosen, constraints, evaluations, population, seed, progress_teller(report, "search"), algorithm=algorithm,
                start=start, allowed=allowed, workers=workers or slots, folder=folder,
            )  # fmt: skip
        measured = _measure(result, front_device, space, folder, report) if front_device else None
        if front_device is None:  # the numbers of evaluations may mean other networks now; the front's campaign keeps the times
            (folder / FRONT_MEASURED).unlink(missing_ok=True)
        met_as_measured = {} if measured is None or front_device is None else _verdicts(result, measured, front_device)
    strangers = _strangers(chosen, front_device) if front_device else {}
    if as_json:
        _print_json(result, folder, measured, met_as_measured, strangers)
        return
    columns, rows = result_rows(result)
    if measured is not None:
        columns, rows = [*columns, f"{device} ms"], [[*row, f"{value:.4g}"] for row, value in zip(rows, measured, strict=True)]
    print_table(f"{len(result.pareto())} Pareto-optimal of {len(result)} evaluated networks", columns, rows)
    if measured is not None:
        for limit, met in met_as_measured.items():
            click.echo(f"{limit}: {met} of {len(measured)} meet it as measured")
    for name, differing in strangers.items():
        told = ", ".join(f"{what} {there!r} there, {here!r} here" for what, (there, here) in differing.items())
        click.echo(f"{name} is for another target than was measured: {told}")
    click.echo(f"{folder / 'pareto.csv'}, pareto.json, pareto.svg, evaluations.parquet")


@contextmanager
def naming_the_place(folder: Path) -> Iterator[None]:
    """A defect, of an evaluator mostly, as one line: where it is, and that nothing is lost."""
    try:
        yield
    except LayerclockError:
        raise
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        raise SearchError(
            f"the search ended in {type(error).__name__}: {error} ({last.filename}, line {last.lineno})",
            f"what was evaluated is kept in {folder}: once that line is mended, the same command goes on",
        ) from error


def _objectives(
    texts: tuple[str, ...], space: SearchSpace, index: SiteIndex, folder: Path, wishes: Wishes, stack: ExitStack
) -> tuple[list[Objective], int]:
    """The objectives, and how many networks may be evaluated at the same time; a fleet stays connected as long as ``stack``."""
    fleet = fleet_choice()
    if fleet is None:
        return parse_objectives(texts, space, index, folder, wishes=wishes), 1
    if not any(text.startswith("accuracy:") for text in texts):
        raise click.UsageError("--fleet evaluates accuracies, and no --objective is one")
    from layerclock.profiler.fleet.evaluating import FleetEvaluator, evaluation_slots

    cluster = stack.enter_context(fleet.connect())
    chosen = parse_objectives(texts, space, index, folder, lambda name: FleetEvaluator(cluster, name, space), wishes)
    return chosen, evaluation_slots(cluster)


def result_rows(result: SearchResult) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the Pareto set for people: objective values, then depths or whatever genes are few."""
    columns = [objective.name for objective in result.objectives]
    front = result.pareto()
    sizes = {"macs": result.index.macs(result.genomes[front]), "params": result.index.params(result.genomes[front])}
    beside = [name for name in sizes if name not in columns]
    rows = []
    for position, number in enumerate(front):
        values = [f"{value:.4g}" for value in result.values[number]]
        rows.append([*values, *(f"{sizes[name][position] / 1e6:.3f} M" for name in beside)])
    return columns + beside, rows


def progress_teller(report: Report, label: str) -> Callable[[SearchResult], None]:
    """A progress callback for a search: evaluations, size of the front, hypervolume against the first batch's, and the time left."""
    start = monotonic()
    first: list[tuple[list[float], float]] = []

    def tell(result: SearchResult) -> None:
        done = len(result)
        left_s = (monotonic() - start) / done * (result.budget - done) if done else float("nan")
        if not first and done >= result.population and result.feasible.sum() > 1:
            reference = result.minimised[result.feasible].max(axis=0)
            signs = [-1.0 if goal.maximise else 1.0 for goal in result.objectives]
            limits = [sign * float(limit) for sign, limit in zip(signs, reference, strict=True)]
            first.append((limits, result.hypervolume(limits)))
        grown = f", {len(result.pareto())} on the front"
        if first and first[0][1] > 0:
            grown += f", hypervolume x{result.hypervolume(first[0][0]) / first[0][1]:.3f}"
        report(label + grown, done, result.budget, left_s)

    return tell


def _earlier(folders: tuple[Path, ...], reduce: bool, index: SiteIndex) -> tuple[GenomeArray | None, tuple[tuple[int, ...], ...] | None]:
    """The networks to begin with, and the choices to search, from the fronts of earlier searches."""
    if not folders:
        if reduce:
            raise ArgumentError("--reduce needs earlier searches", "name their folders with --warm-start")
        return None, None
    from layerclock.search.result_files import read_pareto
    from layerclock.search.warm_start import common_choices, translate

    fronts = {folder: read_pareto(folder).configs for folder in folders}
    if empty := [folder for folder, configs in fronts.items() if not configs]:
        raise SearchError(f"the search in {empty[0]} found no network to start from", "give it more evaluations, or leave it out")
    genomes = translate([config for configs in fronts.values() for config in configs], index)
    return genomes, common_choices(index, genomes) if reduce else None


def _strangers(objectives: Sequence[Objective], device: Device) -> dict[str, dict[str, tuple[object, object]]]:
    """Latencies of this device, or, where there are none, of others, whose targets differ from its own, and in what: (theirs, its own)."""
    targets = {goal.name: goal.target for goal in objectives if goal.target}
    own = {name: target for name, target in targets.items() if target.device == device.target.device}
    if not own:
        return {name: {"device": (target.device, device.target.device)} for name, target in targets.items()}
    differing = {name: target.differences(device.target) for name, target in own.items()}
    return {name: fields for name, fields in differing.items() if fields}


def _measure(result: SearchResult, device: Device, space: SearchSpace, folder: Path, report: Report) -> FloatArray:
    front = result.pareto()
    own = folder / f"front-{word(device.target.id)}"
    latency_ms = measure_networks(
        device, space, result.genomes[front], own, lambda p: report(f"front: {p.stage}", p.done, p.total, p.left_s)
    )

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["evaluation", "genome", "device", "measured_latency_ms"])
            for number, value in zip(front.tolist(), latency_ms.tolist(), strict=True):
                writer.writerow([number, " ".join(map(str, result.genomes[number])), device.target.device, value])

    write_atomically(folder / FRONT_MEASURED, write)
    return latency_ms


def _verdicts(result: SearchResult, measured: FloatArray, device: Device) -> dict[str, int]:
    """For each constraint on a latency of the measured device, or of any where there are none: how many of the networks meet it."""
    latencies = [goal for goal in result.measures if goal.unit == "ms"]
    own = [goal for goal in latencies if goal.target and goal.target.device == device.target.device]
    names = {goal.name for goal in own or latencies}
    return {str(limit): int((limit.violation(measured) == 0).sum()) for limit in result.constraints if limit.name in names}


def _print_json(
    result: SearchResult, folder: Path, measured: FloatArray | None, met_as_measured: dict[str, int],
    strangers: dict[str, dict[str, tuple[object, object]]],
) -> None:  # fmt: skip
    networks = []
    for position, number in enumerate(result.pareto()):
        values = {goal.name: float(value) for goal, value in zip(result.objectives, result.values[number], strict=True)}
        taken = {} if measured is None else {"measured_latency_ms": float(measured[position])}
        networks.append({**values, **taken, "genome": result.genomes[number].tolist()})
    beside: dict[str, object] = {} if measured is None else {"met_as_measured": met_as_measured}
    if strangers:
        beside["other_targets"] = strangers
    print_json({"folder": str(folder), "evaluations": len(result), "stopped": result.stopped, "pareto": networks, **beside})
