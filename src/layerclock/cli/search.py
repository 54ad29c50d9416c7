"""``layerclock search``."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import Report, json_option, print_json, print_table, progress_bar, quiet_option
from layerclock.errors import ArgumentError, PredictorError
from layerclock.plugins import load_evaluator, load_space
from layerclock.search.objective import Objective, accuracy_objective, latency_objective, macs_objective, params_objective
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.interfaces import SearchSpace
    from layerclock.search.result import SearchResult

__all__ = ["progress_teller", "result_rows"]


@click.command("search")
@click.option("--space", "space_name", required=True, help="Search space.")
@click.option("--objective", "objectives", multiple=True, required=True, metavar="KIND[:WHAT]",
              help="accuracy:EVALUATOR, latency:PREDICTOR.onnx, macs or params; two or more.")  # fmt: skip
@click.option("--constraint", "constraints", multiple=True, help='Such as "latency_ms<=6"; may be repeated.')
@click.option("--evaluations", default=100, show_default=True, help="Distinct networks to evaluate.")
@click.option("--population", type=int, help="Population; by default a tenth of the evaluations, between 10 and 50.")
@click.option("--seed", default=0, show_default=True, help="Seed: one seed gives one result.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the result.")
@json_option
@quiet_option
def command(
    space_name: str, objectives: tuple[str, ...], constraints: tuple[str, ...], evaluations: int, population: int | None, seed: int,
    folder: Path, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Search a space for the networks that no other beats in all objectives.

    Writes evaluations.parquet, pareto.csv and pareto.json.

    Example: layerclock search --space digits-mobilenetv3 --objective accuracy:digits-supernet
    --objective latency:cpu.onnx --constraint "latency_ms<=0.9" -o runs/s
    """
    from layerclock.search.loop import pareto_search

    space = load_space(space_name)
    index = SiteIndex.of(space)
    chosen = [_objective(text, space, index) for text in objectives]
    with progress_bar(quiet) as report:
        result = pareto_search(space, chosen, constraints, evaluations, population, seed, progress_teller(report, "search"))
    result.write(folder)
    front = result.pareto()
    if as_json:
        networks = [
            {**{o.name: float(v) for o, v in zip(result.objectives, result.values[n], strict=True)}, "genome": result.genomes[n].tolist()}
            for n in front
        ]
        print_json({"folder": str(folder), "evaluations": len(result), "stopped": result.stopped, "pareto": networks})
        return
    print_table(f"{len(front)} Pareto-optimal of {len(result)} evaluated networks", *result_rows(result))
    click.echo(f"{folder / 'pareto.csv'}, pareto.json, evaluations.parquet")


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
    """A progress callback for a search that reports evaluations made and the time left at the pace so far."""
    start = monotonic()

    def tell(result: SearchResult) -> None:
        done = len(result)
        left_s = (monotonic() - start) / done * (result.budget - done) if done else float("nan")
        report(label, done, result.budget, left_s)

    return tell


def _objective(text: str, space: SearchSpace, index: SiteIndex) -> Objective:
    kind, _, what = text.partition(":")
    exact = {"macs": macs_objective, "params": params_objective}
    if kind in exact and not what:
        return exact[kind](index)
    if kind == "latency" and what:
        from layerclock.predictors.portable import load

        predictor = load(what)
        if predictor.card.space_digest != index.digest:
            raise PredictorError(
                f"{what} predicts networks of {predictor.card.space!r}, not of {space.name!r}", "search the predictor's space"
            )
        return latency_objective(predictor)
    if kind == "accuracy" and what:
        evaluator = load_evaluator(what)
        own = getattr(evaluator, "space", None)
        if own is not None and SiteIndex.of(own).digest != index.digest:
            raise ArgumentError(
                f"the evaluator {what!r} judges networks of {own.name!r}, not of {space.name!r}", "search the evaluator's space"
            )
        return accuracy_objective(evaluator)
    raise ArgumentError(f"--objective {text!r} is none", "accuracy:EVALUATOR, latency:PREDICTOR.onnx, macs or params")
