"""Two tables held against each other, merged, described, and brought out and in as rows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from layerclock.cli.table_diff import _counted
from layerclock.datasets.card import table_card
from layerclock.datasets.differences import compare_tables
from layerclock.datasets.exports import export_table
from layerclock.datasets.merging import merge_tables
from layerclock.datasets.row_files import footer_file, read_rows
from layerclock.datasets.schema import SCHEMA
from layerclock.errors import TableError, TargetMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable

    Row = dict[str, Any]

_TIMES = ("latency_us", "interval_low_us", "interval_high_us")


def _edited(table: LatencyTable, edit: Callable[[int, Row], object], **target: Any) -> LatencyTable:
    other = replace(table.target, **target)
    rows = table.rows.to_pylist()
    for number, row in enumerate(rows):
        edit(number, row)
        row["target_id"] = other.id
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={other.id: other})


def _scale(row: Row, factor: float) -> None:
    row.update({name: row[name] * factor for name in _TIMES if row[name] is not None})


def test_a_change_of_one_layer_is_found_among_noise(fake_table: LatencyTable) -> None:
    rng = np.random.default_rng(0)

    def noisy(slow: int | None) -> Callable[[int, Row], None]:
        def edit(number: int, row: Row) -> None:
            if row["latency_us"] is not None:
                row.update(interval_low_us=row["latency_us"] * 0.984, interval_high_us=row["latency_us"] * 1.016)
                _scale(row, float(np.exp(rng.normal(0, 0.01))) * (1.3 if number == slow else 1.0))

        return edit

    quiet = compare_tables(_edited(fake_table, noisy(None)), _edited(fake_table, noisy(None), runtime_version="2"))
    assert sum(change.significant for change in quiet.changes) <= 0.02 * len(quiet.changes)
    assert quiet.target == {"runtime_version": (fake_table.target.runtime_version, "2")}
    assert quiet.typical["layer"] == pytest.approx(1, abs=0.01)
    found = compare_tables(_edited(fake_table, noisy(None)), _edited(fake_table, noisy(3), runtime_version="2"))
    assert found.changes[0].significant
    assert found.changes[0].key == fake_table.rows["key"][3].as_py()
    assert found.changes[0].ratio == pytest.approx(1.3, rel=0.1)


def test_a_change_of_everything_is_seen_at_every_level_and_both_ways(fake_table: LatencyTable) -> None:
    slow = _edited(fake_table, lambda _, row: _scale(row, 2.0), runtime_version="2")
    there, back = compare_tables(fake_table, slow), compare_tables(slow, fake_table)
    assert {level: round(ratio, 6) for level, ratio in there.typical.items()} == {"layer": 2.0, "kernel": 2.0, "network": 2.0}
    assert all(change.significant for change in there.changes)
    assert not any(change.own_significant for change in there.changes)
    for one, other in zip(
        sorted(there.changes, key=lambda c: (c.level, c.role, c.key)),
        sorted(back.changes, key=lambda c: (c.level, c.role, c.key)),
        strict=True,
    ):
        assert one.key == other.key
        assert one.ratio == pytest.approx(1 / other.ratio)
        assert one.p == pytest.approx(other.p)


def test_what_one_row_changed_on_its_own_is_told_from_what_moved_all(fake_table: LatencyTable) -> None:
    """Of a table measured in a slower hour, in which one layer became slower, too."""
    known = [number for number, row in enumerate(fake_table.rows.to_pylist()) if row["latency_us"] is not None]
    slow = _edited(fake_table, lambda number, row: _scale(row, 1.3 * (1.5 if number == known[0] else 1.0)), runtime_version="2")
    found = compare_tables(fake_table, slow)
    (own,) = (change for change in found.changes if change.own_significant)
    assert own == found.changes[0]
    assert own.key == fake_table.rows["key"][known[0]].as_py()
    assert own.own_ratio == pytest.approx(1.5)
    assert sum(change.significant for change in found.changes) > 0.9 * len(found.changes)


def test_rows_of_one_table_alone_are_named_and_what_tells_no_noise_has_no_p(fake_table: LatencyTable) -> None:
    def untold(_: int, row: Row) -> None:
        row.update(interval_low_us=None, interval_high_us=None, noise_floor=None)

    bare = _edited(fake_table, untold)
    shorter = replace(bare, rows=bare.rows.slice(1))
    found = compare_tables(bare, shorter)
    assert found.only_first == (tuple(bare.rows[name][0].as_py() for name in ("level", "role", "key")),)
    assert found.only_second == ()
    assert all(np.isnan(change.p) and not change.significant and not change.own_significant for change in found.changes)


def test_an_error_that_one_side_does_not_tell_is_not_zero(fake_table: LatencyTable) -> None:
    def copied(_: int, row: Row) -> None:
        row.update(interval_low_us=None, interval_high_us=None, noise_floor=None)
        row.update(latency_us=row["latency_us"] and row["latency_us"] * 1.01)

    copy = _edited(fake_table, copied)
    for pair in ((fake_table, copy), (copy, fake_table)):
        found = compare_tables(*pair)
        assert all(np.isnan(change.p) and np.isnan(change.relative_error) and not change.significant for change in found.changes)
    assert _counted([], found) == f"{len(found.changes)} cannot be judged: a table tells no noise of them"
    half = _edited(fake_table, lambda number, row: copied(number, row) if number % 2 else None)
    said = _counted([], compare_tables(fake_table, half))
    assert re.fullmatch(r"0 slower, 0 faster, of \d+; at most 5% of these by chance; \d+ cannot be judged: a table .*", said)


@pytest.mark.parametrize("times", [(1e300, 1e-300), (1e-300, 1e300), (1e200, 1.0)])
def test_times_that_no_ratio_can_be_told_of_are_one_clear_error(fake_table: LatencyTable, times: tuple[float, float]) -> None:
    def taking(us: float) -> LatencyTable:
        return _edited(fake_table, lambda number, row: row.update(latency_us=us) if number == 0 else None)

    one, other = map(taking, times)
    with pytest.raises(TableError, match="layerclock table check looks at each"):
        compare_tables(one, other)
    wild = _edited(fake_table, lambda _, row: row.update(interval_low_us=None, noise_floor=1e300))
    assert not any(change.significant for change in compare_tables(wild, fake_table).changes)


def test_tables_of_other_spaces_or_other_keys_are_not_compared(fake_table: LatencyTable) -> None:
    with pytest.raises(TableError, match="different spaces"):
        compare_tables(fake_table, replace(fake_table, space_digest="another"))
    with pytest.raises(TableError, match="no row of one key in common"):
        compare_tables(fake_table, _edited(fake_table, lambda number, row: row.update(key=str(number))))


def test_merging_refuses_other_targets_and_names_the_field(fake_table: LatencyTable) -> None:
    with pytest.raises(TargetMismatchError, match="cannot merge: the targets differ in threads: 1 against 2"):
        merge_tables([fake_table, _edited(fake_table, lambda *_: None, threads=2)])
    with pytest.raises(TableError, match="cannot merge tables of the spaces"):
        merge_tables([fake_table, _edited(replace(fake_table, space="another"), lambda _, row: row.update(key="x"))])
    with pytest.raises(TableError, match="no table to merge"):
        merge_tables([])


def test_merging_keeps_the_better_row_whatever_the_order(fake_table: LatencyTable) -> None:
    def better(number: int, row: Row) -> None:
        if number == 0:
            row.update(n_undisturbed=10**6, latency_us=row["latency_us"] * 1.001)
        if number == 1:
            row.update(n_undisturbed=1, latency_us=row["latency_us"] * 1.001)
        if number == 2:
            row.update(latency_us=None, status="failed", reason="fire", n_undisturbed=10**6)
        if number == 3:
            row["key"] = "a new one"

    other = _edited(fake_table, better)
    merged, reverse = merge_tables([fake_table, other, fake_table]), merge_tables([other, fake_table])
    assert sorted(map(str, merged.rows.to_pylist())) == sorted(map(str, reverse.rows.to_pylist()))
    assert len(merged) == len(fake_table) + 1
    assert set(merged.provenance.parents) == {fake_table.content_hash, other.content_hash}
    rows = {(row["level"], row["role"], row["key"]): row for row in merged.rows.to_pylist()}
    for number, source in ((0, other), (1, fake_table), (2, fake_table), (3, other)):
        row = source.rows.slice(number, 1).to_pylist()[0]
        assert rows[row["level"], row["role"], row["key"]] == row


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_come_back_exactly(fake_table: LatencyTable, tmp_path: Path, kind: str) -> None:
    def odd(number: int, row: Row) -> None:
        if number == 0:
            row.update(noise_floor=float("nan"), reason='a "quoted", text\nof two lines', std_us=float("inf"))
        if number == 1:
            row.update(reason="", layout="", implementation=None, latency_us=1 / 3)

    table = _edited(fake_table, odd)
    path = tmp_path / f"rows.{kind}"
    export_table(table, kind, path)
    back = read_rows(path)
    assert back.content_hash == table.content_hash
    assert back.rows.schema == table.rows.schema
    assert back.footer() == table.footer()
    path.write_text(path.read_text().replace("steady", "noisy", 1))
    with pytest.raises(TableError, match="was changed after it was written"):
        read_rows(path)
    path.write_text("{")
    with pytest.raises(TableError, match="no table that layerclock exported"):
        read_rows(path)
    footer_file(path).unlink()
    with pytest.raises(TableError, match="cannot read"):
        read_rows(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.other", "rows.CSV"])
def test_rows_come_back_whatever_their_file_is_called(fake_table: LatencyTable, tmp_path: Path, kind: str, name: str) -> None:
    for table in (fake_table, replace(fake_table, rows=fake_table.rows.slice(0, 0))):
        export_table(table, kind, tmp_path / name)
        assert read_rows(tmp_path / name).content_hash == table.content_hash


def test_a_card_says_what_the_table_says_and_no_markup_of_a_stranger(fake_table: LatencyTable) -> None:
    provenance = replace(fake_table.provenance, licence="CC0-1.0", parents=("abc",), conditions={"left out": "<script>|` *x*\n# title"})
    card = table_card(replace(fake_table, provenance=provenance, ceilings={"flops_per_s": 1e9}))
    for text in (
        fake_table.content_hash,
        "CC0-1.0",
        "parent tables: abc",
        "device: fake:cpu",
        "threads: 1",
        "noise floor",
        "flops\\_per\\_s".replace("\\", ""),
    ):
        assert text in card, text
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "\n# title" not in card
    assert "## What it must not be used for" in card
    assert card == table_card(replace(fake_table, provenance=provenance, ceilings={"flops_per_s": 1e9}))
