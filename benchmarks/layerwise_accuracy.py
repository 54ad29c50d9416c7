"""Layer-wise prediction of unseen sub-networks of OFA-MobileNetV3 (224 px, one thread), on both runtimes.

The table comes from at most 40 profiled sub-networks; 100 others are timed end to end in the same rounds and calibrate the
intervals; 200 more are only looked at here. The noise floor is the truth's own uncertainty: half the difference between odd
and even rounds. More ``--rounds`` lower it; an error near one per cent cannot be told from a truth that is off by as much.

Run it while nothing else does: ``python benchmarks/layerwise_accuracy.py [--quick]``, about 20 minutes a runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from report import finish

import layerclock as lc

if TYPE_CHECKING:
    from layerclock.profiler.progress import Progress

DEVICES = ("onnxruntime:cpu", "openvino:CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 profiled, 20 for calibration, 20 held out, 4 rounds")
    parser.add_argument("--device", choices=DEVICES, action="append", help="this runtime only")
    parser.add_argument("--space", default="ofa-mobilenetv3")
    parser.add_argument("--rounds", type=int, help="12 unless told, four with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="keep the campaigns here (and go on with them)")
    arguments = parser.parse_args()
    networks, calibration, holdout, rounds = (20, 20, 20, 4) if arguments.quick else (40, 100, 200, 12)
    rounds = arguments.rounds or rounds
    space = lc.load_space(arguments.space)
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.device or DEVICES:
            start = monotonic()
            folder = (arguments.output or Path(temporary)) / name.replace(":", "-")
            table = lc.profile(
                lc.open_device(name), space, folder, networks=networks, calibration=calibration, holdout=holdout, rounds=rounds,
                seed=arguments.seed, progress=_tell,
            )  # fmt: skip
            short = name.split(":")[0]
            for kind in ("layerwise", "endtoend"):
                predictor = lc.fit(table, space, kind)
                result = lc.evaluate(predictor, table)
                prefix = short if kind == "layerwise" else f"{short}_{kind}"
                figures |= {
                    f"{prefix}_mean_error_percent": 100 * result.mean_error,
                    f"{prefix}_largest_error_percent": 100 * result.largest_error,
                    f"{prefix}_within_5_percent": 100 * result.within_5_percent,
                    f"{prefix}_spearman": result.spearman,
                    f"{prefix}_inside_90_percent_interval": 100 * result.interval_coverage,
                    f"{prefix}_interval_off_percent": 100 * abs(result.interval_coverage - result.interval_level),
                }
            figures |= {
                f"{short}_rounds": rounds,
                f"{short}_noise_floor_percent": 100 * result.noise_floor,
                f"{short}_layer_sum_over_end_to_end": table.additivity["median"],
                f"{short}_campaign_minutes": (monotonic() - start) / 60,
            }
            targets |= {
                f"{short}_mean_error_percent": ("<=", 1.0),
                f"{short}_within_5_percent": (">=", 100.0),
                f"{short}_spearman": (">=", 0.98),
                # Between 87 and 93 % of the networks inside the 90 % interval.
                f"{short}_interval_off_percent": ("<=", 3.0),
            }
    return finish("layerwise_accuracy", figures, targets, arguments.quick)


def _tell(progress: Progress) -> None:
    if progress.done % 50 == 0 or progress.done == progress.total:
        print(f"{progress.stage} {progress.done}/{progress.total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
