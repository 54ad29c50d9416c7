"""Which device this was, how steady, and whether its table can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.check import check_table
from layerclock.reports.documents import Fact, Missing, Section, number, percent, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.profiler.drift import Drift
    from layerclock.reports.inputs import TableInput
    from layerclock.target import Target

__all__ = ["steadiness"]

# What a table's interference is called, and how it is told.
_SEEN: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "undisturbed_share": ("Runs undisturbed", lambda value: percent(value, 0)),
    "reference_drift": ("Slowest round", lambda value: f"{value * 100:.1f} % slower than at rest"),
    "steal_share": ("Taken by the hypervisor", lambda value: percent(value)),
    "switches_per_run": ("Made to wait", lambda value: f"{value:.2g} times a run"),
    "throttled_s": ("Throttled", lambda value: f"{value:.1f} s"),
    "frequency_mhz_min": ("Lowest clock rate", lambda value: f"{value:,.0f} MHz"),
    "temperature_c_max": ("Hottest", lambda value: f"{value:.0f} °C"),
    "measured_s": ("Time measured", lambda value: f"{value / 60:.1f} min"),
}  # fmt: skip
_ROLES = {"profiled": "profiled", "calibration": "for calibration", "holdout": "held out"}
_HARDWARE = {"cpu": "Processor", "gpu": "GPU", "model": "Model", "design": "Design"}


def steadiness(inputs: list[TableInput]) -> Section:
    """One block a table: its target, its noise, the rules that it keeps or breaks, and how the machine did over time."""
    if not inputs:
        return Section(
            missing=[
                Missing(
                    "The device and how steady it was",
                    "no latency table was given",
                    "layerclock profile --device openvino:CPU --space ofa-mobilenetv3 --budget 10m -o runs/x",
                )
            ]
        )
    blocks = [_block(one) for one in inputs]
    section = Section(
        words={"tables": blocks},
        drawings={"drift": [_drift(one.name, one.drift) for one in inputs if one.drift is not None]},
        tiles=[tile for one, block in zip(inputs, blocks, strict=True) for tile in _tiles(one, block)],
    )
    for one in inputs:
        if one.table.provenance.started_utc and not (one.path.parent / "parts").is_dir():
            section.missing.append(
                Missing(f"Drift over time of {one.name}", "only the campaign's folder tells it", f"layerclock report {_folder_of(one)}")
            )
    return section


def _folder_of(one: TableInput) -> str:
    return str(one.path.parent) if one.path.name == "table.parquet" else "THE-CAMPAIGN'S-FOLDER"


def _block(one: TableInput) -> dict[str, Any]:
    table = one.table
    findings = check_table(table)
    trusted = all(finding.kept for finding in findings if finding.serious)
    broken = [finding for finding in findings if not finding.kept]
    return {
        "name": one.name,
        "targets": [_target(target) for target in table.targets.values()],
        "facts": _facts(one),
        "interference": [Fact(name, told(table.interference[key])) for key, (name, told) in _SEEN.items() if key in table.interference],
        "trusted": trusted,
        "broken": [
            {"rule": finding.rule, "found": finding.detail, "advice": finding.advice, "serious": finding.serious} for finding in broken
        ],
        "kept": [{"rule": finding.rule, "found": finding.detail} for finding in findings if finding.kept and finding.told],
        "untold": [{"rule": finding.rule, "found": finding.detail} for finding in findings if not finding.told],
        "drift": one.drift is not None,
        "command": table.provenance.command,
    }


def _target(target: Target) -> dict[str, Any]:
    hardware = dict(target.fingerprint)
    return {
        "device": target.device,
        "facts": [
            Fact("Runtime", f"{target.runtime} {target.runtime_version}".strip()),
            *(Fact(title, hardware[key]) for key, title in _HARDWARE.items() if key in hardware),
            Fact("Precision", target.precision),
            Fact("Threads", "not told" if target.threads is None else str(target.threads)),
            Fact("Batch", "not told" if target.batch is None else str(target.batch)),
        ],
        "fingerprint": [Fact(name, value) for name, value in (*target.fingerprint, *target.options) if name not in _HARDWARE],
    }


def _facts(one: TableInput) -> list[Fact]:
    table = one.table
    networks = table.level("network")["role"].to_pylist()
    roles = ", ".join(f"{networks.count(role)} {word}" for role, word in _ROLES.items() if role in networks)
    of_space = table.coverage.get("layers_of_the_space")
    layers = table.level("layer").num_rows
    facts = [
        Fact("Space", table.space),
        Fact("Networks", roles or "none"),
        Fact("Layers measured", f"{layers}" if of_space is None else f"{layers} of {of_space:.0f}"),
        Fact("Noise floor", percent(table.noise_floor, 2), note="what the measurement itself does not know, of a whole network's time"),
    ]
    if "median" in table.additivity:
        facts.append(Fact("Layers' sum", f"{table.additivity['median'] * 100:.1f} % of end-to-end", note="median over profiled networks"))
    source = table.provenance
    measured = source.started_utc.replace("T", " ").removesuffix("+00:00")
    facts.append(Fact("Measured", f"{measured} UTC") if measured else Fact("Published by", source.conditions.get("source", "not told")))
    return facts


def _tiles(one: TableInput, block: dict[str, Any]) -> list[Fact]:
    floor = one.table.noise_floor
    serious = [finding for finding in block["broken"] if finding["serious"]]
    note = serious[0]["rule"] if serious else f"{len(block['kept'])} rules kept"
    device = ", ".join(target.device for target in one.table.targets.values())
    tone = "" if np.isnan(floor) else "good" if floor <= 0.03 else "bad"
    return [
        Fact(f"Table {one.name}", "To be trusted" if block["trusted"] else "Not to be trusted", "good" if block["trusted"] else "bad",
             note if block["trusted"] else f"not so: {note}"),
        Fact("Noise floor", percent(floor, 2), tone, device),
    ]  # fmt: skip


def _drift(name: str, drift: Drift) -> dict[str, Any]:
    return {
        "name": name,
        "minutes": rounded(drift.minutes.tolist()),
        "slowdown": rounded((drift.slowdown * 100).tolist(), 4),
        "disturbed": rounded((drift.disturbed * 100).tolist(), 3),
        "round": drift.rounds.tolist(),
        "note": f"{len(drift)} visits, median slowdown {number(float(np.median(drift.slowdown)) * 100, '%', 2)}",
    }
