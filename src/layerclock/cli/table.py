"""``layerclock table``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerclock.cli import table_card, table_dataset, table_diff, table_export, table_import, table_merge
from layerclock.cli.output import json_option, print_json, print_table, told
from layerclock.errors import TooNoisyError

if TYPE_CHECKING:
    from layerclock.datasets.table import Provenance


@click.group("table")
def command() -> None:
    """Look into latency tables, compare and merge them, bring in those of others, and give them on."""


for verb in (
    table_card.command, table_diff.command, table_merge.command, table_import.command, table_export.command,
    table_dataset.publish, table_dataset.query, table_dataset.compact,
):  # fmt: skip
    command.add_command(verb)


@command.command("show")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--level", type=click.Choice(["layer", "kernel", "network"]), default="layer", show_default=True, help="Which rows.")
@click.option("--top", default=20, type=click.IntRange(min=0), show_default=True, help="How many rows, slowest first; 0 for all.")
@json_option
def show(path: Path, level: str, top: int, as_json: bool) -> None:
    """Show what a table is valid for, how good it is, and its slowest rows.

    Example: layerclock table show runs/x/table.parquet --level kernel
    """
    from layerclock.datasets.table import read_table

    table = read_table(path)
    rows = table.level(level).sort_by([("latency_us", "descending")]).to_pylist()
    shown = rows[:top] if top else rows
    if as_json:
        print_json(
            {"targets": [json.loads(target.to_json()) for target in table.targets.values()], "space": table.space,
             "noise_floor": table.noise_floor, "additivity": dict(table.additivity),
             "interference": dict(table.interference), "coverage": dict(table.coverage),
             "ceilings": dict(table.ceilings), "content_hash": table.content_hash, "rows": shown}
        )  # fmt: skip
        return
    facts = [
        ("space", table.space),
        ("noise floor", told(table.noise_floor, ".2%")),
        ("layer sum / end to end", told(table.additivity.get("median", float("nan")), ".3f")),
    ]
    facts += [("target", str(target)) for target in table.targets.values()]
    facts += [("processor", value) for target in table.targets.values() for name, value in target.fingerprint if name == "cpu"]
    facts += [_origin(table.provenance), ("hash", table.content_hash[:16])]
    print_table(str(path), ("", ""), facts)
    click.echo()
    cells = [
        (
            f"{row['latency_us']:.1f}" if row["latency_us"] is not None else "-",
            _plus_minus(row),
            "-" if row["n_networks"] is None else str(row["n_networks"]),
            row["status"],
            row["key"],
        )
        for row in shown
    ]
    print_table(f"{len(shown)} of {len(rows)} {level} rows, slowest first", ("us", "+-", "nets", "status", level), cells)


@command.command("check")
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@json_option
def check(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say whether tables can be trusted, and what to do if not.

    Exit code 3 if a serious rule is broken in any of them; what merely disturbed the machine is told, and is already in the
    intervals.

    Example: layerclock table check runs/x/table.parquet
    """
    from layerclock.datasets.check import check_table
    from layerclock.datasets.table import read_table

    found = {str(path): check_table(read_table(path)) for path in paths}
    broken = [f"{path}: {one.rule}" for path, findings in found.items() for one in findings if one.serious and not one.kept]
    if as_json:
        print_json({path: [asdict(finding) for finding in findings] for path, findings in found.items()})
    else:
        for path, findings in found.items():
            cells = [(one.verdict, one.rule, one.detail, "" if one.kept else one.advice) for one in findings]
            print_table(path, ("", "rule", "found", "what to do"), cells)
            click.echo("to be trusted" if all(one.kept for one in findings if one.serious) else "NOT to be trusted as it is")
    if broken:
        raise TooNoisyError(
            f"not to be trusted: {broken[0]}" + (f", and {len(broken) - 1} more" if len(broken) > 1 else ""),
            "do what stands beside each broken rule",
        )


def _origin(provenance: Provenance) -> tuple[str, str]:
    if provenance.started_utc:
        return "measured", f"{provenance.started_utc} by {provenance.tool}"
    return "published", f"{provenance.conditions.get('source', 'not told')} ({provenance.licence})"


def _plus_minus(row: dict[str, float | None]) -> str:
    if not row["latency_us"] or row["interval_low_us"] is None or row["interval_high_us"] is None:
        return "-"
    return f"{(row['interval_high_us'] - row['interval_low_us']) / 2 / row['latency_us']:.1%}"
