"""Transfer for real on this machine: eight targets over one space, each in turn unseen and told from ten of its networks.

The targets differ in runtime (ONNX Runtime, OpenVINO), threads (one, two) and input size (128, 224 px): sub-networks of OFA-MobileNetV3,
the same ones on every target. The default predictor learns from the seven others, chooses ten networks of the eighth, and is judged on the
rest of those measured there. Beside it: the same without other devices, and the best other device. A different input size is another
space, whose genomes have the same meaning; its table takes part under the name of the first.

``python benchmarks/transfer_here.py [--quick]``, about 20 minutes while nothing else runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import finish, tell
from scipy.stats import spearmanr

import layerclock as lc
from layerclock.predictors.transfer.baselines import BestSourceDevice
from layerclock.predictors.transfer.gaussian import GaussianPrior
from layerclock.predictors.transfer.problem import Sources
from layerclock.profiler.plan import Plan
from layerclock.space import sample

TARGETS = tuple(
    (runtime, threads, resolution) for runtime in ("onnxruntime:cpu", "openvino:CPU") for threads in (1, 2) for resolution in (128, 224)
)
SAMPLES = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 networks, 2 rounds, 4 targets")
    parser.add_argument("--output", type=Path, help="keep the campaigns here (and go on with them)")
    arguments = parser.parse_args()
    number, rounds = (30, 2) if arguments.quick else (50, 3)
    targets = TARGETS[::2] if arguments.quick else TARGETS
    space = lc.load_space("ofa-mobilenetv3")
    genomes = sample(lc.SiteIndex.of(space), number, np.random.default_rng(0))
    latency_ms, noise = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for runtime, threads, resolution in targets:
            folder = (arguments.output or Path(temporary)) / f"{runtime.replace(':', '-')}-{threads}-{resolution}"
            # One network is profiled kernel by kernel, as a campaign needs; all others are timed end to end.
            table = lc.profile(
                lc.open_device(runtime, lc.DeviceOptions(threads=threads)), lc.load_space(f"ofa-mobilenetv3:resolution={resolution}"),
                folder, plan=Plan(genomes[:1], genomes[1:]), rounds=rounds, runs=5, progress=tell,
            )  # fmt: skip
            measured = {
                genome.tobytes(): ms
                for role in ("profiled", "holdout")
                for times in (table.networks(role),)
                for genome, ms in zip(times.genomes, times.latency_ms, strict=True)
            }
            latency_ms.append([measured.get(genome.tobytes(), np.nan) for genome in genomes])
            noise.append(float(np.nanmean(table.networks("holdout").noise_floor)))
    times = np.array(latency_ms).T
    names = tuple(f"{runtime.split(':')[0]}_{threads}t_{resolution}px" for runtime, threads, resolution in targets)
    figures: dict[str, float] = {}
    for unseen, name in enumerate(names):
        others = np.delete(np.arange(len(names)), unseen)
        sources = Sources(genomes, times[:, others], tuple(names[other] for other in others))
        prior = GaussianPrior.of(space, sources)
        usable = np.flatnonzero(np.isfinite(times[:, unseen]))
        rows = usable[prior.choose(genomes[usable], SAMPLES)]
        rest = np.setdiff1d(usable, rows)
        few, truth = (genomes[rows], times[rows, unseen]), times[rest, unseen]
        fitted = prior.adapt(*few)
        told = fitted.predict(genomes[rest])
        inside = np.abs(np.log(truth) - told.mean) <= fitted.interval_factor * told.std
        alone = GaussianPrior.of(space).adapt(*few).predict(genomes[rest])
        single = BestSourceDevice().fit(space, sources, *few).predict(genomes[rest])
        figures |= {
            f"{name}_spearman": float(spearmanr(told.mean, truth).statistic),
            f"{name}_mean_error_percent": 100 * float(np.abs(np.exp(told.mean) / truth - 1).mean()),
            f"{name}_in_interval_percent": 100 * float(inside.mean()),
            f"{name}_alone_spearman": float(spearmanr(alone.mean, truth).statistic),
            f"{name}_best_source_spearman": float(spearmanr(single.mean, truth).statistic),
            f"{name}_best_source_error_percent": 100 * float(np.abs(np.exp(single.mean) / truth - 1).mean()),
            f"{name}_noise_floor_percent": 100 * noise[unseen],
        }
    for what in (
        "spearman",
        "mean_error_percent",
        "in_interval_percent",
        "alone_spearman",
        "best_source_spearman",
        "best_source_error_percent",
    ):
        figures[f"mean_{what}"] = float(np.mean([figures[f"{name}_{what}"] for name in names]))
    return finish("transfer_here", figures, {}, arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
