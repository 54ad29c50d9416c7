"""Evaluations to a hypervolume for images, translation and recommendation, on the project's own super-networks: accuracy against MACs.

After table 3 of Cummings et al. 2022 (arXiv:2205.10358), whose super-networks are larger: MobileNetV3 on digits, a transformer on generated
sequences, neural collaborative filtering on generated interactions. The level is 99 % of the best hypervolume that any run
of any algorithm reached.

``python benchmarks/search_modalities.py [--quick] [--only images]``, about an hour on two cores, most of it for images.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from time import monotonic

import numpy as np
import torch
from report import finish
from search_runs import Contender, Stage, curves, evaluations_to

from layerclock.plugins import load_evaluator
from layerclock.search.objective import FloatArray, Objective, accuracy_objective, macs_objective
from layerclock.search.variation import Variation
from layerclock.space import GenomeArray, SiteIndex

EVALUATORS = {"images": "digits-supernet", "translation": "sequences-supernet", "recommendation": "interactions-supernet"}
CONTENDERS = (Contender("random", 20, True), Contender("nsga2", 20, True), Contender("linas", 20, True), Contender("scout", 20, True))
LEVEL = 0.99


def _truth(objectives: list[Objective], genomes: GenomeArray) -> FloatArray:
    return np.stack([objectives[0].evaluate(genomes), -objectives[1].evaluate(genomes)], axis=1)


def _same(objectives: list[Objective], _seed: int) -> list[Objective]:
    return objectives


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, 60 evaluations, 20 s of training")
    parser.add_argument("--only", choices=EVALUATORS, action="append")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the runs are processes, one a core, begun from this one
    figures: dict[str, float] = {}
    for name in arguments.only or EVALUATORS:
        evaluator = load_evaluator(f"{EVALUATORS[name]}:seconds={20 if arguments.quick else 90}")
        space = evaluator.space  # type: ignore[attr-defined]
        index = SiteIndex.of(space)
        objectives = [macs_objective(index), accuracy_objective(evaluator)]
        truth = partial(_truth, objectives)
        ends = truth(Variation(index).extremes(np.random.default_rng(0)))
        # From the smallest network's quality and the largest one's size; the ideal has all for nothing.
        stage = Stage(
            space, partial(_same, objectives), truth, np.array([1.05 * ends[1, 0], ends[0, 1] + 1e-9]),
            np.array([ends[0, 0], ends.min(axis=0)[1] - 0.05 * abs(ends[0, 1] - ends[1, 1])]),
        )  # fmt: skip
        start = monotonic()
        found = curves(stage, CONTENDERS, 60 if arguments.quick else 200, 2 if arguments.quick else arguments.seeds)
        best = max(float(several.max()) for several in found.values())
        for algorithm, several in found.items():
            needed = np.array([evaluations_to(curve, LEVEL * best) for curve in several])
            figures[f"{name}_{algorithm}_evaluations_median"] = float(min(np.median(needed), 9999.0))
            figures[f"{name}_{algorithm}_final_hypervolume"] = float(several[:, -1].mean() / best)
            figures[f"{name}_{algorithm}_final_deviation"] = float(several[:, -1].std() / best)
        print(f"{name}: searched in {monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return finish("search_modalities", figures, {}, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
