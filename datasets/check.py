"""Whether a latency table can be trusted, rule by rule, and what to do where it cannot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np

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


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule: whether the table keeps it, by how much, and what to do if not.

    A rule that is not ``serious`` tells about the machine; the table's intervals already contain its effect.
    """

    rule: str
    kept: bool
    detail: str
    advice: str
    serious: bool = True


def check_table(table: LatencyTable) -> list[Finding]:
    """Hold ``table`` against every rule; it is to be trusted if all serious ones are kept."""
    layers, networks = (table.level(level).to_pylist() for level in ("layer", "network"))
    return [
        *(rule(table, layers, networks) for rule in (_coverage, _failures, _possible, _samples, _intervals, _noise, _additivity)),
        *(rule(table) for rule in (_one_target, _once, _roofline, _runtime)),
        *_machine(table),
    ]


def _measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["latency_us"] is not None]


def _coverage(table: LatencyTable, layers: Sequence[Row], _: Sequence[Row]) -> Finding:
    of_space = int(table.coverage.get("layers_of_the_space", len(layers)))
    # In a file's own layers some are folded away by the runtime: they take no time, and nothing is missing.
    whole = table.space.startswith("onnx:") or len(layers) == of_space
    return Finding(
        "every layer of the space was measured", whole, f"{len(layers)} of {of_space}", "profile more networks, or with more budget"
    )


def _failures(table: LatencyTable, _: Sequence[Row], networks: Sequence[Row]) -> Finding:
    failed = table.failures()
    detail = f"{len(failed)} of {len(networks)}" + (f"; the first: {failed[0]}" if failed else "")
    return Finding("no network failed", not failed, detail, "read the reasons with: layerclock table show --level network")


def _possible(table: LatencyTable, layers: Sequence[Row], networks: Sequence[Row]) -> Finding:
    del table
    names = ("min_us", "p10_us", "p25_us", "p50_us", "p75_us", "p90_us")
    never_negative = ("std_us", "overhead_us", "noise_floor", "n_samples", "n_undisturbed", "n_networks", "macs", "params", "bytes")
    wrong = []
    for row in _measured([*layers, *networks]):
        # What was published by others has neither quantiles nor an interval.
        quantiles = [row[name] for name in names if row[name] is not None]
        inside = row["interval_low_us"] is None or row["interval_low_us"] <= row["latency_us"] <= row["interval_high_us"]
        negative = any((row[name] or 0) < 0 for name in never_negative)
        possible = 0 < row["latency_us"] < inf and all(low <= high for low, high in pairwise(quantiles))
        if not possible or not inside or negative:
            wrong.append(row["key"])
    return Finding("every time is possible", not wrong, f"{len(wrong)} are not" + (f"; the first: {wrong[0]}" if wrong else ""),
                   "they are faster than the runtime's counters can tell, or the file was changed")  # fmt: skip


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
        return Finding(rule, True, "the table does not tell the device's ceilings", "profile a file of ONNX: that measures them")
    wrong = []
    for row in _measured(table.rows.to_pylist()):
        batch = 1 if row["level"] == "kernel" else row["batch"] or 1
        least_us = 2e6 * (row["macs"] or 0) * batch / flops_per_s / _MOST_SAVED
        if row["latency_us"] < least_us:
            wrong.append(f"{row['key'][:120]}: {row['latency_us']:.3g} us, at least {least_us:.3g} us")
    return Finding(rule, not wrong, f"{len(wrong)} are" + (f"; the first: {wrong[0]}" if wrong else ""),
                   "the work or the time is wrong: measure again, or see whether the ceilings are another device's")  # fmt: skip


def _runtime(table: LatencyTable) -> Finding:
    rule = "the runtime is the one that is installed here"
    for target in table.targets.values():
        try:
            installed = version(target.runtime)
        except (PackageNotFoundError, ValueError):
            continue
        if not target.runtime_version.startswith(installed):
            return Finding(rule, False, f"{target.runtime} {target.runtime_version}, installed: {installed}",
                           "profile again, and see with layerclock table diff what changed", serious=False)  # fmt: skip
    return Finding(rule, True, "the same, or not installed", "profile again after an update", serious=False)


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
