"""How well do end-to-end predictors learn from few samples? Error and Kendall's tau after 20, 50, 100 and 250 of them.

On latency measured here (OFA-MobileNetV3 at 224 px on ONNX Runtime, one thread; no kernel is counted); on ImageNet accuracies
of once-for-all's sub-networks that DyNAS-T measured (its published search runs: LAYERCLOCK_DATA/dynast/*.csv); and on published latencies
of FBNet networks on six devices of other kinds (HW-NAS-Bench's, LAYERCLOCK_DATA/fbnet_latency.parquet). The last two are left out where
LAYERCLOCK_DATA is not set. Each number is the mean over draws of the samples, or over devices; the truth is all other networks, whose own
noise bounds what a predictor of latency can have (``latency_tau_of_the_truth_itself``). Beside them stand the figures of DyNAS-T's own
predictors: ridge latency predictors on MobileNetV3 .93 to .98, accuracy .857 at 100 and .908 at 250.

``python benchmarks/endtoend_accuracy.py [--quick]``, about 30 minutes, on a busy machine an hour.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from report import finish, tell
from scipy.stats import kendalltau

import layerclock as lc
from layerclock.datasets.public.wide_parquet import read_wide_parquet
from layerclock.predictors.endtoend import MODELS, EndToEnd
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3

FloatArray = npt.NDArray[np.float64]

SAMPLES = (20, 50, 100, 250)
# DyNAS-T's accuracy predictor on the same networks; its latency predictors' range on MobileNetV3.
THEIR_ACCURACY_TAU = {100: 0.857, 250: 0.908}
THEIR_LATENCY_TAU = (0.93, 0.98)
FBNET_DEVICES = ("raspi4", "gold_6240", "1080ti_1", "pixel3", "eyeriss", "fpga")
FBNET_NETWORKS = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 and 50 samples, 60 networks measured in four rounds, one draw")
    parser.add_argument("--output", type=Path, help="keep the campaign here (and go on with it)")
    arguments = parser.parse_args()
    samples = SAMPLES[:2] if arguments.quick else SAMPLES
    draws = 1 if arguments.quick else 3
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    space = ofa_mobilenetv3()
    index = lc.SiteIndex.of(space)
    data = os.environ.get("LAYERCLOCK_DATA")
    if data:
        known, accuracy = _accuracies(Path(data) / "dynast", index)
        _compare("accuracy", index, known, [accuracy], samples, draws, figures)
        targets |= {f"accuracy_tau_{n}": (">", tau) for n, tau in THEIR_ACCURACY_TAU.items() if n in samples}
        fbnet, networks, latencies = _fbnet(Path(data) / "fbnet_latency.parquet")
        _compare("fbnet", fbnet, networks, latencies[:2] if arguments.quick else latencies, samples, 1, figures)
    else:
        print("LAYERCLOCK_DATA is not set: accuracies and FBNet's latencies are left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        holdout, rounds = (60, 4) if arguments.quick else (420, 6)
        table = lc.profile(lc.open_device("onnxruntime:cpu"), space, folder, networks=14, holdout=holdout, rounds=rounds, progress=tell)
    truth = table.networks("holdout")
    figures["latency_noise_floor_percent"] = 100 * float(np.nanmean(truth.noise_floor))
    figures["latency_tau_of_the_truth_itself"] = _tau_of_the_truth(truth.latency_ms, truth.noise_floor)
    _compare("latency", index, truth.genomes, [truth.latency_ms], samples, draws, figures)
    targets |= {f"latency_tau_{n}": (">=", THEIR_LATENCY_TAU[1 if n == max(SAMPLES) else 0]) for n in samples if n >= 100}
    return finish("endtoend_accuracy", figures, targets, arguments.quick)


def _accuracies(folder: Path, index: lc.SiteIndex) -> tuple[npt.NDArray[np.int64], FloatArray]:
    space = ofa_mobilenetv3()
    rows = [row for path in sorted(folder.glob("*.csv")) for row in csv.DictReader(path.open())]
    genomes = index.canonical(np.array([space.from_ofa(ast.literal_eval(row["Sub-network"])) for row in rows]))
    _, once = np.unique(genomes, axis=0, return_index=True)
    return genomes[once], np.array([float(row["Top-1 Acc (%)"]) for row in rows])[once]


def _fbnet(path: Path) -> tuple[lc.SiteIndex, npt.NDArray[np.int64], list[FloatArray]]:
    published = read_wide_parquet(path)
    drawn = np.random.default_rng(0).permutation(len(published.genomes))[:FBNET_NETWORKS]
    columns = [published.latency_ms[drawn, published.devices.index(device)] for device in FBNET_DEVICES]
    return lc.SiteIndex.of(lc.load_space(published.space)), published.genomes[drawn], columns


def _tau_of_the_truth(values: FloatArray, noise_floor: FloatArray) -> float:
    """What a perfect predictor would have: tau between latencies and the same with their own noise, mean over draws."""
    generator, deviation = np.random.default_rng(0), float(np.sqrt(np.nanmean(noise_floor**2)))
    noisy = (values * (1 + deviation * generator.standard_normal(len(values))) for _ in range(20))
    return float(np.mean([kendalltau(one, values).statistic for one in noisy]))


def _compare(
    name: str,
    index: lc.SiteIndex,
    genomes: npt.NDArray[np.int64],
    truths: list[FloatArray],
    samples: tuple[int, ...],
    draws: int,
    figures: dict[str, float],
) -> None:
    """One line for each number of samples and regressor; the figures are of the one that cross-validation chooses, and of ridge."""
    print(f"\n{name}: {len(genomes)} networks; mean error and Kendall's tau on those that were not samples")
    for number in samples:
        found: dict[str, list[tuple[float, float]]] = {}
        picked = []
        for values, draw in product(truths, range(draws)):
            order = np.random.default_rng(draw).permutation(len(values))
            given, rest = order[:number], order[number:]
            for label, candidates in (("chosen", MODELS), *((one, (one,)) for one in MODELS)):
                model = EndToEnd.choose(index, genomes[given], values[given], candidates)
                predicted = model.predict(genomes[rest])
                error = float(np.abs(predicted / values[rest] - 1).mean())
                found.setdefault(label, []).append((error, float(kendalltau(predicted, values[rest]).statistic)))
                if label == "chosen":
                    picked.append(model.chosen.name)
        for label, each in found.items():
            error, tau = np.mean(each, axis=0)
            note = f"  ({', '.join(picked)})" if label == "chosen" else ""
            print(f"  {number:4d} samples  {label:<18} error {100 * error:5.2f} %  tau {tau:.3f}{note}", flush=True)
        for label, beside in (("chosen", ""), ("ridge", "ridge_")):
            error, tau = np.mean(found[label], axis=0)
            figures |= {f"{name}_{beside}error_percent_{number}": 100 * float(error), f"{name}_{beside}tau_{number}": float(tau)}


if __name__ == "__main__":
    sys.exit(main())
