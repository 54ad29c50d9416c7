"""Layer-wise prediction of unseen sub-networks of OFA-MobileNetV3 on a GPU: torch and ONNX Runtime with CUDA, batch 1 and 32.

The protocol is that of ``layerwise_accuracy``: 40 sub-networks profiled, 100 for the intervals, others only looked at. Where a device
cannot be used, its reason and remedy are printed and it has no figures; where none can, the benchmark holds nothing (``null``).

Run it while nothing else does: ``python benchmarks/gpu.py [--quick]``, about 20 minutes a device and batch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from report import finish, tell

import layerclock as lc

DEVICES = ("torch:cuda", "torch:cuda-graph", "onnxruntime:CUDAExecutionProvider")
BATCHES = (1, 32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 profiled, 20 for calibration, 20 held out, 4 rounds")
    parser.add_argument("--space", default="ofa-mobilenetv3")
    parser.add_argument("--output", type=Path, help="keep the campaigns here (and go on with them)")
    arguments = parser.parse_args()
    listed = {entry.name: entry for entry in lc.find_devices()}
    usable = [name for name in DEVICES if name in listed and listed[name].available]
    for name in DEVICES:
        if name not in usable:
            entry = listed.get(name)
            print(f"{name} is not measured: {entry.reason}; {entry.hint}" if entry else f"{name} is not measured: it is not known here")
    if not usable:
        print(json.dumps({"benchmark": "gpu", "quick": arguments.quick, "figures": {}, "targets": {}, "holds": None}))
        return 0
    networks, calibration, holdout, rounds = (20, 20, 20, 4) if arguments.quick else (40, 100, 200, 8)
    space = lc.load_space(arguments.space)
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in usable:
            for batch in BATCHES:
                short = f"{name.replace(':', '_')}_batch_{batch}"
                table = lc.profile(
                    lc.open_device(name, lc.DeviceOptions(batch=batch)), space, (arguments.output or Path(temporary)) / short,
                    networks=networks, calibration=calibration, holdout=holdout, rounds=rounds, progress=tell,
                )  # fmt: skip
                result = lc.evaluate(lc.fit(table, space), table)
                figures |= {
                    f"{short}_mean_error_percent": 100 * result.mean_error,
                    f"{short}_within_5_percent": 100 * result.within_5_percent,
                    f"{short}_spearman": result.spearman,
                    f"{short}_noise_floor_percent": 100 * result.noise_floor,
                    f"{short}_layer_sum_over_end_to_end": table.additivity["median"],
                }
                targets |= {f"{short}_mean_error_percent": ("<=", 1.0), f"{short}_within_5_percent": (">=", 100.0)}
    return finish("gpu", figures, targets, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
