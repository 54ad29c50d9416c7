"""``layerclock coexplore``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from layerclock.atomic import make_folder, write_atomically
from layerclock.cli.objectives import HELP, parse_objectives
from layerclock.cli.output import json_option, print_json, print_table, progress_bar, quiet_option
from layerclock.cli.search import progress_teller
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.search.coexplore.fixed_designs import Gain
    from layerclock.search.coexplore.problem import Coexploration
    from layerclock.search.objective import Objective
    from layerclock.search.result import SearchResult

_MEASURES = {"throughput": "throughput_per_s", "energy": "energy_mj", "latency": "latency_ms"}
_SHOWN = 12


@click.command("coexplore")
@click.option("--space", "space_name", required=True, help="Search space of networks.")
@click.option("--hardware", "hardware", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="YAML file of a space of designs, such as examples/fpga-pipeline.yaml.")  # fmt: skip
@click.option("--objective", "objectives", multiple=True, required=True, metavar="KIND[:WHAT]",
              help="throughput, energy, latency, cycles, utilisation, or a resource (dsp, bram, port_bits; multipliers, sram_kb, "
              f"dram_bits); of the network: {HELP} One or more.")  # fmt: skip
@click.option(
    "--metric", "metrics", multiple=True, metavar="KIND:WHAT", help="An objective of the network that is recorded and constrained only."
)
@click.option("--constraint", "constraints", multiple=True,
              help='The specification, such as "throughput_per_s>=500", "energy_mj<=3", "dsp<=1200", "top1_percent>=93".')  # fmt: skip
@click.option("--algorithm", default="two-level", show_default=True, help="two-level, or one of `layerclock search`.")
@click.option("--evaluations", default=200, show_default=True, help="Pairs that meet the specification to evaluate.")
@click.option("--population", type=int, help="Size of a batch; by default a tenth of the evaluations, between 10 and 50.")
@click.option("--fixed", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="YAML file of a design to compare with; by default the middle of the space.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed: one seed gives one result.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the result.")
@json_option
@quiet_option
def command(
    space_name: str, hardware: Path, objectives: tuple[str, ...], metrics: tuple[str, ...], constraints: tuple[str, ...], algorithm: str,
    evaluations: int, population: int | None, fixed: Path | None, seed: int, folder: Path, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Search networks and the accelerators that run them together.

    Writes evaluations.parquet, pareto.csv, pareto.json, pareto.svg, a design a pair of the front as designs/EVALUATION.yaml (a device:
    sim:fpga-tiling@FILE), and report.json: what is gained over fixed designs. Interrupted, it goes on when called again.

    Example: layerclock coexplore --space nas-bench-201 --hardware examples/fpga-pipeline.yaml
    --objective accuracy:nb201-results:path=FOLDER --objective throughput --objective energy -o runs/c1
    """
    from layerclock.devices.accelerators.pair_costs import accelerator_designs
    from layerclock.search.coexplore.problem import Coexploration
    from layerclock.search.infeasible import nothing_feasible

    space = load_space(space_name)
    wanted = [_MEASURES.get(text, text) for text in objectives]
    beside = _of_networks([text for text in (*wanted, *metrics) if _of_network(text)], space, folder)
    problem = Coexploration(
        space,
        accelerator_designs(hardware, space),
        [beside.get(text, text) for text in wanted],
        constraints,
        [beside[text] for text in metrics],
    )
    search = problem.search(algorithm, evaluations, population, seed, folder=folder)
    with progress_bar(quiet) as report:
        tell = progress_teller(report, "coexplore")
        while not search.stopped:
            search.step(tell)
    result = search.result()
    if not result.feasible.any():
        raise nothing_feasible(result, search.record)
    _write_designs(problem, result, folder)
    document = _report(problem, result, fixed, folder)
    write_atomically(folder / "report.json", lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))
    if as_json:
        print_json(document)
        return
    _print(result, document)
    click.echo(f"{folder / 'pareto.csv'}, pareto.json, pareto.svg, evaluations.parquet, report.json, designs/")


def _of_network(text: str) -> bool:
    """Whether an objective is one of the network alone, in the words of ``layerclock search``."""
    return ":" in text or text in ("macs", "params")


def _of_networks(texts: list[str], space: SearchSpace, folder: Path) -> dict[str, Objective]:
    """Objectives of networks by what the user wrote. Even those that train nothing are asked last, for networks that fit only."""
    made = parse_objectives(texts, space, SiteIndex.of(space), folder)
    return {text: replace(one, cheap=one.cheap and not text.startswith("accuracy:")) for text, one in zip(texts, made, strict=True)}


def _write_designs(problem: Coexploration, result: SearchResult, folder: Path) -> None:
    make_folder(folder / "designs")
    for number in result.pareto().tolist():
        problem.space.designs.write(problem.space.split(result.genomes[number : number + 1])[1][0], folder / "designs" / f"{number}.yaml")


def _report(problem: Coexploration, result: SearchResult, fixed: Path | None, folder: Path) -> dict[str, Any]:
    """What the search did and what it gains, for JSON."""
    networks = len(np.unique(problem.space.split(result.genomes)[0], axis=0))
    return {
        "folder": str(folder),
        "space": problem.space.name,
        "algorithm": result.algorithm,
        "seed": result.seed,
        "evaluations": len(result),
        "stopped": result.stopped,
        "networks_evaluated": networks,
        "fast_level": {**asdict(problem.fast.tally), "asked": problem.fast.tally.asked},
        "pareto": [_pair(problem, result, number, folder) for number in result.pareto().tolist()],
        "gains": [gain.as_dict() for gain in _gains(problem, result, fixed)],
    }


def _pair(problem: Coexploration, result: SearchResult, number: int, folder: Path) -> dict[str, Any]:
    values = {one.name: float(value) for one, value in zip(result.measures, result.measured[number], strict=True)}
    config = result.config(number)
    design = {gene.name for gene in problem.space.designs.genes}
    return {
        "evaluation": number,
        **{name: value for name, value in values.items() if name != "shortfall"},
        "feasible": bool(result.feasible[number]),
        "network": {name: value for name, value in config.items() if name not in design},
        "design": {name: value for name, value in config.items() if name in design},
        "design_file": str(folder / "designs" / f"{number}.yaml"),
    }


def _gains(problem: Coexploration, result: SearchResult, fixed: Path | None) -> list[Gain]:
    """At the accuracy that was asked for, or at three accuracies of the front."""
    from layerclock.devices.accelerators.pair_costs import accelerator_designs
    from layerclock.search.coexplore.fixed_designs import FixedDesign, gains, middle_design

    hardware = [one.name for one in result.objectives if one.name not in problem.judged]
    accuracy = next((name for name, judged in problem.judged.items() if judged.objective.maximise), None)
    levels: list[float] = []
    if accuracy is not None:
        asked = [one.limit for one in result.constraints if one.name == accuracy and one.operator == ">=" and not one.soft]
        values = result.measured[result.pareto(), [one.name for one in result.measures].index(accuracy)]
        levels = asked or np.unique(np.quantile(values, [0.5, 0.75, 1.0], method="lower")).tolist()
    if fixed is None:
        designs = problem.space.designs
        chosen = FixedDesign("the middle of the space", designs, middle_design(designs))
    else:
        chosen = FixedDesign(str(fixed), accelerator_designs(fixed, problem.space.networks), np.zeros(0, dtype=np.int64))
    return gains(problem, result, hardware, accuracy, levels, [chosen])


def _print(result: SearchResult, document: dict[str, Any]) -> None:
    names = [one.name for one in result.objectives]
    names += [one.name for one in result.metrics if one.name not in ("shortfall", "latency_ms")]
    pairs = document["pareto"]
    title = f"{len(pairs)} Pareto-optimal of {len(result)} evaluated pairs of {document['networks_evaluated']} networks"
    print_table(title, ["pair", *names], [[one["evaluation"], *(f"{one[name]:.4g}" for name in names)] for one in pairs[:_SHOWN]])
    if len(pairs) > _SHOWN:
        click.echo(f"and {len(pairs) - _SHOWN} more")
    fast = document["fast_level"]
    click.echo(
        f"\nfast level: of {fast['asked']} pairs, {fast['unbuildable']} cannot be built, {fast['bound']} are beyond the bound, "
        f"{fast['model']} miss the specification; evaluated were {document['networks_evaluated']} networks"
    )
    rows = [
        [one["measure"], "any" if np.isnan(one["accuracy"]) else f"{one['accuracy']:.4g}", one["against"], f"{one['ours']:.4g}",
         f"{one['theirs']:.4g}", f"{one['percent']:+.1f} %"]
        for one in document["gains"]
    ]  # fmt: skip
    if rows:
        click.echo()
        print_table(
            "Against fixed designs with the best network for each that was evaluated",
            ["of", "at least", "design", "ours", "theirs", "gain"],
            rows,
        )
