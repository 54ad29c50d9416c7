"""How well are whole networks predicted that no campaign ever saw, from the kernels that the runtime makes of them?

For each runtime: a campaign over composite networks (15 minutes, export and fits between its waves included), and the published
networks of ``real_networks.py`` profiled in turns with it, so that both see the same minutes of the machine. The predictor sees no
time of any of these; in a second row it is calibrated by one factor on the end-to-end times of 5 of them, and held against the others.
Beside it: what the networks' own measured kernels sum to (the floor), and two baselines fitted to the composites' end-to-end
times: floating-point operations alone, and the roofline of each kernel. nn-Meter's and LitePred's rows are as published, on other
devices and networks.

Features and model were settled before the first error on these networks was seen; ``LOOKS`` says how often that was done since.

``python benchmarks/kernelwise_accuracy.py [--quick] [--device onnxruntime:cpu]``, about 25 minutes a runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from real_networks import NETWORKS, export_all
from report import finish, tell

import layerclock as lc
from layerclock.predictors.evaluate_kernels import evaluate_kernelwise
from layerclock.predictors.kernel_features import work
from layerclock.predictors.kernelwise import errors_by_gene, fit_kernelwise, kernel_rows
from layerclock.profiler.composite_campaign import profile_composites
from layerclock.profiler.files import profile_files
from layerclock.profiler.store import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device
    from layerclock.predictors.kernelwise import KernelRows
    from layerclock.predictors.portable_kernels import KernelPredictor

    FloatArray = npt.NDArray[np.float64]

DEVICES = ("onnxruntime:cpu", "openvino:CPU")
# How many times the errors on these networks were looked at while features or model were still changed.
LOOKS = 6
_CALIBRATION = 5
_TURNS = 4
_DRAWS = 20
_QUICK = ("resnet18", "mobilenetv2_100", "efficientnet_b0", "squeezenet_v1_1", "vit_tiny", "bert_mini", "shufflenetv2_w1", "densenet121")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a campaign of three minutes and eight networks")
    parser.add_argument("--device", choices=DEVICES, action="append", help="this runtime only")
    parser.add_argument("--output", type=Path, help="keep networks, campaigns and predictors here (and go on with them)")
    arguments = parser.parse_args()
    names, budget_s = (_QUICK, 180.0) if arguments.quick else (tuple(NETWORKS), 900.0)
    figures: dict[str, float] = {"looks": float(LOOKS)}
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        paths = export_all(folder / "networks", names)
        figures["networks"] = float(len(paths))
        targets["networks"] = (">=", len(names) if arguments.quick else 30)
        for name in arguments.device or DEVICES:
            short = name.split(":")[0]
            device = lc.open_device(name)
            own, truth, spent_s = _campaigns(device, paths, folder / short, budget_s)
            figures[f"{short}_campaign_minutes"] = spent_s / 60
            predictor = fit_kernelwise(own)
            predictor.save(folder / f"{short}.onnx")
            _report(figures, short, predictor, own, truth, [path.stem for path in paths])
            figures[f"{short}_query_ms_60_kernels"] = _query_ms(predictor, own)
            targets |= {
                f"{short}_mean_error_percent": ("<=", 5.0),
                f"{short}_within_5_percent": (">=", 75.0),
                f"{short}_within_10_percent": (">=", 92.0),
                f"{short}_query_ms_60_kernels": ("<=", 5.0),
            }
    print("published, on other devices and networks: nn-Meter, mobile CPU: within 5 / 10 %: 74.4 / 99.0 %; LitePred: 90.5 / 98.9 %")
    return finish("kernelwise_accuracy", figures, targets, arguments.quick)


def _campaigns(device: Device, paths: list[Path], folder: Path, budget_s: float) -> tuple[LatencyTable, LatencyTable, float]:
    """Composites and published networks in turns: a quarter of the budget, two rounds of the others, and so on."""

    def errors(table: LatencyTable) -> dict[str, float]:
        return errors_by_gene(table, "theme")

    composites, spent_s = CampaignFolder(folder / "composites"), 0.0
    for part in range(1, _TURNS + 1):
        # A folder knows what measuring took; the fits between the waves of the turns before come off this one's time.
        known_s = composites.done().spent_s if spent_s else 0.0
        start = monotonic()
        own = profile_composites(
            device, composites.path, budget_s=known_s + budget_s * part / _TURNS - spent_s, errors=errors, seed=part, progress=tell
        )
        spent_s += monotonic() - start
        truth = profile_files(device, paths, folder / "published", rounds=2 * part, runs=6, progress=tell)
    return own, truth, spent_s


def _report(
    figures: dict[str, float], short: str, predictor: KernelPredictor, own: LatencyTable, truth: LatencyTable, names: list[str]
) -> None:
    result = evaluate_kernelwise(predictor, truth)
    measured = result.measured_ms
    relative = result.predicted_ms / measured - 1
    rows = kernel_rows(truth)
    print(f"\n{truth.target}: {len(measured)} published networks")
    missing = set(names) - set(result.names)
    if missing:
        print(f"  without a measurement: {', '.join(sorted(missing))}")
    figures["networks"] = min(figures["networks"], float(len(measured)))
    _show(figures, short, "", relative)
    calibrated = _calibrated(result.predicted_ms, measured)
    _show(figures, short, "_calibrated_on_5", calibrated)
    own_us = np.array([predictor.card.combination.total_us(rows.times_us[k]) for k in rows.networks])
    _show(figures, short, "_floor", own_us / 1e3 / measured - 1)
    _show(figures, short, "_flops_only", _baseline(kernel_rows(own), rows, lambda r: [work(r.kernels)[0]]) / 1e3 / measured - 1)
    roofline = predictor.card.roofline
    _show(
        figures, short, "_roofline_only",
        _baseline(kernel_rows(own), rows, lambda r: [roofline.time_us(*work(r.kernels))]) / 1e3 / measured - 1,
    )  # fmt: skip
    figures |= {
        f"{short}_spearman": result.networks.spearman,
        f"{short}_interval_coverage_percent": 100 * result.networks.interval_coverage,
        f"{short}_noise_floor_percent": 100 * result.networks.noise_floor,
        f"{short}_known_share_percent": 100 * result.coverage,
        f"{short}_campaign_networks": float(len(kernel_rows(own).networks)),
        f"{short}_campaign_kernels": float(len(kernel_rows(own).kernels)),
        f"{short}_undisturbed_percent": 100 * truth.interference.get("undisturbed_share", float("nan")),
    }
    each = zip(result.names, relative, own_us / 1e3 / measured - 1, strict=True)
    for name, error, own_error in sorted(each, key=lambda one: -abs(one[1])):
        print(f"    {name:<20} {100 * error:+6.1f} %   own kernels {100 * own_error:+6.1f} %")
    for name, (signed, error, number, share) in sorted(result.by_kernel_family.items(), key=lambda one: -one[1][3]):
        print(f"    {name:<24} {share:5.0%} of the time  {number:4d} kernels  error {error:6.1%}  signed {signed:+6.1%}")
    sys.stdout.flush()


def _show(figures: dict[str, float], short: str, what: str, relative: FloatArray) -> None:
    error = 100 * np.abs(relative)
    figures |= {
        f"{short}{what}_mean_error_percent": float(error.mean()),
        f"{short}{what}_within_5_percent": 100 * float((error <= 5).mean()),
        f"{short}{what}_within_10_percent": 100 * float((error <= 10).mean()),
        f"{short}{what}_signed_percent": 100 * float(relative.mean()),
    }
    print(
        f"  {short + what:<34} mean {error.mean():5.1f} %  within 5 / 10 %: {(error <= 5).mean():4.0%} / {(error <= 10).mean():4.0%}  "
        f"largest {error.max():5.1f} %  signed {100 * relative.mean():+5.1f} %"
    )


def _calibrated(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """Relative errors on the networks that gave no factor, over draws of the five that gave it."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(_DRAWS):
        given = generator.permutation(len(measured))[:_CALIBRATION]
        factor = np.median(measured[given] / predicted[given])
        found.append(np.delete(predicted * factor / measured - 1, given))
    return np.concatenate(found)


def _baseline(own: KernelRows, truth: KernelRows, features: Callable[[KernelRows], list[FloatArray]]) -> FloatArray:
    """Latencies in us of ``truth``'s networks, by constant and slope of relative least squares on ``own``'s."""

    def design(rows: KernelRows) -> FloatArray:
        each = np.column_stack(features(rows))
        return np.column_stack([np.ones(len(rows.networks)), np.array([each[kernels].sum(axis=0) for kernels in rows.networks])])

    known = design(own) / own.latency_us[:, None]
    coefficients = np.linalg.lstsq(known, np.ones(len(known)), rcond=None)[0]
    times: FloatArray = design(truth) @ coefficients
    return times


def _query_ms(predictor: KernelPredictor, own: LatencyTable) -> float:
    kernels = kernel_rows(own).kernels[:60]
    predictor.predict(kernels)
    times = []
    for _ in range(20):
        start = perf_counter()
        predictor.predict(kernels)
        times.append(1e3 * (perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    sys.exit(main())
