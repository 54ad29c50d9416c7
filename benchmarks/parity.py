"""Is our end-to-end latency the one that the runtimes' own tools give? 20 sub-networks of OFA-MobileNetV3, interleaved.

OpenVINO: ``benchmark_app`` with the same settings (sync, one stream, one thread). ONNX Runtime: a plain loop around
``InferenceSession.run``. Each round times a network on both sides right after each other, now this one first, now that one. Both
are long enough for the network's weights to settle in the last cache: the loop warms up with 24 runs, and ``benchmark_app``, which
warms up with one, makes as many more. Both are bound to the same processor, and ours does not wait for quiet moments, as it would in
a campaign, for the other side does not. *Paired* is the median over the rounds of the two sides' ratio: what disturbs the machine for
minutes is on both sides of it. Beside it stand each side's fastest run and best median of all rounds, where a neighbour's busy minute
may hit one side alone, and the latency that we would report. The targets are for the medians over the networks.

``python benchmarks/parity.py [--quick]``, five to ten minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from report import finish

import layerclock as lc
from layerclock.devices.export import Exporter
from layerclock.profiler.measurement import Order
from layerclock.profiler.observations import Observed
from layerclock.profiler.store import CampaignRecord
from layerclock.profiler.worker import WorkerPool
from layerclock.space import sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.interfaces import Device, ModelFile

WARM_UP, RUNS = 24, 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 networks, five rounds")
    quick = parser.parse_args().quick
    networks, rounds = (8, 5) if quick else (20, 12)
    os.sched_setaffinity(0, (max(os.sched_getaffinity(0)),))  # the loop's; the workers and `benchmark_app` inherit it
    space = lc.load_space("ofa-mobilenetv3")
    index = lc.SiteIndex.of(space)
    genomes = sample(index, networks, np.random.default_rng(0))
    models = [Exporter(space)(genome) for genome in genomes]
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    for name, make in (("onnxruntime:cpu", _plain_loops), ("openvino:CPU", _benchmark_apps)):
        device = lc.open_device(name)
        record = CampaignRecord(space.name, index.digest, device.target, (), tuple(map(tuple, genomes.tolist())), RUNS, (), "", "")
        ours_ms, theirs_ms, paired = _interleaved(device, models, make(models), Observed(record, index), rounds)
        short = name.split(":")[0]
        for column, statistic in enumerate(("fastest", "median")):
            figures[f"{short}_paired_{statistic}_off_median_percent"] = float(np.median(100 * np.abs(paired[:, column] - 1)))
            figures[f"{short}_paired_{statistic}_ours_over_theirs"] = float(np.median(paired[:, column]))
        for column, statistic in enumerate(("fastest", "median")):
            off = 100 * np.abs(ours_ms[:, column] / theirs_ms[:, column] - 1)
            figures[f"{short}_{statistic}_off_median_percent"] = float(np.median(off))
            figures[f"{short}_{statistic}_off_most_percent"] = float(off.max())
            figures[f"{short}_{statistic}_ours_over_theirs"] = float(np.median(ours_ms[:, column] / theirs_ms[:, column]))
        figures[f"{short}_our_latency_over_their_fastest"] = float(np.median(ours_ms[:, 2] / theirs_ms[:, 0]))
        figures[f"{short}_our_latency_over_their_median"] = float(np.median(ours_ms[:, 2] / theirs_ms[:, 1]))
        targets |= {
            f"{short}_{kind}{statistic}_off_median_percent": ("<=", 2.0) for kind in ("paired_", "") for statistic in ("fastest", "median")
        }
    return finish("parity", figures, targets, quick)


def _interleaved(
    device: Device, models: list[ModelFile], other: Callable[[int], tuple[float, float]], seen: Observed, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ours float64[N, 3]: fastest, median and latency in ms; theirs float64[N, 2]: fastest and median, each the best of the rounds.

    Then float64[N, 2]: ours over theirs, the median over the rounds.
    """
    from dataclasses import replace

    theirs: list[list[tuple[float, float]]] = [[] for _ in models]
    with tempfile.TemporaryDirectory() as folder, WorkerPool(device, 60.0, Path(folder) / "log") as pool:
        workers = []
        for model in models:
            worker = pool.start()
            worker.load(model)
            worker.wait()
            workers.append(worker)
        seen.rest(workers[0].rest_readings())
        for number in range(rounds):
            for position, worker in enumerate(workers):
                if number % 2:
                    theirs[position].append(other(position))
                measurement = worker.measure(Order(RUNS, RUNS, 30.0, float("nan"), profiled=False))
                seen.add(replace(measurement, network=position, round=number))
                if not number % 2:
                    theirs[position].append(other(position))
            print(f"{device.target.device}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    timings = seen.end_to_end()
    ours, paired = [], []
    for position in range(len(models)):
        times_ms = [measured.end_to_end_ns / 1e6 for measured in seen.networks[position].rounds]
        by_round = np.array([(one.min(), np.median(one)) for one in times_ms])
        paired.append(np.median(by_round / np.array(theirs[position]), axis=0))
        ours.append((*by_round.min(axis=0), timings[position].latency_us / 1e3))
    return np.array(ours), np.array([np.min(one, axis=0) for one in theirs]), np.array(paired)


def _plain_loops(models: list[ModelFile]) -> Callable[[int], tuple[float, float]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"]) for model in models]

    def time(position: int) -> tuple[float, float]:
        session = sessions[position]
        feed = {value.name: np.random.default_rng(0).standard_normal(value.shape, dtype=np.float32) for value in session.get_inputs()}
        times = []
        for _ in range(WARM_UP + RUNS):
            start = perf_counter_ns()
            session.run(None, feed)
            times.append((perf_counter_ns() - start) / 1e6)
        return min(times[WARM_UP:]), float(np.median(times[WARM_UP:]))

    return time


def _benchmark_apps(models: list[ModelFile]) -> Callable[[int], tuple[float, float]]:
    def time(position: int) -> tuple[float, float]:
        command = [
            str(Path(sys.executable).parent / "benchmark_app"), "-m", str(models[position].path), "-d", "CPU", "-api", "sync",
            "-hint", "none", "-nstreams", "1", "-nthreads", "1", "-infer_precision", "CPU:f32", "-niter", str(WARM_UP + RUNS),
        ]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = {name: float(value) for name, value in re.findall(r"(Median|Min):\s+([0-9.]+) ms", said)}
        return found["Min"], found["Median"]

    return time


if __name__ == "__main__":
    sys.exit(main())
