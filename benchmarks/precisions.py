"""INT8 and BF16 against FP32 on both CPU runtimes: latency, accuracy on the digits super-network, and layer-wise error in INT8.

Latencies are taken side by side: the same networks are loaded in every precision, and run in turns; a ratio is the median over the
networks of the lower quartiles' ratio. Accuracy is that of networks with the super-network's weights on the digits held out, as each
device runs them, beside float32. The layer-wise predictor is fitted to a campaign in INT8 and judged on networks that it never saw.
A precision that a runtime cannot run here is named, and has no figure.

Run it while nothing else does: ``python benchmarks/precisions.py [--quick] [--space digits-mobilenetv3]``, about half an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from report import finish, tell

import layerclock as lc
from layerclock.devices.export import Exporter, write_real_inputs
from layerclock.errors import DeviceUnavailableError
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from layerclock.interfaces import Device, SearchSpace

DEVICES = ("onnxruntime:cpu", "openvino:CPU")
PRECISIONS = ("fp32", "bf16", "int8")
# Networks, rounds; seconds of training, networks judged; and of the campaign: profiled, calibration, holdout, rounds.
_USUAL = (20, 40, 90.0, 20, 40, 40, 60, 8)
_QUICK = (3, 8, 15.0, 2, 12, 0, 6, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few networks, little training, two rounds")
    parser.add_argument("--space", default="digits-mobilenetv3", help="whose networks are timed")
    parser.add_argument("--output", type=Path, help="keep the campaigns here (and go on with them)")
    arguments = parser.parse_args()
    networks, rounds, seconds, judged, profiled, calibration, holdout, campaign_rounds = _QUICK if arguments.quick else _USUAL
    space = lc.load_space(arguments.space)
    able = {name: _able(name, space) for name in DEVICES}
    figures = _latency_ratios(able, space, networks, rounds) | _accuracy_drops(able, seconds, judged)
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, devices in able.items():
            folder = (arguments.output or Path(temporary)) / name.replace(":", "-")
            table = lc.profile(
                devices["int8"], space, folder, networks=profiled, calibration=calibration, holdout=holdout, rounds=campaign_rounds,
                progress=tell,
            )  # fmt: skip
            result = lc.evaluate(lc.fit(table, space), table)
            short = name.split(":")[0]
            figures |= {
                f"{short}_int8_layerwise_error_percent": 100 * result.mean_error,
                f"{short}_int8_within_5_percent": 100 * result.within_5_percent,
                f"{short}_int8_noise_floor_percent": 100 * result.noise_floor,
            }
            targets[f"{short}_int8_layerwise_error_percent"] = ("<=", 2.0)
    return finish("precisions", figures, targets, arguments.quick)


def _able(name: str, space: SearchSpace) -> dict[str, Device]:
    """The device in each precision in which it really runs a network of the space."""
    devices: dict[str, Device] = {}
    model = Exporter(space)([0] * len(space.genes))
    for precision in PRECISIONS:
        try:
            device = lc.open_device(name, lc.DeviceOptions(precision=precision))
            device.load(model).close()
            devices[precision] = device
        except DeviceUnavailableError as error:
            print(f"{name} {precision}: {error}", file=sys.stderr)
    return devices


def _latency_ratios(able: dict[str, dict[str, Device]], space: SearchSpace, networks: int, rounds: int) -> dict[str, float]:
    export, real = Exporter(space), write_real_inputs(space)
    ratios: dict[str, list[float]] = {}
    for genome in sample(SiteIndex.of(space), networks, np.random.default_rng(0)):
        model = export(genome)
        model = replace(model, calibration=real)
        sessions = {(name, precision): device.load(model) for name, each in able.items() for precision, device in each.items()}
        for session in sessions.values():
            session.run()
        times = np.array([[session.run() for session in sessions.values()] for _ in range(rounds)])
        quartile = dict(zip(sessions, np.quantile(times, 0.25, axis=0).tolist(), strict=True))
        for (name, precision), time_ns in quartile.items():
            if precision != "fp32":
                ratios.setdefault(f"{name.split(':')[0]}_{precision}_over_fp32", []).append(time_ns / quartile[name, "fp32"])
        for session in sessions.values():
            session.close()
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _accuracy_drops(able: dict[str, dict[str, Device]], seconds: float, judged: int) -> dict[str, float]:
    from layerclock.search.supernet.evaluator import digits_supernet

    evaluator = digits_supernet(seconds=seconds)
    genomes = sample(SiteIndex.of(evaluator.space), judged, np.random.default_rng(1))
    figures = {"float32_accuracy_percent": float(np.mean(evaluator.evaluate(genomes)))}
    for name, devices in able.items():
        for precision, device in devices.items():
            found = lc.accuracy_on_device(device, evaluator, genomes)
            figures[f"{name.split(':')[0]}_{precision}_accuracy_drop_points"] = found.drop_points
    return figures


if __name__ == "__main__":
    sys.exit(main())
