"""Search under a latency budget on an unseen device, from ten of its networks: what it costs, and what is found. On NAS-Bench-201.

After the search of HELP (Lee et al. 2021, arXiv:2106.08630, table 4; the values are those of its repository's README): it meta-learns on
other devices, measures ten networks of the new one, and picks a network under a latency constraint from candidates that a generative model
(MetaD2A) proposes, CIFAR-100. Here the transfer predictor learns from the same nine devices, chooses ten networks, and ``scout`` searches
with 100 evaluations of the published accuracy, once holding the prediction and once the upper end of its interval to the budget. The best
network there is within each budget is known. HELP's accuracies are of other trainings of the same networks: read the latencies first.

``python benchmarks/transfer_search.py [--quick]``, about five minutes. Needs LAYERCLOCK_DATA.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from report import finish

import layerclock as lc
from layerclock.predictors.transfer.gaussian import FittedGaussian, GaussianPrior
from layerclock.predictors.transfer.problem import Sources
from layerclock.predictors.transfer.tasks import read_tasks
from layerclock.predictors.transfer.views import every_genome
from layerclock.search.objective import Objective, accuracy_objective

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.space import GenomeArray

SAMPLES, EVALUATIONS = 10, 100
# HELP's table 4: latency asked for, latency of the network that it picked (ms), and its accuracy (%).
HELP = {
    "titan_rtx_256": ((18.0, 17.8, 69.7), (21.0, 18.9, 71.5), (25.0, 24.2, 71.8)),
    "gold_6226": ((8.0, 8.0, 67.3), (11.0, 10.7, 70.2), (14.0, 14.3, 72.1)),
    "pixel2": ((14.0, 13.0, 69.7), (18.0, 19.0, 71.8), (22.0, 25.0, 73.2)),
    "eyeriss": ((5.0, 3.9, 71.5), (7.0, 5.1, 71.8), (9.0, 9.1, 73.5)),
    "fpga": ((4.0, 3.8, 70.2), (5.0, 4.7, 71.8), (6.0, 7.4, 73.5)),
}


@dataclass(frozen=True, slots=True)
class Pick:
    """One network that a search took home: what was asked, what it took (ms), and how accurate it and the best possible one are (%)."""

    asked_ms: float
    took_ms: float
    accuracy: float
    best: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = os.environ.get("LAYERCLOCK_DATA")
    if not data:
        sys.exit("set LAYERCLOCK_DATA to a folder with nasflat_tasks.json, nb201_latency.parquet and nb201_accuracy.parquet")
    (task,) = read_tasks(data, ["ND"])
    accuracy = accuracy_objective(lc.load_evaluator(f"nb201-results:path={data},dataset=cifar100"))
    genomes, names = task.latencies.genomes, task.latencies.devices
    percent = accuracy.evaluate(genomes)
    picks: dict[tuple[str, str], list[Pick]] = {}
    seconds: dict[str, list[float]] = {"learning": [], "fitting": [], "searching": []}
    for seed in range(1 if arguments.quick else arguments.seeds):
        known = task.latencies.latency_ms[:, [names.index(device) for device in task.known]]
        usable = np.flatnonzero(np.isfinite(known).all(axis=1))
        sample = np.random.default_rng(seed).permutation(usable)[: task.source_sample]
        begin = perf_counter()
        prior = GaussianPrior.of(task.space, Sources(genomes[sample], known[sample], task.known), seed)
        rows = usable[prior.choose(genomes[usable], SAMPLES, seed)]
        seconds["learning"].append(perf_counter() - begin)
        for device, asked in HELP.items():
            true_ms = task.latencies.latency_ms[:, names.index(device)]
            begin = perf_counter()
            fitted = prior.adapt(genomes[rows], true_ms[rows])
            seconds["fitting"].append(perf_counter() - begin)
            for budget_ms, _, _ in asked:
                best = float(percent[true_ms <= budget_ms].max())
                for kind in ("plain", "interval"):
                    begin = perf_counter()
                    found = lc.pareto_search(
                        task.space, [accuracy], [f"latency_ms<={budget_ms}"], EVALUATIONS, 20, seed,
                        metrics=[_latency(fitted, kind == "interval")], algorithm="scout",
                    )  # fmt: skip
                    seconds["searching"].append(perf_counter() - begin)
                    taken = found.genomes[found.pareto()[-1]]
                    row = int(np.flatnonzero((genomes == taken).all(axis=1))[0])
                    picks.setdefault((kind, device), []).append(Pick(budget_ms, float(true_ms[row]), float(percent[row]), best))
    figures = {f"seconds_{what}": float(np.median(several)) for what, several in seconds.items()}
    for (kind, device), several in picks.items():
        over = np.array([pick.took_ms / pick.asked_ms - 1 for pick in several])
        figures |= {
            f"{device}_{kind}_meet_budget_percent": 100 * float((over <= 0).mean()),
            f"{device}_{kind}_worst_over_percent": 100 * float(over.max()),
            f"{device}_{kind}_accuracy_below_best": float(np.mean([pick.best - pick.accuracy for pick in several])),
        }
    print("latency asked -> taken (accuracy; best possible), medians over seeds; HELP's as published")
    for device, asked in HELP.items():
        for number, (budget_ms, theirs_ms, their_percent) in enumerate(asked):
            cells = []
            for kind in ("plain", "interval"):
                several = [pick for pick in picks[kind, device] if pick.asked_ms == budget_ms]
                took, reached = np.median([pick.took_ms for pick in several]), np.median([pick.accuracy for pick in several])
                cells.append(f"{kind} {took:5.1f} ({reached:.1f})")
            best = picks["plain", device][number].best
            print(f"  {device:<14} {budget_ms:5.1f} -> {'   '.join(cells)}   best {best:.1f}   HELP {theirs_ms:5.1f} ({their_percent})")
    theirs = np.array([took / asked - 1 for rows in HELP.values() for asked, took, _ in rows])
    figures["help_meet_budget_percent"] = 100 * float((theirs <= 0).mean())
    figures["help_worst_over_percent"] = 100 * float(theirs.max())
    for kind in ("plain", "interval"):
        every = [pick for (one, _), several in picks.items() if one == kind for pick in several]
        figures[f"{kind}_meet_budget_percent"] = 100 * float(np.mean([pick.took_ms <= pick.asked_ms for pick in every]))
        figures[f"{kind}_worst_over_percent"] = 100 * max(pick.took_ms / pick.asked_ms - 1 for pick in every)
    return finish("transfer_search", figures, {"interval_meet_budget_percent": (">=", 95.0)}, arguments.quick)


def _latency(fitted: FittedGaussian, with_interval: bool) -> Objective:
    """Predicted latency, told once for every cell of the space and then looked up, as the predictor's file does it."""
    index = fitted.prior.views.index
    listed = every_genome(index)
    if listed is None:
        sys.exit("the space is too large to be listed")
    told = fitted.predict(listed)
    reach = fitted.interval_factor * told.std
    radix = np.array([int(np.prod(index.cardinality[gene + 1 :])) for gene in range(len(index.genes))])

    def evaluate(genomes: GenomeArray) -> FloatArray:
        predicted: FloatArray = np.exp(told.mean[genomes @ radix])
        return predicted

    def interval(genomes: GenomeArray) -> tuple[FloatArray, FloatArray]:
        rows = genomes @ radix
        return np.exp(told.mean[rows] - reach[rows]), np.exp(told.mean[rows] + reach[rows])

    return Objective("latency_ms", evaluate, unit="ms", cheap=True, interval=interval if with_interval else None)


if __name__ == "__main__":
    sys.exit(main())
