"""The same 20 networks profiled twice, alone and beside two busy processes: how far does each network's estimate move?

The two campaigns run at the same time and take turns, a visit to one network each in the order ABBA, and the busy processes are
stopped while the one that is alone has its turn. So what they are told apart by is the busy processes and not the minutes: on
a shared machine the level of all networks may wander by some percent within half a minute. The estimate is the sum of a network's
layer rows. Beside it stands what most tools give, the plain median of end-to-end times; ``moved_together`` is by how much the median
network's sum is larger beside the busy processes.

``python benchmarks/repeatability.py [--quick] [--device onnxruntime:cpu]``, about nine minutes a runtime.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from report import finish, tell

import layerclock as lc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.progress import Progress

DEVICES = ("onnxruntime:cpu", "openvino:CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of ten")
    parser.add_argument("--device", choices=DEVICES, action="append", help="this runtime only")
    arguments = parser.parse_args()
    quick = arguments.quick
    space = lc.load_space("ofa-mobilenetv3")
    index = lc.SiteIndex.of(space)
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    for name in arguments.device or DEVICES:
        alone, beside = _both(name, space, 3 if quick else 10)
        sums, medians, undisturbed = zip(*(_estimates(table, index) for table in (alone, beside)), strict=True)
        short = name.split(":")[0]
        for what, (calm, busy_ones) in (("layer_sum", sums), ("naive_median", medians)):
            moved = 100 * np.abs(busy_ones / calm - 1)
            figures[f"{short}_{what}_moved_median_percent"] = float(np.median(moved))
            figures[f"{short}_{what}_moved_most_percent"] = float(moved.max())
        figures[f"{short}_layer_sum_moved_together_percent"] = 100 * float(np.median(sums[1] / sums[0]) - 1)
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


def _both(name: str, space: SearchSpace, rounds: int) -> tuple[lc.LatencyTable, lc.LatencyTable]:
    """The tables of the campaign that is alone in its turns, and of the one beside two busy processes."""
    with tempfile.TemporaryDirectory() as folder, _Busy(2) as busy, ThreadPoolExecutor(2) as pool:
        turns = _Turns(busy)

        def campaign(which: int) -> lc.LatencyTable:
            with turns.part(which) as told:
                device = lc.open_device(name)
                return lc.profile(device, space, Path(folder) / str(which), networks=20, rounds=rounds, progress=told)

        alone, beside = pool.map(campaign, (0, 1))
        return alone, beside


class _Busy:
    """Processes that compute without end, but for the time that they are stopped; a context."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._running = [subprocess.Popen([sys.executable, "-c", "x = 0\nwhile True: x += 1"]) for _ in range(self._number)]
        self.go_on(False)
        return self

    def go_on(self, on: bool) -> None:
        """Let them compute, or stop them."""
        for process in self._running:
            process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()


class _Turns:
    """Two campaigns, of which one is measured at a time: a visit each in the order ABBA, beside the busy processes in B's turns."""

    def __init__(self, busy: _Busy) -> None:
        self._busy = busy
        self._change = threading.Condition()
        self._waiting: set[int] = set()
        self._gone: set[int] = set()
        self._holder: int | None = None
        self._taken = 0

    @contextmanager
    def part(self, which: int) -> Iterator[Callable[[Progress], None]]:
        """What campaign ``which`` reports its progress to; the second begins to load when the first waits for its first turn."""
        with self._change:
            self._change.wait_for(lambda: which == 0 or 0 in self._waiting | self._gone)
            self._hold(which)
        try:
            yield lambda progress: self._told(which, progress)
        finally:
            with self._change:
                self._gone.add(which)
                self._let_go(which)

    def _told(self, which: int, progress: Progress) -> None:
        """A visit begins, and the one before has ended."""
        tell(progress)
        if progress.stage != "measure" or progress.done == progress.total:
            return
        with self._change:
            self._let_go(which)
            self._waiting.add(which)
            self._change.notify_all()
            self._change.wait_for(lambda: self._may_begin(which))
            self._waiting.discard(which)
            self._taken += 1
            self._hold(which)

    def _hold(self, which: int) -> None:
        self._holder = which
        self._busy.go_on(which == 1)

    def _let_go(self, which: int) -> None:
        if self._holder == which:
            self._holder = None
            self._busy.go_on(False)
        self._change.notify_all()

    def _may_begin(self, which: int) -> bool:
        if self._holder is not None or not {0, 1} <= self._waiting | self._gone:
            return False
        return (1 - which) in self._gone or which == (0, 1, 1, 0)[self._taken % 4]


if __name__ == "__main__":
    sys.exit(main())
