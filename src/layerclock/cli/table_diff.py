"""``layerclock table diff``."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerclock.cli.output import json_option, print_json, print_table, told

if TYPE_CHECKING:
    from layerclock.datasets.differences import Differences

__all__ = ["command"]


@click.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--false-discoveries", default=0.05, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Share of the significant changes that may be none.")  # fmt: skip
@click.option("--top", default=20, type=click.IntRange(min=0), show_default=True, help="How many rows, most changed first; 0 for all.")
@json_option
def command(first: Path, second: Path, false_discoveries: float, top: int, as_json: bool) -> None:
    """Say what changed between two tables of one space, such as of two versions of a runtime, and what of it is more than noise.

    Each row's interval and both tables' noise floors say what noise is; the number of rows is corrected for. What all rows changed
    alike may be the hour: "on its own" is what a row changed beside the typical one of its level.

    Example: layerclock table diff old/table.parquet new/table.parquet
    """
    from layerclock.datasets.differences import compare_tables
    from layerclock.datasets.table import read_table

    found = compare_tables(read_table(first), read_table(second), false_discoveries)
    if as_json:
        print_json({"first": str(first), "second": str(second), **asdict(found)})
        return
    facts = [(name, f"{own} -> {other}") for name, (own, other) in found.target.items()] or [("target", "the same")]
    facts += [(f"typical {level}", f"{ratio - 1:+.2%}") for level, ratio in found.typical.items()]
    facts += [("noise floors", " and ".join(told(floor, ".2%") for floor in found.noise_floors))]
    facts += [
        ("significant", _counted([one.ratio for one in found.changes if one.significant], found)),
        ("on their own", _counted([one.own_ratio for one in found.changes if one.own_significant], found)),
        ("only in the first", _listed(found.only_first)),
        ("only in the second", _listed(found.only_second)),
    ]
    print_table(f"{first} -> {second}", ("", ""), facts)
    shown = found.changes[:top] if top else found.changes
    cells = [
        (f"{one.first_us:.1f}", f"{one.second_us:.1f}", f"{one.ratio - 1:+.1%}", _sure(one.p, one.significant),
         f"{one.own_ratio - 1:+.1%}", _sure(one.own_p, one.own_significant), one.level, one.key)
        for one in shown
    ]  # fmt: skip
    click.echo()
    names = ("us", "us", "change", "sure", "own", "sure", "level", "key")
    print_table(f"{len(shown)} of {len(found.changes)} rows, most changed first", names, cells)


def _sure(p: float, significant: bool) -> str:
    return "not told" if isnan(p) else "yes" if significant else "no"


def _counted(ratios: list[float], found: Differences) -> str:
    judged = sum(not isnan(one.p) for one in found.changes)
    untold = "" if judged == len(found.changes) else f"{len(found.changes) - judged} cannot be judged: a table tells no noise of them"
    if not judged:
        return untold
    slower, faster = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    said = f"{slower} slower, {faster} faster, of {judged}; at most {found.level:.0%} of these by chance"
    return f"{said}; {untold}" if untold else said


def _listed(keys: tuple[tuple[str, str, str], ...]) -> str:
    return f"{len(keys)}" + (f", such as {keys[0][2]}" if keys else "")
