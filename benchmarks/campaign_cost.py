"""How good is a layer-wise predictor after so many minutes of campaign? OFA-MobileNetV3 at 224 px, one thread.

One campaign holds everything, so that all is judged by the same minutes of the machine: 40 networks of a covering plan, 40
uniformly random ones, 20 for calibration, as ``layerclock profile`` adds them, and 60 unseen ones, in rounds. Afterwards the
tables that a user would have had after each round are made from the parts of one kind, with the networks for calibration, and
held against the unseen networks. What such a campaign would have cost is the time that its own exports (into an empty cache),
loads and measurements took. Beside them, as ``without_calibration``, the same without these networks, and every layer exported,
loaded and timed alone, as older tools do.

``python benchmarks/campaign_cost.py [--quick]``, about 20 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from report import finish, tell

import layerclock as lc
from layerclock.devices.export import calibrate_normalisation, export_network
from layerclock.errors import DeviceError
from layerclock.interfaces import ModelFile
from layerclock.predictors.layerwise import fit_terms
from layerclock.profiler.measurement import Order
from layerclock.profiler.observations import Observed
from layerclock.profiler.plan import Plan, make_plan
from layerclock.profiler.store import CampaignFolder
from layerclock.profiler.worker import WorkerPool
from layerclock.space import sample

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from layerclock.interfaces import Device, SearchSpace
    from layerclock.profiler.progress import Progress

    FloatArray = npt.NDArray[np.float64]

DEVICES = ("onnxruntime:cpu", "openvino:CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 networks of each kind, 20 unseen, four rounds")
    parser.add_argument("--device", choices=DEVICES, action="append", help="this runtime only")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    each, holdout, more, rounds = (20, 20, 10, 4) if arguments.quick else (40, 60, 20, arguments.rounds)
    space = lc.load_space("ofa-mobilenetv3")
    index = lc.SiteIndex.of(space)
    covering = make_plan(index, each)
    generator = np.random.default_rng(1)
    at_random = sample(index, each, generator, exclude=covering.profiled)
    profiled = np.concatenate([covering.profiled, at_random])
    beside = sample(index, holdout + more, generator, exclude=profiled)
    plan = Plan(profiled, beside[:holdout], beside[holdout:])
    calibration = [*range(len(profiled) + holdout, len(profiled) + holdout + more)]
    kinds = {
        "covering": [*range(each), *calibration],
        "random": [*range(each, 2 * each), *calibration],
        "without_calibration": [*range(each)],
    }
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    for name in arguments.device or DEVICES:
        short = name.split(":")[0]
        device = lc.open_device(name)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LAYERCLOCK_CACHE"] = str(Path(folder) / "cache")
            load_s = _profile(device, space, plan, Path(folder) / "campaign", rounds)
            store = CampaignFolder(Path(folder) / "campaign")
            alone_us, alone_s = _isolated(device, space, index, plan, Path(folder))
            everything = _Everything(store, index, plan)
            print(f"\n{name}: mean and largest error, within 5 %, after minutes of campaign, export included")
            for kind, numbers in kinds.items():
                for done in range(1, rounds + 1):
                    rows_us, own_us, measured_s = everything.campaign(numbers, done)
                    minutes = (load_s * len(numbers) + measured_s) / 60
                    errors = everything.errors(rows_us, numbers, own_us)
                    _show(figures, f"{short}_{kind}_{done}_rounds", minutes, errors)
                    if kind == "covering" and minutes <= 5:
                        _show(figures, f"{short}_in_5_minutes", minutes, errors)
            # To the isolated layers, too, an overhead and a scale are fitted, with all the end-to-end times that there are.
            own_us = everything.latency_us(kinds["covering"])
            _show(figures, f"{short}_isolated", alone_s / 60, everything.errors(alone_us, kinds["covering"], own_us))
            raw = everything.sums(alone_us, everything.unseen) / everything.latency_us(everything.unseen)
            figures[f"{short}_isolated_sum_over_end_to_end"] = float(np.median(raw))
            figures[f"{short}_noise_floor_percent"] = everything.noise_percent
            figures[f"{short}_undisturbed_percent"] = everything.undisturbed_percent
        targets |= {
            f"{short}_in_5_minutes_mean_error_percent": ("<=", 1.2),
            f"{short}_in_5_minutes_within_5_percent": (">=", 100.0),
            f"{short}_in_5_minutes_minutes": ("<=", 5.0),
        }
    figures |= {target: float("inf") if sign == "<=" else 0.0 for target, (sign, _) in targets.items() if target not in figures}
    return finish("campaign_cost", figures, targets, arguments.quick)


def _show(figures: dict[str, float], name: str, minutes: float, error: FloatArray) -> None:
    mean, largest, within = 100 * float(error.mean()), 100 * float(error.max()), 100 * float((error <= 0.05).mean())
    figures |= {
        f"{name}_minutes": minutes,
        f"{name}_mean_error_percent": mean,
        f"{name}_largest_error_percent": largest,
        f"{name}_within_5_percent": within,
    }
    print(f"  {name:<36} {minutes:6.2f} min  mean {mean:5.2f} %  largest {largest:5.1f} %  within 5 %: {within:3.0f} %", flush=True)


def _profile(device: Device, space: SearchSpace, plan: Plan, folder: Path, rounds: int) -> float:
    """Run the campaign; returns the seconds that export and loading took, for each network."""
    seconds = 0.0
    last = monotonic()

    def watch(progress: Progress) -> None:
        nonlocal seconds, last
        now = monotonic()
        if loading[0]:
            seconds += now - last
        loading[0], last = progress.stage == "export and load", now
        tell(progress)

    loading = [True]
    lc.profile(device, space, folder, plan=plan, rounds=rounds, progress=watch)
    return seconds / (len(plan.profiled) + len(plan.holdout) + len(plan.calibration))


class _Everything:
    """The campaign's parts, from which the tables of smaller campaigns are made; the truth is what all rounds give."""

    def __init__(self, store: CampaignFolder, index: lc.SiteIndex, plan: Plan) -> None:
        self._index, self._record = index, store.record()
        self._measurements = list(store.measurements())
        self._genomes = np.concatenate([plan.profiled, plan.holdout, plan.calibration])
        self._seen = self._observe(range(len(self._genomes)), 1000)
        self.unseen = np.arange(len(plan.profiled), len(plan.profiled) + len(plan.holdout))
        self._timings = self._seen.end_to_end()
        self.noise_percent = 100 * float(np.nanmean([self._timings[number].noise_floor for number in self.unseen.tolist()]))
        self.undisturbed_percent = 100 * self._seen.interference()["undisturbed_share"]

    def _observe(self, numbers: Collection[int], rounds: int) -> Observed:
        seen = Observed(self._record, self._index)
        for measurement in self._measurements:
            if measurement.network in numbers and measurement.round < rounds:
                seen.add(measurement)
        return seen

    def campaign(self, numbers: Collection[int], rounds: int) -> tuple[FloatArray, FloatArray, float]:
        """What a campaign of these networks gives: layer rows in us, float64[V] (NaN: not measured), their end-to-end times in
        us, and the seconds of measuring.
        """
        seen = self._observe(numbers, rounds)
        rows = np.full(len(self._index.vocabulary), np.nan)
        for layer, part in seen.layers(seen.counter_cost_ns()).items():
            rows[layer] = part.estimate_us[0]
        seconds = sum(m.facts["measured_s"] for network in seen.networks.values() for m in network.rounds)
        timings = seen.end_to_end()
        own = np.array([timings[number].latency_us for number in numbers])
        return rows, own, seconds

    def latency_us(self, numbers: npt.ArrayLike) -> FloatArray:
        """End-to-end times."""
        return np.array([self._timings[int(number)].latency_us for number in np.asarray(numbers)])

    def sums(self, rows_us: FloatArray, numbers: npt.ArrayLike) -> FloatArray:
        """Sum of the rows; a layer that a plan missed takes the mean of its kind's rows, as a user would have to."""
        filled = rows_us.copy()
        ops = np.array([layer.op for layer in self._index.vocabulary])
        for op in set(ops):
            known = rows_us[(ops == op) & np.isfinite(rows_us)]
            filled[(ops == op) & ~np.isfinite(rows_us)] = known.mean() if len(known) else 0.0
        sums: FloatArray = self._index.counts(self._genomes[np.asarray(numbers)]) @ filled
        return sums

    def errors(self, rows_us: FloatArray, numbers: Sequence[int], own_us: FloatArray) -> FloatArray:
        """Relative errors on the unseen networks, with the terms fitted to the campaign's own, as ``fit`` does."""
        own, unseen = (self._index.params(self._genomes[which]) for which in (np.array(numbers), self.unseen))
        terms = fit_terms(self.sums(rows_us, np.array(numbers)) / 1e3, own, own_us / 1e3)
        predicted_ms = terms.overhead_ms + terms.beside_overhead_ms(self.sums(rows_us, self.unseen) / 1e3, unseen)
        errors: FloatArray = np.abs(1e3 * predicted_ms / self.latency_us(self.unseen) - 1)
        return errors


def _isolated(device: Device, space: SearchSpace, index: lc.SiteIndex, plan: Plan, folder: Path) -> tuple[FloatArray, float]:
    """Every layer exported and timed alone: us float64[V], and the seconds that it took."""
    start = monotonic()
    rows = np.full(len(index.vocabulary), np.nan)
    at_rest = 0.0
    with WorkerPool(device, 60.0, folder / "log") as pool:
        for genome in plan.profiled:
            placed = dict(zip(index.layers(genome[None])[0].tolist(), [site.name for site in index.sites], strict=True))
            wanted = [(layer, site) for layer, site in placed.items() if layer >= 0 and np.isnan(rows[layer])]
            if not wanted:
                continue
            network = space.build(genome)
            calibrate_normalisation(network, [(torch.randn(8, *space.inputs[0].shape[1:]),)])
            for layer, site in wanted:
                shape = index.vocabulary[layer].inputs[0].shape
                path = folder / f"layer{layer}.onnx"
                export_network(_Alone(network.get_submodule(site)), path, (torch.randn(shape),), ("layer",))
                worker = pool.start()
                try:
                    worker.load(ModelFile(path, str(layer), ("layer",)))
                    worker.wait()
                    at_rest = at_rest or float(np.quantile(worker.rest_readings(), 0.02))
                    measurement = replace(worker.measure(Order(40, 80, 30.0, at_rest, profiled=False)), network=0, round=0)
                    rows[layer] = float(np.quantile(measurement.end_to_end_ns, 0.1)) / 1e3
                except DeviceError as error:
                    print(f"layer {index.vocabulary[layer].key}: {error}", file=sys.stderr)
                finally:
                    worker.close()
    return rows, monotonic() - start


class _Alone(torch.nn.Module):
    """One layer as a network of its own."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)
        return result


if __name__ == "__main__":
    sys.exit(main())
