"""From a campaign's raw samples to the rows of a latency table.

The runtime's counters cost time themselves. Where the kernels of a network sum to more than its end-to-end time, the
difference is that cost: it is divided evenly over the kernels (the median over all networks) and subtracted from each.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.devices.machine import conditions
from layerclock.errors import CampaignError, CoverageError
from layerclock.network import Kernel, Layer, TensorSpec
from layerclock.timing import LATENCY_QUANTILE, STEADY_HALF_WIDTH, Timing
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from layerclock.interfaces import KernelTimes
    from layerclock.profiler.store import CampaignFolder, CampaignRecord, Measurement
    from layerclock.space import SiteIndex

__all__ = ["summarise"]

FloatArray = npt.NDArray[np.float64]


@dataclass
class _Network:
    """All measurements of one network, joined over the rounds."""

    failure: str = ""
    end_to_end: list[FloatArray] = field(default_factory=list)
    kernels: tuple[Kernel, ...] = ()
    kernel_times: list[KernelTimes] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def add(self, measurement: Measurement) -> None:
        if measurement.failure:
            self.failure = measurement.failure
            return
        self.end_to_end.append(measurement.end_to_end_ns)
        self.rounds.append(measurement.round)
        if measurement.kernels is not None:
            # A kernel that takes less than the runtime's clock can tell may be reported in one round and not in another.
            self.kernels = tuple(dict.fromkeys((*self.kernels, *measurement.kernels.kernels)))
            if len({kernel.name for kernel in self.kernels}) != len(self.kernels):
                raise CampaignError("a network was executed as other kernels in a later round", "measure again in a fresh folder")
            self.kernel_times.append(measurement.kernels)

    @property
    def kernel_samples(self) -> list[FloatArray]:
        """For each round, float64[runs, kernels]; zero for a kernel that the round did not report."""
        position = {kernel: number for number, kernel in enumerate(self.kernels)}
        aligned = []
        for times in self.kernel_times:
            samples = np.zeros((len(times.samples_ns), len(self.kernels)))
            samples[:, [position[kernel] for kernel in times.kernels]] = times.samples_ns
            aligned.append(samples)
        return aligned

    def timing(self) -> Timing:
        return _timing(self.end_to_end, self.rounds)

    def counter_cost_ns(self) -> float:
        """What the counters add to each kernel, as far as this network shows: it may come out negative."""
        whole_runs = np.concatenate([samples.sum(axis=1) for samples in self.kernel_samples])
        with_counters = float(np.quantile(whole_runs, LATENCY_QUANTILE))
        return (with_counters - self.timing().latency_us * 1e3) / len(self.kernels)


@dataclass
class _Observations:
    """What was seen of one layer or kernel: a timing per network."""

    timings: list[Timing] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)


def _timing(samples: Sequence[FloatArray], rounds: Sequence[int]) -> Timing:
    numbers = [np.full(len(part), number) for part, number in zip(samples, rounds, strict=True)]
    return Timing(np.concatenate(samples), np.concatenate(numbers).astype(np.int64))


def summarise(folder: CampaignFolder, index: SiteIndex) -> LatencyTable:
    """The latency table of all that a campaign has measured so far.

    Raises :class:`CampaignError` on damaged parts or if nothing was measured.
    """
    record = folder.record()
    networks: dict[int, _Network] = defaultdict(_Network)
    for measurement in folder.measurements():
        networks[measurement.network].add(measurement)
    costs = [network.counter_cost_ns() for network in networks.values() if network.kernels]
    if not costs:
        reasons = sorted({network.failure for network in networks.values() if network.failure})
        raise CampaignError(f"no network could be profiled: {reasons[0] if reasons else 'nothing was measured'}", "check the device")
    counter_cost_ns = max(0.0, float(np.median(costs)))
    layers, kernels = _observe(networks, record, index, counter_cost_ns)
    rows = [_layer_row(index.vocabulary[number], layers[number], counter_cost_ns) for number in sorted(layers)]
    rows += [_kernel_row(kernel, kernels[kernel], counter_cost_ns) for kernel in kernels]
    rows += [_network_row(number, network, record, index) for number, network in sorted(networks.items())]
    provenance = Provenance(
        tool=f"layerclock {VERSION}",
        command=record.command,
        started_utc=record.started_utc,
        written_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions=conditions(),
    )
    additivity = _additivity(rows[: len(layers)], networks, record, index)
    return LatencyTable.from_rows(rows, record.target, record.space, record.space_digest, provenance, additivity)


def _observe(
    networks: Mapping[int, _Network], record: CampaignRecord, index: SiteIndex, counter_cost_ns: float
) -> tuple[dict[int, _Observations], dict[Kernel, _Observations]]:
    layers: dict[int, _Observations] = defaultdict(_Observations)
    kernels: dict[Kernel, _Observations] = defaultdict(_Observations)
    column = {site.name: position for position, site in enumerate(index.sites)}
    for number, network in networks.items():
        if not network.kernels:
            continue
        corrected = [samples - counter_cost_ns for samples in network.kernel_samples]
        here = index.layers(np.array([record.genomes[number]]))[0]
        of_site: dict[str, list[int]] = defaultdict(list)
        for position, kernel in enumerate(network.kernels):
            of_site[kernel.site].append(position)
            # The same kernel at several places is one thing: its name and site are left out of its identity.
            same = Kernel("", kernel.op, "", *_identity(kernel))
            kernels[same].timings.append(_timing([samples[:, position] for samples in corrected], network.rounds))
            kernels[same].kernels.append(1)
        for site, positions in of_site.items():
            layer = int(here[column[site]])
            # A layer's time in a run is the sum of its kernels' in that run, so that its quantiles are those of whole layers.
            layers[layer].timings.append(_timing([samples[:, positions].sum(axis=1) for samples in corrected], network.rounds))
            layers[layer].kernels.append(len(positions))
    if -1 in layers:
        raise CoverageError("kernels ran at a site where the space has no layer", "build() and the sites of the space disagree")
    return layers, kernels


def _identity(kernel: Kernel) -> tuple[Any, ...]:
    return kernel.fused_ops, kernel.inputs, kernel.outputs, kernel.attributes, kernel.layout, kernel.implementation


def _statistics(observed: _Observations) -> dict[str, Any]:
    latencies = np.array([timing.latency_us for timing in observed.timings])
    rounds = [timing.rounds for timing in observed.timings if timing.rounds is not None]
    pooled = Timing(np.concatenate([timing.samples_ns for timing in observed.timings]), np.concatenate(rounds))
    latency = float(np.median(latencies))
    low, high = _median_interval(latencies) if len(latencies) >= 5 else pooled.interval_us()
    half_width = (high - low) / 2 / latency if latency > 0 else float("inf")
    steady = half_width <= STEADY_HALF_WIDTH
    reason = (
        f"90 % interval of +-{half_width:.1%} is wider than +-{STEADY_HALF_WIDTH:.0%}" if latency > 0 else "faster than can be measured"
    )
    return {
        "n_networks": len(latencies),
        "n_samples": len(pooled.samples_ns),
        "latency_us": latency,
        **_spread(pooled),
        "interval_low_us": min(low, latency),
        "interval_high_us": max(high, latency),
        "noise_floor": pooled.noise_floor,
        "kernels": float(np.mean(observed.kernels)),
        "status": "steady" if steady else "noisy",
        "reason": "" if steady else reason,
    }


def _spread(timing: Timing) -> dict[str, float]:
    quantiles = {f"p{percent}_us": timing.quantile_us(percent / 100) for percent in (10, 25, 50, 75, 90)}
    return {"min_us": timing.quantile_us(0.0), **quantiles, "mean_us": timing.mean_us, "std_us": timing.std_us}


def _median_interval(values: FloatArray) -> tuple[float, float]:
    """90 % bootstrap interval of the median over networks (Efron and Tibshirani 1993, percentile method)."""
    draws = np.random.default_rng(0).integers(0, len(values), (400, len(values)))
    medians = np.median(values[draws], axis=1)
    return float(np.quantile(medians, 0.05)), float(np.quantile(medians, 0.95))


def _shapes(specs: Iterable[TensorSpec]) -> list[list[int]]:
    return [list(spec.shape) for spec in specs]


def _layer_row(layer: Layer, observed: _Observations, counter_cost_ns: float) -> dict[str, Any]:
    return {
        "level": "layer",
        "role": "profiled",
        "key": layer.key,
        "op": layer.op,
        "attributes": json.dumps(dict(layer.attributes), sort_keys=True),
        "in_shapes": _shapes(layer.inputs),
        "out_shapes": _shapes(layer.outputs),
        "dtype": layer.outputs[0].dtype,
        "macs": layer.macs,
        "params": layer.params,
        "bytes": sum(spec.bytes for spec in (*layer.inputs, *layer.outputs)) + 4 * layer.params,
        "method": "in-situ",
        "overhead_us": counter_cost_ns * float(np.mean(observed.kernels)) / 1e3,
        **_statistics(observed),
    }


def _kernel_row(kernel: Kernel, observed: _Observations, counter_cost_ns: float) -> dict[str, Any]:
    weights = [spec for spec in kernel.inputs[1:] if spec.shape and spec.shape[0] != 1] if kernel.attributes else []
    data = [spec for spec in kernel.inputs if spec not in weights]
    attributes = json.dumps(dict(kernel.attributes), sort_keys=True)
    shapes = " ".join(map(str, kernel.inputs)) + " -> " + " ".join(map(str, kernel.outputs))
    return {
        "level": "kernel",
        "role": "profiled",
        "key": f"{kernel.op}[{'+'.join(kernel.fused_ops)}]{attributes} {shapes} {kernel.layout} {kernel.implementation}",
        "op": kernel.op,
        "fused_ops": list(kernel.fused_ops),
        "attributes": attributes,
        "in_shapes": _shapes(data),
        "out_shapes": _shapes(kernel.outputs),
        "weight_shapes": _shapes(weights),
        "dtype": kernel.outputs[0].dtype if kernel.outputs else None,
        "layout": kernel.layout,
        "implementation": kernel.implementation,
        "bytes": sum(spec.bytes for spec in (*kernel.inputs, *kernel.outputs)) if kernel.outputs else None,
        "method": "in-situ",
        "overhead_us": counter_cost_ns / 1e3,
        **_statistics(observed),
    }


def _network_row(number: int, network: _Network, record: CampaignRecord, index: SiteIndex) -> dict[str, Any]:
    genome = np.array([record.genomes[number]])
    row: dict[str, Any] = {
        "level": "network",
        "role": "profiled" if number < len(record.profiled) else "holdout",
        "key": " ".join(map(str, record.genomes[number])),
        "op": record.space,
        "attributes": json.dumps(index.decode(genome[0]), sort_keys=True),
        "genome": list(record.genomes[number]),
        "macs": int(index.macs(genome)[0]),
        "params": int(index.params(genome)[0]),
        "method": "end-to-end",
        "n_networks": 1,
        "n_samples": sum(map(len, network.end_to_end)),
    }
    if network.failure or not network.end_to_end:
        return row | {"status": "failed", "reason": network.failure or "not measured"}
    timing = network.timing()
    low, high = timing.interval_us()
    status, reason = timing.verdict
    return row | {
        "latency_us": timing.latency_us,
        **_spread(timing),
        "interval_low_us": low,
        "interval_high_us": high,
        "noise_floor": timing.noise_floor,
        "overhead_us": 0.0,
        "kernels": float(len(network.kernels)) if network.kernels else None,
        "status": status,
        "reason": reason,
    }


def _additivity(
    layer_rows: Sequence[Mapping[str, Any]], networks: Mapping[int, _Network], record: CampaignRecord, index: SiteIndex
) -> dict[str, float]:
    """Sum of a network's layer rows over its end-to-end time, over the profiled networks."""
    latency = {row["key"]: row["latency_us"] for row in layer_rows}
    by_number = np.array([latency.get(layer.key, np.nan) for layer in index.vocabulary])
    usable = [number for number, network in networks.items() if network.kernels]
    sums = index.counts(np.array([record.genomes[number] for number in usable])) @ np.nan_to_num(by_number)
    ratios = sums / np.array([networks[number].timing().latency_us for number in usable])
    return {"median": float(np.median(ratios)), "lowest": float(ratios.min()), "highest": float(ratios.max())}
