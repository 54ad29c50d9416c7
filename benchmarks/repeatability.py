"""The same 20 networks profiled twice, alone and beside two busy processes: how far does each network's estimate move?

The two campaigns take turns, a round each in the order ABBA, so that what they are told apart by is the busy processes and
not the minutes: on a shared machine the level of all networks may wander by some percent within half a minute, so it takes
twenty rounds until what the mean keeps of that is well below what is looked for. The estimate is the sum of a network's layer
rows. Beside it stands what most tools give, the plain median of end-to-end times.

``python benchmarks/repeatability.py [--quick] [--device onnxruntime:cpu]``, about eighteen minutes a runtime.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from report import finish, tell

import layerclock as lc

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ("onnxruntime:cpu", "openvino:CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four rounds instead of twenty")
    parser.add_argument("--device", choices=DEVICES, action="append", help="this runtime only")
    arguments = parser.parse_args()
    quick = arguments.quick
    space = lc.load_space("ofa-mobilenetv3")
    index = lc.SiteIndex.of(space)
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    for name in arguments.device or DEVICES:
        tables = {}
        with tempfile.TemporaryDirectory() as folder:
            for rounds in range(2, 5 if quick else 21):
                for busy in (2, 0) if rounds % 2 else (0, 2):
                    with _busy(busy):
                        campaign = Path(folder) / str(busy)
                        tables[busy] = lc.profile(lc.open_device(name), space, campaign, networks=20, rounds=rounds, progress=tell)
        sums, medians, undisturbed = zip(*(_estimates(tables[busy], index) for busy in (0, 2)), strict=True)
        short = name.split(":")[0]
        for what, (calm, busy_ones) in (("layer_sum", sums), ("naive_median", medians)):
            moved = 100 * np.abs(busy_ones / calm - 1)
            figures[f"{short}_{what}_moved_median_percent"] = float(np.median(moved))
            figures[f"{short}_{what}_moved_most_percent"] = float(moved.max())
        figures[f"{short}_undisturbed_percent_alone"], figures[f"{short}_undisturbed_percent_beside_two"] = undisturbed
        targets[f"{short}_layer_sum_moved_median_percent"] = ("<=", 1.5)
        targets[f"{short}_layer_sum_moved_most_percent"] = ("<=", 3.0)
    return finish("repeatability", figures, targets, quick)


def _estimates(table: lc.LatencyTable, index: lc.SiteIndex) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    rows_us = table.layer_latencies_us()
    by_layer = np.array([rows_us.get(layer.key, np.nan) for layer in index.vocabulary])
    counts = index.counts(table.networks().genomes)
    sums = np.array([np.sum(count[count > 0] * by_layer[count > 0]) for count in counts])
    medians = np.array([row["p50_us"] for row in table.level("network").to_pylist()])
    return sums, medians, 100 * table.interference["undisturbed_share"]


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "x = 0\nwhile True: x += 1"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
