"""Does the fast level of co-exploration ever drop a pair that it should not, and how many trainings does it save?

All 15,625 cells of NAS-Bench-201 on 48 pipelines of two engines (benchmarks/designs/cells-48.yaml), for specifications at three levels:
at least the throughput and at most the energy of a quarter, half and three quarters of all pairs that can be built. A pair is feasible
if the exhaustive table, made of the cost model without any bound, says so; a false prune is a feasible pair that the fast level turns
down. Then the two-level search runs under each specification, with CIFAR-10 accuracy (LAYERCLOCK_DATA/nb201_*.parquet): skipped is the
share of the distinct networks that its controller wrote and that were not trained, turned down that of those which the fast level never
let through (a controller that has learned writes fewer of these).

``python benchmarks/coexplore_pruning.py [--quick]``, five minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from report import finish

from layerclock.devices.accelerators.designs import load_design_space
from layerclock.devices.accelerators.fpga_pairs import FpgaPairs
from layerclock.devices.accelerators.fpga_tiling import nest_costs
from layerclock.devices.accelerators.pipeline import pipeline_costs
from layerclock.plugins import load_evaluator, load_space
from layerclock.search.coexplore.problem import Coexploration
from layerclock.search.coexplore.two_level import TwoLevel
from layerclock.search.objective import Constraint, FloatArray, accuracy_objective
from layerclock.space import GenomeArray, SiteIndex

DESIGNS = Path(__file__).parent / "designs" / "cells-48.yaml"
LEVELS = (25, 50, 75)
AT_ONCE = 1 << 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every 20th cell, two seeds")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    data = os.environ.get("LAYERCLOCK_DATA")
    if not data:
        sys.exit("set LAYERCLOCK_DATA to a folder with nb201_archs.parquet and nb201_accuracy.parquet")
    space = load_space("nas-bench-201")
    accuracy = accuracy_objective(load_evaluator(f"nb201-results:path={data}"))
    pairs = FpgaPairs(space, load_design_space(DESIGNS))
    networks = _every([len(gene.choices) for gene in space.genes])[:: 20 if arguments.quick else 1]
    designs = _every([len(gene.choices) for gene in pairs.genes])
    throughput, energy, buildable = _table(pairs, networks, SiteIndex.of(space))
    runs = np.isfinite(energy) & buildable
    figures: dict[str, float] = {
        "pairs": float(throughput.size),
        "designs": float(len(designs)),
        "pairs_that_can_be_built_percent": 100 * float(runs.mean()),
    }
    joint = np.concatenate([np.repeat(networks, len(designs), axis=0), np.tile(designs, (len(networks), 1))], axis=1)
    figures["bounds_above_the_model"] = float(_bounds_above(pairs, joint, throughput, energy))
    false, skipped = 0, []
    for level in LEVELS:
        limits = (
            Constraint("throughput_per_s", ">=", float(np.percentile(throughput[runs], level))),
            Constraint("energy_mj", "<=", float(np.percentile(energy[runs], 100 - level))),
        )
        truth = runs & (limits[0].violation(throughput) == 0) & (limits[1].violation(energy) == 0)
        problem = Coexploration(space, pairs, ["throughput_per_s", "energy_mj", accuracy], limits)
        kept = np.concatenate([_kept(problem, joint[start : start + AT_ONCE]) for start in range(0, len(joint), AT_ONCE)])
        wrong = int((truth.ravel() & ~kept).sum())
        false += wrong + int((kept & ~truth.ravel()).sum())
        tally = problem.fast.tally
        figures |= {
            f"specification_{level}_feasible_pairs": float(truth.sum()),
            f"specification_{level}_false_prunes": float(wrong),
            f"specification_{level}_unbuildable_percent": 100 * tally.unbuildable / tally.asked,
            f"specification_{level}_pruned_by_bound_percent": 100 * tally.bound / tally.asked,
            f"specification_{level}_pruned_by_model_percent": 100 * tally.model / tally.asked,
        }
        runs_of = [
            _searched(Coexploration(space, pairs, ["throughput_per_s", "energy_mj", accuracy], limits), seed)
            for seed in range(2 if arguments.quick else arguments.seeds)
        ]
        shares = [one[0] for one in runs_of]
        figures[f"specification_{level}_trainings_skipped_percent"] = 100 * float(np.median(shares))
        figures[f"specification_{level}_turned_down_percent"] = 100 * float(np.median([one[1] for one in runs_of]))
        skipped += shares
        print(f"specification {limits[0]}, {limits[1]}: {wrong} false prunes, skipped {np.round(shares, 3)}", file=sys.stderr, flush=True)
    figures |= {
        "false_prunes": float(sum(figures[f"specification_{level}_false_prunes"] for level in LEVELS)),
        "verdicts_that_differ_from_the_table": float(false),
        "trainings_skipped_percent_worst": 100 * min(skipped),
    }
    targets = {
        "pairs": (">=", 1.0 if arguments.quick else 15_625.0 * 48),
        "false_prunes": ("==", 0.0),
        "bounds_above_the_model": ("==", 0.0),
        "trainings_skipped_percent_worst": (">=", 50.0),
    }
    return finish("coexplore_pruning", figures, targets, arguments.quick)


def _every(cardinality: list[int]) -> GenomeArray:
    return np.array(list(np.ndindex(*cardinality)), dtype=np.int64)


def _table(pairs: FpgaPairs, networks: GenomeArray, index: SiteIndex) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Throughput and energy float64[N, D] by the cost model alone, and bool[N, D] whether the design can be built.

    Cells of the same convolutions in the same order have the same costs: one of each is costed.
    """
    designs = _every([len(gene.choices) for gene in pairs.genes])
    sequences, numbers = np.unique(pairs.nests.sequences(index, networks), axis=0, return_inverse=True)
    batch = pairs.designs.batch(designs)
    costs = nest_costs(pairs.nests.nests, batch.engines)
    repeated = pairs.designs.batch(np.tile(designs, (len(sequences), 1)))
    found = pipeline_costs(np.repeat(sequences, len(designs), axis=0), costs, repeated)
    if repeated.engines.tm.tolist() != batch.engines.tm.tolist():
        raise SystemExit("the engines of all designs are not those of the table")
    shape = (len(sequences), len(designs))
    # Limits are values of the table itself: in the units of pairs, for 1e9 / ns and 1e3 / ms may differ in the last digit.
    throughput, energy = (each.reshape(shape)[numbers.ravel()] for each in (1e3 / (found.interval_ns * 1e-6), found.energy_pj * 1e-9))
    return throughput, energy, np.broadcast_to(batch.feasible, throughput.shape)


def _bounds_above(pairs: FpgaPairs, joint: GenomeArray, throughput: FloatArray, energy: FloatArray) -> int:
    """Pairs that can be built and whose bound is above the model's costs in throughput or energy."""
    wrong = 0
    for start in range(0, len(joint), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        bounds = pairs.bounds(joint[part, :6].copy(), joint[part, 6:].copy())
        with np.errstate(divide="ignore"):
            interval_ms = 1e3 / throughput.ravel()[part]
        wrong += int(((bounds.interval_ms > interval_ms) | (bounds.energy_mj > energy.ravel()[part])).sum())
    return wrong


def _kept(problem: Coexploration, joint: GenomeArray) -> np.ndarray:
    """Whether the fast level lets each pair through to training: bool[B]."""
    measures = problem.fast.judge(joint).measures
    kept: np.ndarray = measures["shortfall"] == 0
    for limit in problem.constraints:
        kept &= limit.violation(measures[limit.name]) == 0
    return kept


def _searched(problem: Coexploration, seed: int) -> tuple[float, float]:
    """Shares of the distinct networks that the controller wrote: those not trained, and those that the fast level never let through."""
    search = problem.search("two-level", evaluations=200, seed=seed)
    while not search.stopped:
        search.step()
    if not isinstance(search.algorithm, TwoLevel):
        raise SystemExit("the two-level method is not the one of this project")
    written = len(search.algorithm.networks)
    return 1 - problem.trainings / written, search.algorithm.turned_down / written


if __name__ == "__main__":
    sys.exit(main())
