"""From what a campaign has seen to the rows of a latency table."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.kernels import bytes_of, kernel_columns, kernel_key, shapes_of
from layerclock.datasets.schema import FAILED_LATER
from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.errors import CampaignError
from layerclock.profiler.clock import PACING
from layerclock.profiler.observations import Observed, interval_us
from layerclock.timing import STEADY_HALF_WIDTH
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.network import Kernel, Layer
    from layerclock.profiler.observations import NetworkSeen, Part
    from layerclock.profiler.store import CampaignFolder, CampaignRecord
    from layerclock.space import SiteIndex
    from layerclock.timing import Timing

__all__ = ["summarise"]


def summarise(folder: CampaignFolder, index: SiteIndex, conditions: Mapping[str, str]) -> LatencyTable:
    """The latency table of all that a campaign has measured so far; ``conditions`` are those of the machine that measured.

    Raises :class:`CampaignError` on damaged parts or if nothing was measured.
    """
    record = folder.record()
    seen = Observed(record, index)
    boards: Counter[str] = Counter()
    for measurement in folder.measurements():
        seen.add(measurement)
        boards[measurement.board] += bool(measurement.board)
    cost_ns = seen.counter_cost_ns()
    if not np.isfinite(cost_ns):
        reasons = sorted({network.failure for network in seen.networks.values() if network.failure})
        if not reasons:
            raise CampaignError("the time ended before any network was profiled", "give a longer --budget; what is there is kept")
        raise CampaignError(f"no network could be profiled: {reasons[0]}", "check the device")
    layers, kernels = seen.layers(cost_ns), seen.kernels(cost_ns)
    rows = [_layer_row(index.vocabulary[number], layers[number], cost_ns, record.target.batch or 1) for number in sorted(layers)]
    rows += [_kernel_row(kernel, part, cost_ns) for kernel, part in kernels.items()]
    timings = seen.end_to_end()
    rows += [
        _network_row(number, network, (network.end_to_end(seen.at_rest_ns), timings[number]) if network.rounds else None, record, index)
        for number, network in sorted(seen.networks.items())
    ]
    provenance = Provenance(
        tool=f"layerclock {VERSION}",
        command=record.command,
        started_utc=record.started_utc,
        written_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions={
            **conditions,
            **({"affinity": ",".join(map(str, record.affinity))} if record.affinity else {}),
            **(
                {"boards": ", ".join(f"{name} ({count} measurements)" for name, count in sorted(boards.items()) if name)} if +boards else {}
            ),
            "pacing": PACING,
        },
    )
    return LatencyTable.from_rows(
        rows, record.target, record.space, record.space_digest, provenance,
        additivity=_additivity(rows[: len(layers)], seen, timings, record, index, cost_ns),
        interference=seen.interference(),
        coverage={
            "layers_measured": float(len(layers)),
            "layers_of_the_space": float(len(index.vocabulary)),
            "fewest_places_a_layer": float(min(len(part.timings) for part in layers.values())),
        },
    )  # fmt: skip


def _statistics(part: Part) -> dict[str, Any]:
    pooled = part.pooled()
    latency, low, high = part.estimate_us
    half_width = part.half_width()
    reason = ""
    if latency <= 0:
        reason = "faster than can be measured"
    elif not pooled.settled:
        reason = f"only {pooled.undisturbed} of {len(pooled.samples_ns)} samples were undisturbed"
    elif half_width > STEADY_HALF_WIDTH:
        reason = f"90 % interval of +-{half_width:.1%} is wider than +-{STEADY_HALF_WIDTH:.0%}"
    return {
        "n_networks": len(part.timings),
        "n_samples": len(pooled.samples_ns),
        "n_undisturbed": pooled.undisturbed,
        "latency_us": latency,
        **_spread(pooled),
        "interval_low_us": low,
        "interval_high_us": high,
        "noise_floor": pooled.noise_floor,
        "kernels": float(np.mean(part.kernels)),
        "status": "noisy" if reason else "steady",
        "reason": reason,
    }


def _spread(timing: Timing) -> dict[str, float]:
    quantiles = {f"p{percent}_us": timing.quantile_us(percent / 100) for percent in (10, 25, 50, 75, 90)}
    return {"min_us": timing.quantile_us(0.0), **quantiles, "mean_us": timing.mean_us, "std_us": timing.std_us}


def _layer_bytes(layer: Layer, batch: int) -> int | None:
    moved = None if "unshaped" in dict(layer.attributes) else bytes_of((*layer.inputs, *layer.outputs))
    weights = 4 * layer.params if layer.weight_bytes is None else layer.weight_bytes
    return None if moved is None else moved * batch // layer.batch + weights


def _layer_row(layer: Layer, part: Part, counter_cost_ns: float, batch: int) -> dict[str, Any]:
    return {
        "level": "layer",
        "role": "profiled",
        "key": layer.key,
        "op": layer.op,
        "attributes": json.dumps(dict(layer.attributes), sort_keys=True),
        "in_shapes": shapes_of(layer.inputs),
        "out_shapes": shapes_of(layer.outputs),
        "dtype": layer.outputs[0].dtype if layer.outputs else None,
        "macs": None if "uncounted" in dict(layer.attributes) else layer.macs,
        "params": layer.params,
        "bytes": _layer_bytes(layer, batch),
        "method": "in-situ",
        "overhead_us": counter_cost_ns * float(np.mean(part.kernels)) / 1e3,
        **_statistics(part),
    }


def _kernel_row(kernel: Kernel, part: Part, counter_cost_ns: float) -> dict[str, Any]:
    return {
        **kernel_columns(kernel),
        "role": "profiled",
        "method": "in-situ",
        "overhead_us": counter_cost_ns / 1e3,
        **_statistics(part),
    }


def _network_row(
    number: int, network: NetworkSeen, timings: tuple[Timing, Timing] | None, record: CampaignRecord, index: SiteIndex
) -> dict[str, Any]:
    """``timings``: the runs as they were, and as they would be at rest; None if there are none."""
    genome = np.array([record.genomes[number]])
    here = index.layers(genome)[0]
    uncounted = any("uncounted" in dict(index.vocabulary[layer].attributes) for layer in here[here >= 0])
    row: dict[str, Any] = {
        "level": "network",
        "role": record.role(number),
        "key": " ".join(map(str, record.genomes[number])),
        "op": record.space,
        "attributes": json.dumps(index.decode(genome[0]), sort_keys=True),
        "genome": list(record.genomes[number]),
        "macs": None if uncounted else int(index.macs(genome)[0]),
        "params": int(index.params(genome)[0]),
        "method": "end-to-end",
        "n_networks": 1,
        "n_samples": sum(len(measurement.end_to_end_ns) for measurement in network.rounds),
    }
    if timings is None:
        return row | {"status": "failed", "reason": network.failure or "not measured"}
    as_seen, timing = timings
    low, high = interval_us(timing)
    # What failed on the way keeps what was measured before: its layers, too, rest on that.
    status, reason = ("noisy", f"{FAILED_LATER}: {network.failure}") if network.failure else timing.verdict
    energy = network.facts("energy_j", lambda values: float(np.median(values)))
    # Of the first round: from then on a profiled network's process also holds what counts its kernels.
    peak = network.facts("peak_resident_bytes", min)
    return row | {
        "n_undisturbed": as_seen.undisturbed,
        "latency_us": timing.latency_us,
        **_spread(as_seen),
        "interval_low_us": low,
        "interval_high_us": high,
        "noise_floor": timing.noise_floor,
        "overhead_us": 0.0,
        "kernels": float(len(network.kernels)) if network.kernels else None,
        "kernel_keys": [kernel_key(kernel) for kernel in network.kernels] or None,
        "energy_mj": None if energy is None else energy * 1e3,
        "peak_resident_bytes": None if peak is None else int(peak),
        "status": status,
        "reason": reason,
    }


def _additivity(
    layer_rows: Sequence[Mapping[str, Any]],
    seen: Observed,
    timings: Mapping[int, Timing],
    record: CampaignRecord,
    index: SiteIndex,
    cost_ns: float,
) -> dict[str, float]:
    """Sum of a network's layer rows over its end-to-end time, over the profiled networks.

    The counters' cost was taken off the rows: ``counters_share`` is the median of what it was of a network's time.
    """
    latency = {row["key"]: row["latency_us"] for row in layer_rows}
    by_number = np.array([latency.get(layer.key, np.nan) for layer in index.vocabulary])
    usable = [number for number, network in seen.networks.items() if network.kernels]
    sums = index.counts(np.array([record.genomes[number] for number in usable])) @ np.nan_to_num(by_number)
    end_to_end = np.array([timings[number].latency_us for number in usable])
    ratios = sums / end_to_end
    counters = np.array([len(seen.networks[number].kernels) for number in usable]) * cost_ns / 1e3 / end_to_end
    return {
        "median": float(np.median(ratios)),
        "lowest": float(ratios.min()),
        "highest": float(ratios.max()),
        "counters_share": float(np.median(counters)),
    }
