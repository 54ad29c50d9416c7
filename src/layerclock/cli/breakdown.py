"""Where a network's time goes: layers and kernels by share, with their place under the roofline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from layerclock.cli.output import print_table
from layerclock.datasets.kernels import macs_of_a_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.datasets.table import LatencyTable

__all__ = ["breakdown", "breakdown_json"]

_SHOWN = {"layer": 25, "kernel": 15}


def _rows(table: LatencyTable, level: str) -> list[dict[str, Any]]:
    """The rows of one level, slowest first, with what follows from them: share of time, intensity, rates and bound."""
    rows = [row for row in table.level(level).to_pylist() if row["latency_us"] is not None]
    times = {id(row): row["latency_us"] * max(1, row["n_networks"]) for row in rows}
    total = sum(max(0.0, time) for time in times.values())
    return [
        {
            "name": _name(row),
            "latency_us": row["latency_us"],
            "times_run": row["n_networks"],
            "share": max(0.0, times[id(row)]) / total if total else None,
            "flops": None if (macs := macs_of_a_run(row)) is None else 2 * macs,
            "bytes": row["bytes"],
            **_roofline(row, table.ceilings),
        }
        for row in sorted(rows, key=lambda row: -times[id(row)])
    ]


def _name(row: Mapping[str, Any]) -> str:
    if row["level"] == "kernel":
        operators = "+".join(row["fused_ops"] or [row["op"]])
        return f"{operators} {' '.join('x'.join(map(str, shape)) for shape in row['out_shapes'])}"
    attributes = json.loads(row["attributes"])
    return str(attributes.get("module", row["key"]))


def _roofline(row: Mapping[str, Any], ceilings: Mapping[str, float]) -> dict[str, float | str | None]:
    """Operations a byte, rates in G/s, which ceiling is the lower one there, and the share of it that was reached."""
    place: dict[str, float | str | None] = dict.fromkeys(("flops_per_byte", "gflops_per_s", "gbytes_per_s", "bound", "of_ceiling"))
    if row["bytes"] and row["latency_us"] > 0:
        place["gbytes_per_s"] = row["bytes"] / row["latency_us"] / 1e3
        if (macs := macs_of_a_run(row)) is not None:
            flops = 2 * macs
            place["flops_per_byte"] = flops / row["bytes"]
            place["gflops_per_s"] = flops / row["latency_us"] / 1e3
            if {"flops_per_s", "bytes_per_s"} <= ceilings.keys():
                seconds = {"compute": flops / ceilings["flops_per_s"], "memory": row["bytes"] / ceilings["bytes_per_s"]}
                bound = max(seconds, key=seconds.__getitem__)
                place |= {"bound": bound, "of_ceiling": seconds[bound] / (row["latency_us"] * 1e-6)}
    return place


def breakdown_json(table: LatencyTable) -> dict[str, object]:
    """The same as data."""
    networks = [{"model": row["attributes"], **{name: row[name] for name in _NETWORK}} for row in table.level("network").to_pylist()]
    return {"networks": networks, "layers": _rows(table, "layer"), "kernels": _rows(table, "kernel")}


_NETWORK = ("latency_us", "interval_low_us", "interval_high_us", "noise_floor", "macs", "params", "energy_mj", "peak_resident_bytes",
            "status", "reason")  # fmt: skip


def breakdown(table: LatencyTable) -> None:
    """Print end-to-end times, then layers and kernels, slowest first."""
    cells = []
    for row in table.level("network").to_pylist():
        measured = row["latency_us"] is not None
        cells.append((
            table.file_of(row),
            f"{row['latency_us'] / 1e3:.3f}" if measured else "-",
            f"{row['interval_low_us'] / 1e3:.3f}..{row['interval_high_us'] / 1e3:.3f}" if measured else "-",
            "-" if row["energy_mj"] is None else f"{row['energy_mj']:.1f}",
            "-" if row["peak_resident_bytes"] is None else f"{row['peak_resident_bytes'] / 2**20:.0f}",
            row["reason"] or row["status"],
        ))  # fmt: skip
    print_table("End to end", ("model", "ms", "90 % interval", "mJ", "MiB", "status"), cells)
    if table.ceilings:
        units = {"flops_per_s": "GFLOP/s", "bytes_per_s": "GB/s"}
        click.echo("ceilings of the device: " + ", ".join(f"{rate / 1e9:.1f} {units[name]}" for name, rate in table.ceilings.items()))
    for level, most in _SHOWN.items():
        rows = _rows(table, level)
        if not rows:
            continue
        click.echo()
        shown = [
            (_percent(row["share"]), f"{row['latency_us']:.1f}", row["times_run"], _number(row["gflops_per_s"]),
             _number(row["gbytes_per_s"]), _number(row["flops_per_byte"]), row["bound"] or "-", _percent(row["of_ceiling"]), row["name"])
            for row in rows[:most]
        ]  # fmt: skip
        title = f"{level.capitalize()}s, {len(shown)} of {len(rows)}, slowest first"
        print_table(title, ("time", "us", "x", "GFLOP/s", "GB/s", "FLOP/B", "bound", "of it", level), shown)
    click.echo()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
