"""What one iteration of a search costs beside the evaluations: fitting and asking the predictors, 20,000 inner evaluations, the choice.

At 500 evaluated networks of OFA-MobileNetV3, with one objective to learn. Also counts the networks that LINAS as published in code
evaluates twice, and those that the algorithms here do.

``python benchmarks/search_overhead.py [--quick]``, about a minute.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from time import perf_counter

import numpy as np
from report import finish
from search_runs import linas_as_coded

from layerclock.search.inner import INNER_EVALUATIONS
from layerclock.search.loop import Search
from layerclock.search.objective import Objective, macs_objective
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import GenomeArray, SiteIndex, sample

KNOWN = 500
# Seconds of an iteration of DyNAS-T's code at 500 samples, most of them for fitting a thousand models.
THEIR_SECONDS = 100.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two iterations of each")
    arguments = parser.parse_args()
    space = ofa_mobilenetv3()
    index = SiteIndex.of(space)
    worth = np.random.default_rng(0).normal(0.3, 1.0, (len(index.genes), 3)).cumsum(axis=1)

    def quality(genomes: GenomeArray) -> np.ndarray:
        chosen = worth[np.arange(len(index.genes)), genomes] * index.active(genomes)
        return np.asarray(70 + 10 * (1 - np.exp(-chosen.sum(axis=1) / 30)))

    objectives = [macs_objective(index), Objective("top1_percent", quality, maximise=True)]
    known = sample(index, KNOWN, np.random.default_rng(1))
    told = np.stack([index.macs(known).astype(float), -quality(known)], axis=1)
    figures: dict[str, float] = {"inner_evaluations": INNER_EVALUATIONS}
    for name in ("linas", "scout"):
        search = Search(space, objectives, evaluations=KNOWN + 100, population=50, algorithm=name)
        search.algorithm.tell(known, told, np.zeros(KNOWN))
        seconds = []
        for _ in range(2 if arguments.quick else 5):
            start = perf_counter()
            search.algorithm.propose()
            seconds.append(perf_counter() - start)
        figures[f"{name}_iteration_s"] = median(seconds)
        figures[f"{name}_times_faster_than_dynas_t"] = THEIR_SECONDS / median(seconds)
    for name in ("linas", "scout"):
        search = Search(space, objectives, evaluations=150, population=50, algorithm=name)
        while not search.stopped:
            search.step()
        genomes = search.result().genomes
        figures[f"{name}_duplicates"] = len(genomes) - len(np.unique(genomes, axis=0))
    coded = linas_as_coded(space, objectives, 300, 50, 0)
    figures["linas_as_coded_duplicates_of_300"] = len(coded) - len(np.unique(coded, axis=0))
    targets = {
        "linas_iteration_s": ("<=", 2.0),
        "scout_iteration_s": ("<=", 2.0),
        "linas_duplicates": ("==", 0.0),
        "scout_duplicates": ("==", 0.0),
    }
    return finish("search_overhead", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
