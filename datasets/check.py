"""Whether a latency table can be trusted, rule by rule, and what to do where it cannot."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np

from layerclock.datasets.kernels import macs_of_a_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from layerclock.datasets.table import LatencyTable

    Row = Mapping[str, Any]

__all__ = ["Finding", "check_table"]

# How much of the time, or of the rows, may be in doubt before the table is.
_MOST_NOISY_TIME = 0.10
_MOST_NETWORK_NOISE = 0.03
_MOST_DRIFT = 0.10
_FEWEST_UNDISTURBED = 0.5
# A network's layer rows leave out what the runtime does between kernels, and cannot be more than the whole.
_ADDITIVITY = (0.85, 1.05)
# Winograd's F(4x4, 3x3) takes a quarter of the products (Lavin and Gray, CVPR 2016).
_MOST_SAVED = 4.0
# What the runtimes' packages are called, where they are not called as the runtime.
_DISTRIBUTIONS = {
    "litert": ("ai-edge-litert",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule: whether the table keeps it, by how much, and what to do if not.

    A rule that is not ``serious`` tells about the machine; the table's intervals already contain its effect. Where ``told`` is false, the
    table does not tell what the rule is about: nothing is broken, and nothing was seen to be kept.
    """

    rule: str
    kept: bool
    detail: str
    advice: str
    serious: bool = True
    told: bool = True

    @property
    def verdict(self) -> str:
        """``yes``, ``not told``, or, where the rule is broken, ``NO`` for a serious rule and else ``no``."""
        if not self.told:
            return "not told"
        return "yes" if self.kept else "NO" if self.serious else "no"


def check_table(table: LatencyTable) -> list[Finding]:
    """Hold ``table`` against every rule; it is to be trusted if all serious ones are kept."""
    layers, networks = (table.level(level).to_pylist() for level in ("layer", "network"))
    return [
        *(rule(table, layers, networks) for rule in (_coverage, _failures, _possible, _samples, _intervals, _noise, _additivity)),
        *(rule(table) for rule in (_one_target, _own_target, _once, _roofline, _runtime)),
        *_machine(table),
    ]


def _measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["latency_us"] is not None]


def _coverage(table: LatencyTable, layers: Sequence[Row], _: Sequence[Row]) -> Finding:
    rule, advice = "every layer of the space was measured", "profile more networks, or with more budget"
    if "layers_of_the_space" not in table.coverage:  # such as what was selected from a dataset
        return Finding(rule, True, f"{len(layers)}; the table does not tell of how many", advice, told=False)
    of_space = int(table.coverage["layers_of_the_space"])
    # In a file's own layers some are folded away by the runtime: they take no time, and nothing is missing.
    whole = table.space.startswith("onnx:") or len(layers) == of_space
    return Finding(rule, whole, f"{len(layers)} of {of_space}", advice)


def _failures(table: LatencyTable, _: Sequence[Row], networks: Sequence[Row]) -> Finding:
    failed = table.failures()
    detail = f"{len(failed)} of {len(networks)}" + (f"; the first: {failed[0]}" if failed else "")
    return Finding("no network failed", not failed, detail, "read the reasons with: layerclock table show --level network")


def _possible(table: LatencyTable, layers: Sequence[Row], networks: Sequence[Row]) -> Finding:
    rows = [*layers, *networks, *table.level("kernel").to_pylist()]
    wrong = [row["key"][:120] for row in _measured(rows) if not _can_be(row)]
    return Finding("every time is possible", not wrong, f"{len(wrong)} are not" + (f"; the first: {wrong[0]}" if wrong else ""),
                   "they are faster than the runtime's counters can tell, or the file was changed")  # fmt: skip


def _can_be(row: Row) -> bool:
    names = ("min_us", "p10_us", "p25_us", "p50_us", "p75_us", "p90_us")
    never_negative = ("std_us", "overhead_us", "noise_floor", "n_samples", "n_undisturbed", "n_networks", "macs", "params", "bytes")
    latency, low, high = row["latency_us"], row["interval_low_us"], row["interval_high_us"]
    # What was published by others has neither quantiles nor an interval.
    quantiles = [row[name] for name in names if row[name] is not None]
    inside = (low is None and high is None) or (None not in (low, high) and low <= latency <= high)
    ordered = all(before <= after for before, after in pairwise(quantiles))
    negative = any((row[name] or 0) < 0 for name in never_negative)
    return inside and ordered and not negative and latency < inf and (latency > 0 or (row["level"] == "kernel" and _of_no_time(row)))


def _of_no_time(row: Row) -> bool:
    """Whether a kernel's latency may be zero or less: what is taken off for the counters is a mean, and counters may have whole us only.

    Some of its samples then lie above the cost that was taken off, and all of them are not above the latency.
    """
    cost = row["overhead_us"] or 0.0
    most = row["latency_us"] if row["p90_us"] is None else row["p90_us"]
    least = row["latency_us"] if row["min_us"] is None else row["min_us"]
    return bool(most + cost >= 0 and least <= row["latency_us"] <= max(most, 0.0))


def _samples(table: LatencyTable, layers: Sequence[Row], networks: Sequence[Row]) -> Finding:
    del table
    few = [row["key"] for row in _measured([*layers, *networks]) if (row["n_undisturbed"] or 0) < 8]
    return Finding("every row rests on at least 8 undisturbed samples", not few, f"{len(few)} rest on fewer, or do not tell",
                   "stop other work, measure more rounds, or give --budget", serious=len(few) > len(layers) // 10)  # fmt: skip


def _intervals(table: LatencyTable, layers: Sequence[Row], _: Sequence[Row]) -> Finding:
    del table
    times = np.array([max(row["latency_us"], 0.0) * (row["n_networks"] or 1) for row in _measured(layers)])
    noisy = np.array([row["status"] != "steady" for row in _measured(layers)])
    share = float(times[noisy].sum() / times.sum()) if times.sum() > 0 else 1.0
    return Finding("layers whose interval is wide take little of the time", share <= _MOST_NOISY_TIME, f"{share:.0%} of the time",
                   "measure more rounds, or give --budget", serious=share > 0.5)  # fmt: skip


def _noise(table: LatencyTable, _: Sequence[Row], __: Sequence[Row]) -> Finding:
    floor = table.noise_floor
    kept = floor <= _MOST_NETWORK_NOISE
    return Finding("the noise floor of whole networks is low", kept, f"{floor:.1%}; at most {_MOST_NETWORK_NOISE:.0%}",
                   "stop other work, bind with --affinity, or measure more rounds")  # fmt: skip


def _additivity(table: LatencyTable, _: Sequence[Row], __: Sequence[Row]) -> Finding:
    median = table.additivity.get("median", float("nan"))
    spread = table.additivity.get("highest", float("nan")) - table.additivity.get("lowest", float("nan"))
    kept = _ADDITIVITY[0] <= median <= _ADDITIVITY[1]
    return Finding("the layers of a network sum to its end-to-end time", kept, f"{median:.1%} of it, within {spread:.1%}",
                   "very small networks spend their time between kernels; else the machine was busy: measure again")  # fmt: skip


def _one_target(table: LatencyTable) -> Finding:
    return Finding("all rows are of one target", len(table.targets) == 1, f"{len(table.targets)}: {', '.join(table.targets)}"[:200],
                   "numbers of several targets must not be mixed: take one with table.of_target(ID), or publish the file and "
                   "layerclock table query DATASET --target ID -o FILE")  # fmt: skip


def _own_target(table: LatencyTable) -> Finding:
    """Whether the columns that follow from a row's target are that target's; what a row leaves untold contradicts nothing."""
    of_targets = {
        identity: {
            "device": target.device, "runtime_version": f"{target.runtime} {target.runtime_version}".strip(),
            "threads": target.threads, "batch": target.batch,
        }
        for identity, target in table.targets.items()
    }  # fmt: skip
    names = ("device", "runtime_version", "threads", "batch")
    rows = Counter(zip(*(table.rows[name].to_pylist() for name in ("target_id", *names)), strict=True))
    wrong, count = list[str](), 0
    for (identity, *values), number in rows.items():
        of_row = {name: value.strip() if isinstance(value, str) else value for name, value in zip(names, values, strict=True)}
        differing = [name for name, value in of_row.items() if value is not None and value != of_targets[identity][name]]
        wrong += [f"{name} {of_row[name]}, of the target {of_targets[identity][name]}" for name in differing]
        count += number if differing else 0
    return Finding("every row tells its own target", not wrong, f"{count} tell another" + (f": {wrong[0]}" if wrong else ""),
                   "the file was changed, or made of several tables: use the original ones")  # fmt: skip


def _once(table: LatencyTable) -> Finding:
    names = ("target_id", "level", "role", "key")
    counts = Counter(zip(*(table.rows[name].to_pylist() for name in names), strict=True))
    twice = [identity for identity, count in counts.items() if count > 1]
    detail = f"{len(twice)} are there more than once" + (f"; the first: {' '.join(map(str, twice[0]))[:120]}" if twice else "")
    return Finding("every row is there once", not twice, detail, "layerclock table merge keeps the better one of each")


def _roofline(table: LatencyTable) -> Finding:
    """Against the compute ceiling only: a working set that fits into a cache may well be faster than memory."""
    flops_per_s = table.ceilings.get("flops_per_s", nan)
    rule = "nothing is faster than the device can be"
    if not flops_per_s > 0:
        advice = "profile a file of ONNX: that measures them"
        return Finding(rule, True, "the table does not tell the device's ceilings", advice, told=False)
    wrong = []
    for row in _measured(table.rows.to_pylist()):
        least_us = 2e6 * (macs_of_a_run(row) or 0) / flops_per_s / _MOST_SAVED
        if row["latency_us"] < least_us:
            wrong.append(f"{row['key'][:120]}: {row['latency_us']:.3g} us, at least {least_us:.3g} us")
    return Finding(rule, not wrong, f"{len(wrong)} are" + (f"; the first: {wrong[0]}" if wrong else ""),
                   "the work or the time is wrong: measure again, or see whether the ceilings are another device's")  # fmt: skip


def _runtime(table: LatencyTable) -> Finding:
    rule, looked = "the runtime is the one that is installed here", False
    for target in table.targets.values():
        installed = _installed(target.runtime)
        looked |= bool(installed)
        if installed and not any(target.runtime_version.startswith(one) for one in installed):
            return Finding(rule, False, f"{target.runtime} {target.runtime_version}, installed: {', '.join(installed)}",
                           "profile again, and see with layerclock table diff what changed", serious=False)  # fmt: skip
    return Finding(rule, True, "the same" if looked else "not installed", "profile again after an update", serious=False, told=looked)


def _installed(runtime: str) -> list[str]:
    """Versions of the runtime that are installed, under whichever name of its distributions."""
    found = []
    for name in _DISTRIBUTIONS.get(runtime, (runtime,)):
        with suppress(PackageNotFoundError, ValueError):
            found.append(version(name))
    return found


def _machine(table: LatencyTable) -> list[Finding]:
    """What disturbed the machine while it measured, where anybody looked."""
    seen = table.interference
    rules: tuple[tuple[str, str, Callable[[float], bool], str, str], ...] = (
        ("undisturbed_share", "most runs were undisturbed", lambda value: value >= _FEWEST_UNDISTURBED, "{:.0%}",
         "other programs, or other guests of the same host, take the processor: stop them, or move"),
        ("reference_drift", "the machine stayed as fast as it was", lambda value: value <= _MOST_DRIFT, "up to {:.1%} slower in a round",
         "it was busy, hot or saving power: cool it, fix the clock rate, choose the governor `performance`"),
        ("steal_share", "the hypervisor took little time", lambda value: value < 0.02, "{:.1%}", "the host is shared: use a dedicated one"),
        ("throttled_s", "the control group was not throttled", lambda value: value < 0.1, "{:.1f} s", "raise the container's cpu quota"),
        ("temperature_c_max", "it stayed cool", lambda value: value < 90, "{:.0f} C", "cool it, or pause between rounds"),
    )  # fmt: skip
    return [
        Finding(rule, kept(seen[name]), form.format(seen[name]), advice, serious=False)
        for name, rule, kept, form, advice in rules
        if name in seen
    ]
