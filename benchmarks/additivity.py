"""Do the layers add up? Sum of a network's rows plus overhead against its end-to-end time, for 100 unseen sub-networks.

The overhead is what the layer-wise predictor fits to the profiled networks and those for calibration, ``overhead + (scale - 1) * sum
+ fetch * weights``: the runtime's own work, and what a layer takes less in a small network, whose weights stay in the last cache, than
in a large one. Beside it, as ``kernels_only``, an overhead of one number a kernel: the median over the profiled networks of what their
times have above their sums, divided by the number of their kernels. As ``hindsight``, the three are fitted to the unseen networks
themselves: what is off there, no other three numbers would mend. The counters' cost was taken off the rows before; its share is printed.
Both runtimes, OFA-MobileNetV3 at 224 and 128 px, one thread and two. 40 sub-networks are profiled; 20 for calibration, as ``layerclock
profile`` adds them, and the unseen ones are timed end to end in the same rounds.

``python benchmarks/additivity.py [--quick] [--only onnxruntime:cpu/224/1]``, about eight minutes a combination on a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import finish, tell

import layerclock as lc
from layerclock.predictors.layerwise import fit_terms

COMBINATIONS = tuple("/".join(parts) for parts in itertools.product(("onnxruntime:cpu", "openvino:CPU"), ("224", "128"), ("1", "2")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 profiled, 10 for calibration, 30 unseen, four rounds")
    parser.add_argument("--only", choices=COMBINATIONS, action="append", help="this combination only; may be repeated")
    parser.add_argument("--rounds", type=int, help="over all networks, instead of the usual number")
    parser.add_argument("--output", type=Path, help="keep the campaigns here (and go on with them)")
    arguments = parser.parse_args()
    networks, calibration, holdout, rounds = (20, 10, 30, 4) if arguments.quick else (40, 20, 100, 10)
    rounds = arguments.rounds or rounds
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for combination in arguments.only or COMBINATIONS:
            name, resolution, threads = combination.split("/")
            short = f"{name.split(':')[0]}_{resolution}px_{threads}t"
            space = lc.load_space(f"ofa-mobilenetv3:resolution={resolution}")
            device = lc.open_device(name, lc.DeviceOptions(threads=int(threads)))
            folder = (arguments.output or Path(temporary)) / short
            table = lc.profile(
                device, space, folder, networks=networks, calibration=calibration, holdout=holdout, rounds=rounds, progress=tell
            )
            truth = table.networks("holdout")
            index = lc.SiteIndex.of(space)
            rows_us = table.layer_latencies_us()
            row_ms = np.array([rows_us[layer.key] for layer in index.vocabulary]) / 1e3
            kernels_of = {row["key"]: row["kernels"] for row in table.level("layer").to_pylist()}
            kernels = np.array([kernels_of[layer.key] for layer in index.vocabulary])
            own = table.networks()
            counts = index.counts(own.genomes)
            overhead_ms = float(np.median((own.latency_ms - counts @ row_ms) / (counts @ kernels)))
            predictor = lc.fit(table, space)
            signed = predictor.predict(truth.genomes).latency_ms / truth.latency_ms - 1
            error = np.abs(signed)
            sums = index.counts(truth.genomes) @ row_ms
            hindsight = np.abs(fit_terms(sums, index.params(truth.genomes), truth.latency_ms).residuals)
            kernels_only = np.abs((sums + index.counts(truth.genomes) @ (overhead_ms * kernels)) / truth.latency_ms - 1)
            figures |= {
                f"{short}_within_3_percent": 100 * float((error <= 0.03).mean()),
                f"{short}_mean_error_percent": 100 * float(error.mean()),
                f"{short}_signed_error_percent": 100 * float(signed.mean()),
                f"{short}_hindsight_within_3_percent": 100 * float((hindsight <= 0.03).mean()),
                f"{short}_hindsight_mean_error_percent": 100 * float(hindsight.mean()),
                f"{short}_overhead_ms": predictor.card.parameters["overhead_ms"],
                f"{short}_scale": predictor.card.parameters["scale"],
                f"{short}_fetch_us_a_mb": predictor.card.parameters.get("fetch_us_a_mb", 0.0),
                f"{short}_kernels_only_within_3_percent": 100 * float((kernels_only <= 0.03).mean()),
                f"{short}_kernels_only_mean_error_percent": 100 * float(kernels_only.mean()),
                f"{short}_noise_floor_percent": 100 * float(np.nanmean(truth.noise_floor)),
                f"{short}_overhead_us_a_kernel": 1e3 * overhead_ms,
                f"{short}_counters_share_percent": 100 * table.additivity["counters_share"],
                f"{short}_layer_sum_over_end_to_end": table.additivity["median"],
                f"{short}_undisturbed_percent": 100 * table.interference["undisturbed_share"],
            }
            targets[f"{short}_within_3_percent"] = (">=", 95.0)
            print(
                combination, {key: round(value, 2) for key, value in figures.items() if key.startswith(short)}, file=sys.stderr, flush=True
            )
    return finish("additivity", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
