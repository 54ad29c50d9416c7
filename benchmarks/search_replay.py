"""How many evaluations does each algorithm need? Replayed on real ImageNet accuracies, paired over seeds.

OFA-MobileNetV3: a surrogate fitted to the accuracies that DyNAS-T measured (LAYERCLOCK_DATA/dynast/*.csv), with their label noise of 0.015
points on every evaluation, against exact MACs. Hypervolume is that of the noiseless surrogate, between the corner (650 M MACs, 70 %) and
the ideal point of the best front that long searches find. The peers evaluate and learn MACs as their papers do;
``nsga2`` and ``scout`` count them.

``python benchmarks/search_replay.py [--quick]``, about 15 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from report import finish
from search_runs import Contender, Stage, curves, evaluations_to, linas_as_coded

from layerclock.search.accuracy.results import results_csv
from layerclock.search.loop import Search
from layerclock.search.objective import Objective, macs_objective
from layerclock.space import GenomeArray, SiteIndex

NOISE = 0.015
REFERENCE = np.array([6.5e8, -70.0])
CHECKPOINTS = (50, 100, 150, 200, 250)
CONTENDERS = (
    Contender("random", 50, True),
    Contender("aging", 50, True),
    Contender("nsga2", 50, True),
    Contender("weaknas", 50, False),
    Contender("one-shot", 50, False),
    Contender(linas_as_coded.__name__, 50, False),
    Contender("linas", 50, False),
    Contender("scout", 25, True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    data = os.environ.get("LAYERCLOCK_DATA")
    if not data:
        sys.exit("set LAYERCLOCK_DATA to a folder with dynast/*.csv, the result files of IntelLabs/DyNAS-T")
    surrogate = results_csv(str(Path(data) / "dynast"))
    print(f"surrogate of {surrogate.measured} networks, mean error {surrogate.error:.3f} points", file=sys.stderr)
    index = SiteIndex.of(surrogate.space)
    macs = macs_objective(index)

    def truth(genomes: GenomeArray) -> np.ndarray:
        return np.stack([index.macs(genomes).astype(float), -surrogate.evaluate(genomes)], axis=1)

    def objectives(seed: int) -> list[Objective]:
        rng = np.random.default_rng([seed, 99])
        noisy = Objective("top1_percent", lambda genomes: surrogate.evaluate(genomes) + rng.normal(0, NOISE, len(genomes)), maximise=True)
        return [macs, noisy]

    # The ideal point: the ends of the best front that a long search on the noiseless surrogate finds.
    long = Search(surrogate.space, [macs, Objective("top1_percent", surrogate.evaluate, maximise=True)], evaluations=20_000, population=200)
    while not long.stopped:
        long.step()
    best = truth(long.result().genomes[long.result().pareto()])
    stage = Stage(surrogate.space, objectives, truth, REFERENCE, best.min(axis=0))
    found = curves(stage, CONTENDERS, CHECKPOINTS[-1], 3 if arguments.quick else arguments.seeds)
    print("hypervolume (mean +- standard deviation over seeds)", *CHECKPOINTS, sep="\t", file=sys.stderr)
    for name, several in found.items():
        cells = [f"{several[:, n - 1].mean():.4f} +- {several[:, n - 1].std():.4f}" for n in CHECKPOINTS]
        print(name, *cells, sep="\t", file=sys.stderr)
    figures = {f"{name.replace('-', '_')}_{n}": float(several[:, n - 1].mean()) for name, several in found.items() for n in CHECKPOINTS}
    goal = found["linas"][:, -1]
    ours = np.array([evaluations_to(curve, level) for curve, level in zip(found["scout"], goal, strict=True)])
    figures["scout_evaluations_to_linas_250"] = evaluations_to(found["scout"].mean(axis=0), float(goal.mean()))
    figures["scout_evaluations_to_linas_250_paired_median"] = float(np.median(ours))
    figures["scout_evaluations_to_linas_250_paired_worst"] = float(min(ours.max(), 999.0))
    weak = float(found["weaknas"][:, -1].mean())
    for name in ("linas", "scout"):
        figures[f"weaknas_evaluations_over_{name}s"] = CHECKPOINTS[-1] / evaluations_to(found[name].mean(axis=0), weak)
    targets = {"scout_evaluations_to_linas_250": ("<=", 125.0), "weaknas_evaluations_over_scouts": (">=", 8.0)}
    return finish("search_replay", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
