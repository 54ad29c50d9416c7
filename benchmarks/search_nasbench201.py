"""Search where the true optimum is known: NAS-Bench-201, accuracy against latency on five devices.

All 15,625 cells have a published accuracy (CIFAR-10, 200 epochs) and latencies (LAYERCLOCK_DATA/nb201_*.parquet), so that the true
hypervolume is exact. Counted are the evaluations to 99 % of it, accuracy and latency both to be evaluated; a run ends there, or after 500.

``python benchmarks/search_nasbench201.py [--quick] [--device pixel3] [--algorithm scout]``, about 15 minutes a device, twelve of them for
LINAS as in DyNAS-T's code.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from report import finish
from search_runs import Contender, Stage, curves, evaluations_to, linas_as_coded

from layerclock.plugins import load_space
from layerclock.search.objective import FloatArray, Objective
from layerclock.search.pareto import non_dominated
from layerclock.search.ranking import hypervolume
from layerclock.space import GenomeArray, SiteIndex

DEVICES = ("titan_rtx_32", "pixel3", "raspi4", "fpga", "eyeriss")
EVALUATIONS = 500
LEVEL = 0.99
CONTENDERS = (
    Contender("random", 25, False),
    Contender("aging", 25, False),
    Contender("nsga2", 25, False),
    Contender("weaknas", 25, False),
    Contender("one-shot", 25, False),
    Contender(linas_as_coded.__name__, 25, False),
    Contender("linas", 25, False),
    Contender("scout", 25, False),
)


class _Problem:
    """The published values float64[15625, 2] of the cells, to be minimised, by the bytes of their genomes."""

    def __init__(self, values: FloatArray, place: dict[bytes, int]) -> None:
        self.values, self.place = values, place

    def look_up(self, genomes: GenomeArray) -> FloatArray:
        return self.values[[self.place[row.tobytes()] for row in genomes]]

    def truth(self, genomes: GenomeArray) -> FloatArray:
        """Cells that nobody could measure are beyond every reference."""
        return np.nan_to_num(self.look_up(genomes), nan=1e9)

    def objectives(self, _: int) -> list[Objective]:
        return [
            Objective("latency_ms", lambda genomes: self.look_up(genomes)[:, 0]),
            Objective("top1_percent", lambda genomes: -self.look_up(genomes)[:, 1], maximise=True),
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, 150 evaluations, one device")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--device", action="append", choices=DEVICES, help="this device only; may be repeated")
    parser.add_argument(
        "--algorithm", action="append", choices=[one.name for one in CONTENDERS], help="this algorithm only; may be repeated"
    )
    arguments = parser.parse_args()
    data = os.environ.get("LAYERCLOCK_DATA")
    if not data:
        sys.exit("set LAYERCLOCK_DATA to a folder with nb201_archs, nb201_latency and nb201_accuracy.parquet")
    space = load_space("nas-bench-201")
    SiteIndex.of(space)
    cells = pq.read_table(Path(data) / "nb201_archs.parquet").to_pandas()
    latencies = pq.read_table(Path(data) / "nb201_latency.parquet").to_pandas()
    accuracies = pq.read_table(Path(data) / "nb201_accuracy.parquet").to_pandas()
    genomes = np.array([space.from_arch_string(text) for text in cells["arch_str"]])  # type: ignore[attr-defined]
    place = {row.tobytes(): number for number, row in enumerate(genomes)}
    figures: dict[str, float] = {}
    for device in arguments.device or (DEVICES[:1] if arguments.quick else DEVICES):
        values = np.stack([latencies[device].to_numpy(float), -accuracies["cifar10_test"].to_numpy(float)], axis=1)

        problem = _Problem(values, place)
        known = values[np.isfinite(values).all(axis=1)]
        front = known[non_dominated(known)]
        reference, ideal = np.array([np.quantile(known[:, 0], 0.9), -50.0]), front.min(axis=0)
        true = hypervolume((front - ideal) / (reference - ideal), np.ones(2))
        stage = Stage(space, problem.objectives, problem.truth, reference, ideal, LEVEL * true)
        chosen = [one for one in CONTENDERS if not arguments.algorithm or one.name in arguments.algorithm]
        found = curves(stage, chosen, 150 if arguments.quick else EVALUATIONS, 2 if arguments.quick else arguments.seeds)
        for name, several in found.items():
            needed = np.array([evaluations_to(curve, LEVEL * true) for curve in several])
            figures[f"{device}_{name.replace('-', '_')}_evaluations_to_99_percent"] = float(min(np.median(needed), 9999.0))
            figures[f"{device}_{name.replace('-', '_')}_reached_percent"] = 100 * float(np.isfinite(needed).mean())
            print(f"{device} {name}: median {np.median(needed):g}, {np.isfinite(needed).mean():.0%} of runs", file=sys.stderr, flush=True)
    return finish("search_nasbench201", figures, {}, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
