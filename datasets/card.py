"""A table's card: what it is, how it came about and what it is not for, as Markdown for people. All of it is read from the table."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from layerclock.datasets.check import check_table
from layerclock.datasets.schema import LEVELS, ROLES, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layerclock.datasets.table import LatencyTable
    from layerclock.target import Target

__all__ = ["table_card"]

_NOT_FOR = (
    "Another device, runtime version, precision, number of threads or batch size: latencies change with each, and not in proportion.",
    "Comparing devices whose tables were measured under different conditions, without a look at both noise floors.",
    "The latency under load or of a tail: the estimate is for a machine at rest; p90 is of all samples, disturbed or not.",
    "Layers, kernels or networks that it has no row of.",
)


def table_card(table: LatencyTable) -> str:
    """The device and data card of ``table`` as Markdown, the same text each time for the same table and machine."""
    lines = [f"# Latency table: {_plain(table.space)}", ""]
    for target in table.targets.values():
        lines += ["## Device and settings", "", *_facts(_target(target)), ""]
    provenance = table.provenance
    lines += ["## How it was measured", "", *_facts(_measured(table)), ""]
    if provenance.conditions:
        lines += ["### Conditions", "", *_facts(sorted(provenance.conditions.items())), ""]
    lines += ["## What is in it", "", *_content(table), ""]
    for title, numbers in (("Coverage", table.coverage), ("Additivity: layer rows against the end-to-end time", table.additivity),
                           ("Interference that was seen", table.interference), ("Ceilings of the device", table.ceilings)):  # fmt: skip
        if numbers:
            lines += [f"### {title}", "", *_facts((name, f"{value:.5g}") for name, value in sorted(numbers.items())), ""]
    findings = check_table(table)
    trusted = all(one.kept for one in findings if one.serious)
    lines += [
        "## Verdict",
        "",
        f"**{'To be trusted' if trusted else 'Not to be trusted as it is'}**, by the rules of `layerclock table check`:",
        "",
    ]
    lines += ["| rule | kept | found |", "|---|---|---|"]
    lines += [
        f"| {_plain(one.rule)} | {'no (a warning)' if one.verdict == 'no' else one.verdict.lower()} | {_plain(one.detail)} |"
        for one in findings
    ]
    origin: list[tuple[str, str]] = [
        ("licence", provenance.licence), ("made by", provenance.tool), ("command", provenance.command),
        ("measured from", provenance.started_utc or "not told"), ("written", provenance.written_utc),
        ("content hash (SHA-256)", table.content_hash), ("parent tables", ", ".join(provenance.parents) or "none"),
        ("schema", str(SCHEMA_VERSION)),
    ]  # fmt: skip
    lines += ["", "## Origin", "", *_facts(origin), "", "## What it must not be used for", ""]
    lines += [f"- {text}" for text in _NOT_FOR]
    return "\n".join(lines) + "\n"


def _target(target: Target) -> list[tuple[str, str]]:
    told = [
        ("device", target.device), ("runtime", f"{target.runtime} {target.runtime_version}".strip()), ("precision", target.precision),
        ("threads", "not told" if target.threads is None else str(target.threads)),
        ("batch", "not told" if target.batch is None else str(target.batch)),
    ]  # fmt: skip
    return [*told, *((f"option {name}", value) for name, value in target.options), *target.fingerprint, ("target id", target.id)]


def _measured(table: LatencyTable) -> list[tuple[str, str]]:
    methods = sorted({method for method in table.rows["method"].to_pylist() if method})
    known = [value for value in table.rows["n_samples"].to_pylist() if value is not None]
    undisturbed = [value for value in table.rows["n_undisturbed"].to_pylist() if value is not None]
    floor = table.noise_floor
    return [
        ("method", ", ".join(methods) or "not told"),
        ("samples", f"{sum(known)} in {len(known)} rows" if known else "not told"),
        ("undisturbed samples", f"{sum(undisturbed) / sum(known):.0%}" if undisturbed and sum(known) else "not told"),
        ("noise floor of whole networks", f"{floor:.2%}" if isfinite(floor) else "not told"),
        ("intervals", "90 %, a bootstrap over networks" if table.rows["interval_low_us"].null_count < len(table) else "none"),
    ]


def _content(table: LatencyTable) -> list[str]:
    lines = ["| level | role | rows | steady | noisy | failed | median latency |", "|---|---|---|---|---|---|---|"]
    columns = ("level", "role", "status", "latency_us")
    rows = list(zip(*(table.rows[name].to_pylist() for name in columns), strict=True))
    for level in LEVELS:
        for role in ROLES:
            chosen = [(status, latency) for own, part, status, latency in rows if (own, part) == (level, role)]
            if chosen:
                times = [latency for _, latency in chosen if latency is not None]
                counts = " | ".join(str(sum(status == one for status, _ in chosen)) for one in ("steady", "noisy", "failed"))
                lines.append(f"| {level} | {role} | {len(chosen)} | {counts} | {f'{np.median(times):.4g} us' if times else '-'} |")
    return lines


def _facts(facts: Iterable[tuple[str, str]]) -> list[str]:

    return [f"- {_plain(name)}: {_plain(value)}" for name, value in facts]


def _plain(text: str) -> str:
    """A stranger's words as words: no markup, no table cell, no line of their own."""
    shown = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*[]<>|#!" else letter for letter in shown)
