"""``layerclock quickstart``: the whole way on this machine, with real runtimes and measured accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import TYPE_CHECKING

import click
import numpy as np

from layerclock.atomic import make_folder
from layerclock.cli.output import Report, print_table, progress_bar, quiet_option
from layerclock.cli.search import progress_teller
from layerclock.errors import DeviceUnavailableError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import find_devices, open_device
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.predictors.evaluate import Evaluation
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.search.result import SearchResult
    from layerclock.search.supernet.evaluator import SupernetEvaluator

_DEVICES = ("onnxruntime:cpu", "openvino:CPU")
_PROFILED, _HOLDOUT, _ROUNDS, _RUNS = 20, 16, 6, 8
# What takes long on a slow or busy machine is cut to fit: (seconds, fewest, most).
_SEARCH_BUDGET = (30.0, 24, 80)
_COMPARED, _ALONE_BUDGET = 4, (45.0, 15, 80)
_MEASURED_FRONT = 8
# Above this noise floor the errors are rather the machine's than the predictor's.
_BUSY = 0.05


@dataclass(frozen=True, slots=True)
class _Fitted:
    """What one device gave."""

    table: LatencyTable
    predictor: OnnxPredictor
    evaluations: dict[str, Evaluation]


@click.command("quickstart")
@click.option("-o", "--output", "folder", default="runs/quickstart", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for everything that is made.")  # fmt: skip
@click.option("--train-seconds", default=90.0, show_default=True, help="Time to train the super-network.")
@click.option("--threads", default=1, show_default=True, help="Threads of the runtimes that are profiled.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@quiet_option
def command(folder: Path, train_seconds: float, threads: int, seed: int, quiet: bool) -> None:
    """The whole way on this machine, in a few minutes.

    Trains a small super-network on scikit-learn's digits, profiles its sub-networks on ONNX Runtime and OpenVINO, fits
    predictors, judges them on networks that they never saw, searches, and measures what was found.

    Example: layerclock quickstart -o runs/quickstart
    """
    start = monotonic()
    make_folder(folder)
    _list_devices()
    with progress_bar(quiet) as report:
        evaluator = _train(folder, train_seconds, seed, report)
        fitted = {name: _profile_and_fit(name, folder, threads, seed, report) for name in _DEVICES}
        _show_accuracy(fitted)
        for name, one in fitted.items():
            result = _search(name, one, evaluator, folder, seed, report)
            _measure_front(name, one, result, evaluator, folder, threads, report)
    _show_files(folder, monotonic() - start)


def _folder(folder: Path, device: str) -> Path:
    return folder / device.replace(":", "-")


def _list_devices() -> None:
    found = find_devices()
    print_table("Devices on this machine", ("", ""), [(e.name, e.description if e.available else f"{e.reason}; {e.hint}") for e in found])
    available = {entry.name for entry in found if entry.available}
    for name in _DEVICES:
        if name not in available:
            raise DeviceUnavailableError(f"quickstart needs {name}, which is not available", "pip install 'layerclock[all]'")


def _train(folder: Path, seconds: float, seed: int, report: Report) -> SupernetEvaluator:
    from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3
    from layerclock.search.supernet.checkpoint import save_supernet
    from layerclock.search.supernet.digits import load_digits_data
    from layerclock.search.supernet.evaluator import SupernetEvaluator, rank_agreement
    from layerclock.search.supernet.training import train_alone, train_supernet

    space = digits_mobilenetv3()
    data = load_digits_data(space.resolution)
    start = monotonic()
    supernet = train_supernet(space, data, budget_s=seconds, seed=seed, progress=_percent(report, "train the super-network"))
    save_supernet(supernet, folder / "supernet.safetensors")
    evaluator = SupernetEvaluator(supernet, data)
    index = SiteIndex.of(space)
    genomes = sample(index, 200, np.random.default_rng(seed))
    by_size = genomes[np.argsort(index.macs(genomes))]
    compared = by_size[np.linspace(0, len(by_size) - 1, _COMPARED).astype(int)]
    trained_s = monotonic() - start
    step_s = _seconds(lambda: train_alone(space, compared[-1], data, steps=4)) / 4
    steps = _affordable(_ALONE_BUDGET, step_s * _COMPARED)
    agreement = rank_agreement(evaluator, compared, steps, seed, _percent(report, "train some sub-networks alone"))
    rows = [
        (f"{macs / 1e6:.2f} M", f"{inherited:.1f} %", f"{alone:.1f} %")
        for macs, inherited, alone in zip(index.macs(compared), agreement.inherited_percent, agreement.alone_percent, strict=True)
    ]
    click.echo()
    print_table(
        f"Super-network trained in {trained_s:.0f} s: accuracy with inherited weights and trained alone ({steps} steps)",
        ("MACs", "inherited", "alone"), rows,
    )  # fmt: skip
    click.echo(f"Kendall tau of the two orders, over {_COMPARED} networks: {agreement.tau:.2f}")
    return evaluator


def _seconds(work: Callable[[], object]) -> float:
    start = monotonic()
    work()
    return monotonic() - start


def _affordable(budget: tuple[float, int, int], cost_s: float) -> int:
    """How many things of ``cost_s`` seconds fit into a budget of (seconds, fewest, most)."""
    seconds, fewest, most = budget
    return max(fewest, min(most, int(seconds / cost_s)))


def _percent(report: Report, stage: str) -> Callable[[float, str], None]:
    """A training's progress, in percent and with the time left at the pace so far."""
    start = monotonic()

    def tell(done: float, _: str) -> None:
        left_s = (monotonic() - start) / done * (1 - done) if done > 0 else float("nan")
        report(stage, round(100 * done), 100, left_s)

    return tell


def _profile_and_fit(name: str, folder: Path, threads: int, seed: int, report: Report) -> _Fitted:
    from layerclock.predictors.evaluate import evaluate
    from layerclock.predictors.fitting import fit
    from layerclock.profiler.campaign import profile
    from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3

    own = _folder(folder, name)
    table = profile(
        open_device(name, DeviceOptions(threads=threads)), digits_mobilenetv3(), own, networks=_PROFILED, holdout=_HOLDOUT,
        rounds=_ROUNDS, runs=_RUNS, seed=seed, progress=lambda p: report(f"{name} {p.stage}", p.done, p.total, p.left_s),
    )  # fmt: skip
    predictors = {kind: fit(table, kind=kind) for kind in ("layerwise", "endtoend")}
    for kind, predictor in predictors.items():
        predictor.save(own / f"{kind}.onnx")
    evaluations = {kind: evaluate(predictor, table) for kind, predictor in predictors.items()}
    return _Fitted(table, predictors["layerwise"], evaluations)


def _show_accuracy(fitted: dict[str, _Fitted]) -> None:
    rows = [
        (name.split(":")[0], kind, f"{e.mean_error:.1%}", f"{e.noise_floor:.1%}", f"{e.largest_error:.1%}", f"{e.spearman:.2f}",
         f"{e.interval_coverage:.0%}")
        for name, one in fitted.items()
        for kind, e in one.evaluations.items()
    ]  # fmt: skip
    click.echo()
    print_table(
        f"Predictors fitted on {_PROFILED} networks, judged on {_HOLDOUT} that they never saw",
        ("runtime", "predictor", "mean error", "noise floor", "largest", "Spearman", "in 90 % interval"), rows,
    )  # fmt: skip
    if max(one.table.noise_floor for one in fitted.values()) > _BUSY:
        click.echo("This machine was busy: errors near the noise floor say nothing of the predictor. Try again when it is quiet.")


def _search(name: str, fitted: _Fitted, evaluator: SupernetEvaluator, folder: Path, seed: int, report: Report) -> SearchResult:
    from layerclock.search.loop import pareto_search
    from layerclock.search.objective import accuracy_objective, latency_objective

    objectives = [latency_objective(fitted.predictor), accuracy_objective(evaluator)]
    # A budget that excludes the slower half of the space, to show a constraint at work.
    limit_ms = float(np.median(fitted.table.networks("holdout").latency_ms))
    probe = sample(SiteIndex.of(evaluator.space), 2, np.random.default_rng([seed, len(name)]))
    evaluations = _affordable(_SEARCH_BUDGET, _seconds(lambda: evaluator.evaluate(probe)) / len(probe))
    result = pareto_search(
        evaluator.space, objectives, [f"latency_ms<={limit_ms:.4g}"], evaluations=evaluations, seed=seed,
        progress=progress_teller(report, f"{name} search"),
    )  # fmt: skip
    result.write(_folder(folder, name) / "search")
    return result


def _measure_front(
    name: str, fitted: _Fitted, result: SearchResult, evaluator: SupernetEvaluator, folder: Path, threads: int, report: Report
) -> None:
    from layerclock.profiler.campaign import profile
    from layerclock.profiler.plan import Plan
    from layerclock.search.supernet.evaluator import SupernetEvaluator

    front = result.pareto()
    front = front[np.unique(np.linspace(0, len(front) - 1, _MEASURED_FRONT).astype(int))]
    genomes = result.genomes[front]
    measured_again = _folder(folder, name) / "front"
    # The search was made anew, and an earlier quickstart's front is another one: a campaign would refuse its folder.
    rmtree(measured_again, ignore_errors=True)
    table = profile(
        open_device(name, DeviceOptions(threads=threads)), evaluator.space, measured_again, rounds=_ROUNDS, runs=_RUNS,
        plan=Plan(genomes, genomes[:0]), progress=lambda p: report(f"{name} front: {p.stage}", p.done, p.total, p.left_s),
    )  # fmt: skip
    measured = dict(zip(map(tuple, table.networks().genomes.tolist()), table.networks().latency_ms, strict=True))
    predictions = fitted.predictor.predict(genomes)
    test = SupernetEvaluator(evaluator.supernet, evaluator.data, "test").evaluate(genomes)
    rows = []
    for position, genome in enumerate(genomes.tolist()):
        taken = measured.get(tuple(genome), float("nan"))
        predicted, low, high = (float(values[position]) for values in (predictions.latency_ms, predictions.lower_ms, predictions.upper_ms))
        rows.append(
            (f"{predicted:.3f}", f"{low:.3f} .. {high:.3f}", f"{taken:.3f}", f"{taken / predicted - 1:+.1%}",
             f"{result.values[front[position], 1]:.1f} %", f"{test[position]:.1f} %")
        )  # fmt: skip
    click.echo()
    print_table(
        f"{name}: the front of {len(result)} evaluations, {result.constraints[0]}, measured again",
        ("predicted ms", "90 % interval", "measured ms", "off", "validation", "test"), rows,
    )  # fmt: skip


def _show_files(folder: Path, seconds: float) -> None:
    click.echo()
    rows = [("super-network", str(folder / "supernet.safetensors"))]
    for name in _DEVICES:
        own = _folder(folder, name)
        rows += [(f"{name} table", str(own / "table.parquet")), ("  predictors", f"{own}/layerwise.onnx, endtoend.onnx")]
        rows += [("  search", f"{own}/search/pareto.csv"), ("  front measured", str(own / "front/table.parquet"))]
    print_table("Files", ("", ""), rows)
    click.echo(f"\ndone in {seconds:.0f} s; next: layerclock table show {_folder(folder, _DEVICES[0]) / 'table.parquet'}")
