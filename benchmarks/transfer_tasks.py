"""Few-shot transfer of latency predictors to unseen devices: NASFLAT's twelve tasks, beside the published figures.

Protocol of Akhauri & Abdelfattah 2024 (arXiv:2403.02446): 20 networks of each unseen device, Spearman over all its others, mean
over the task's unseen devices, 5 seeds; other devices are known on a source sample (900 networks of NAS-Bench-201, 4,000 of
FBNet's) only. The default predictor, a Gaussian process over mixtures of covariances that chooses its networks itself, also with 5
and 10 networks; then other predictors and samplers. The seconds are those of one unseen device: learning from the others, choosing,
fitting, and predicting the whole space.

``python benchmarks/transfer_tasks.py [--quick]``, about an hour on two cores, most of it for the neural predictors (``--default-only``: ten
minutes). Needs LAYERCLOCK_DATA with nasflat_tasks.json, nasflat_published.csv, nb201_latency.parquet and fbnet_latency.parquet.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from report import finish
from threadpoolctl import threadpool_limits

from layerclock.predictors.transfer.baselines import BestSourceDevice, MacsLine, SourceRidge
from layerclock.predictors.transfer.gaussian import GaussianTransfer
from layerclock.predictors.transfer.samplers import SAMPLERS
from layerclock.predictors.transfer.tasks import EXPECTED_VARIANCE, read_tasks, run_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.predictors.transfer.problem import TransferModel
    from layerclock.predictors.transfer.tasks import Outcome

DEFAULT = "gaussian-process"


@dataclass(frozen=True)
class Job:
    """One draw of one task by one predictor, whose networks one sampler chose."""

    task: str
    model: str
    sampler: str
    samples: int
    seed: int


def _neural(name: str) -> TransferModel:
    from layerclock.predictors.neural.brpnas import BrpNas
    from layerclock.predictors.neural.nasflat import Nasflat

    return Nasflat() if name == "nasflat" else BrpNas()


MODELS: dict[str, Callable[[], TransferModel]] = {
    DEFAULT: GaussianTransfer,
    "macs": MacsLine,
    "best-source": BestSourceDevice,
    "source-ridge": SourceRidge,
    "brp-nas": lambda: _neural("brp-nas"),
    "nasflat": lambda: _neural("nasflat"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the default predictor, one seed, four tasks")
    parser.add_argument("--default-only", action="store_true", help="the default predictor only")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--other-seeds", type=int, default=1, help="of the other predictors and samplers")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    folder = os.environ.get("LAYERCLOCK_DATA")
    if not folder:
        sys.exit("set LAYERCLOCK_DATA to a folder with the tasks and latencies that the description names")
    published = _published(Path(folder) / "nasflat_published.csv")
    names = ["N1", "F1", "FA", "F4"] if arguments.quick else list(published)
    seeds = range(1 if arguments.quick else arguments.seeds)
    jobs = [
        Job(name, DEFAULT, EXPECTED_VARIANCE, samples, seed)
        for samples in ((20,) if arguments.quick else (20, 10, 5))
        for name in names
        for seed in seeds
    ]
    if not (arguments.quick or arguments.default_only):
        few = range(arguments.other_seeds)
        jobs += [Job(name, DEFAULT, sampler, 20, seed) for sampler in SAMPLERS for name in names for seed in few]
        jobs += [Job(name, model, EXPECTED_VARIANCE, 20, seed) for model in MODELS if model != DEFAULT for name in names for seed in few]
    found: dict[tuple[str, str, int, str], list[list[Outcome]]] = {}
    with ProcessPoolExecutor(arguments.processes, initializer=_one_thread) as pool:
        for number, (job, outcomes) in enumerate(zip(jobs, pool.map(_run, jobs), strict=True)):
            found.setdefault((job.model, job.sampler, job.samples, job.task), []).append(outcomes)
            print(f"{number + 1}/{len(jobs)} {job}", file=sys.stderr, flush=True)
    figures, targets = _report(found, published, names, arguments.quick)
    return finish("transfer_tasks", figures, targets, arguments.quick)


def _report(
    found: dict[tuple[str, str, int, str], list[list[Outcome]]], published: dict[str, dict[str, float]], names: list[str], quick: bool
) -> tuple[dict[str, float], dict[str, tuple[str, float]]]:
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    spearman: dict[tuple[str, str, int], list[float]] = {}
    for (model, sampler, samples, _), draws in found.items():
        spearman.setdefault((model, sampler, samples), []).append(float(np.mean([[one.spearman for one in draw] for draw in draws])))
    print("\nSpearman; in brackets its deviation over seeds")
    for name in names:
        draws = found[DEFAULT, EXPECTED_VARIANCE, 20, name]
        by_seed = [float(np.mean([one.spearman for one in draw])) for draw in draws]
        every = [one for draw in draws for one in draw]
        figures |= {
            f"{name}_spearman": float(np.mean(by_seed)),
            f"{name}_interval_coverage_percent": 100 * float(np.mean([one.interval_coverage for one in every])),
            f"{name}_mean_error_percent": 100 * float(np.mean([one.mean_error for one in every])),
            f"{name}_median_error_percent": 100 * float(np.mean([one.median_error for one in every])),
        }
        best = max(published[name].values())
        targets[f"{name}_spearman"] = (">=", best)
        others = "  ".join(f"{method} {value:.3f}" for method, value in published[name].items())
        trust = np.mean([[one.trust for one in draw] for draw in draws], axis=0)
        print(
            f"  {name}  {figures[f'{name}_spearman']:.3f} ({np.std(by_seed):.3f})   {others}   in the 90 % interval "
            f"{figures[f'{name}_interval_coverage_percent']:.0f} %  trust in sources {np.round(trust, 2).tolist()}"
        )
    for (model, sampler, samples), values in spearman.items():
        figures[f"mean_{model}_{sampler}_{samples}".replace("-", "_")] = float(np.mean(values))
        print(
            f"  {model:<18} {sampler:<26} {samples:3d} networks: "
            + " ".join(f"{value:.3f}" for value in values)
            + f"  mean {np.mean(values):.3f}"
        )
    default = [one for draws in (found[DEFAULT, EXPECTED_VARIANCE, 20, name] for name in names) for draw in draws for one in draw]
    figures["mean_spearman"] = figures[f"mean_{DEFAULT}_{EXPECTED_VARIANCE}_20".replace("-", "_")]
    figures["largest_seconds_a_device"] = max(one.seconds + one.shared_seconds for one in default)
    figures["median_seconds_a_device"] = float(np.median([one.seconds + one.shared_seconds for one in default]))
    for model in MODELS:
        several = [one for (name, _, _, _), draws in found.items() if name == model for draw in draws for one in draw]
        if several and model != DEFAULT:
            figures[f"seconds_a_device_{model}".replace("-", "_")] = float(np.median([one.seconds + one.shared_seconds for one in several]))
    coverages = [figures[f"{name}_interval_coverage_percent"] for name in names]
    figures |= {"lowest_coverage_percent": min(coverages), "highest_coverage_percent": max(coverages)}
    targets |= {
        "median_seconds_a_device": ("<=", 2.0),
        "lowest_coverage_percent": (">=", 87.0),
        "highest_coverage_percent": ("<=", 93.0),
    }
    if not quick:
        targets |= {"mean_spearman": (">=", 0.925), f"mean_{DEFAULT}_{EXPECTED_VARIANCE}_10".replace("-", "_"): (">=", 0.864)}
    return figures, targets


def _run(job: Job) -> list[Outcome]:
    (task,) = read_tasks(os.environ["LAYERCLOCK_DATA"], [job.task])
    return run_task(task, job.samples, job.seed, MODELS[job.model](), job.sampler)


def _one_thread() -> None:
    threadpool_limits(1)


def _published(path: Path) -> dict[str, dict[str, float]]:
    rows = list(csv.DictReader(path.open()))
    return {row.pop("task"): {method: float(value) for method, value in row.items()} for row in rows}


if __name__ == "__main__":
    sys.exit(main())
