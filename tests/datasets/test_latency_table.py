"""A latency table as a file: what is written is read, and whatever else is read is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from layerclock.datasets.schema import COLUMNS, FOOTER_KEY, SCHEMA, SCHEMA_VERSION
from layerclock.datasets.table import LatencyTable, read_table
from layerclock.errors import OutputError, TableError, TargetMismatchError
from layerclock.predictors.evaluate import evaluate
from layerclock.predictors.fitting import fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.space import SiteIndex


@pytest.fixture
def file(fake_table: LatencyTable, tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    fake_table.write(path)
    return path


def _edit_footer(file: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Write the same rows again with a footer as ``edit`` leaves it or returns it."""
    rows = pq.read_table(file)
    footer = json.loads(rows.schema.metadata[FOOTER_KEY])
    changed = edit(footer)
    pq.write_table(rows.replace_schema_metadata({FOOTER_KEY: json.dumps(footer if changed is None else changed)}), file)


def test_what_is_written_is_read(fake_table: LatencyTable, file: Path) -> None:
    provenance = replace(fake_table.provenance, licence="CC0-1.0", parents=("abc", "def"))
    table = replace(fake_table, provenance=provenance, interference={"steal_s": 0.5}, ceilings={"flops_per_s": 1e9})
    table.write(file)
    read = read_table(file)
    assert read.rows.equals(table.rows)
    assert read.rows.schema.equals(SCHEMA, check_metadata=False)
    assert (read.targets, read.space, read.space_digest) == (table.targets, table.space, table.space_digest)
    assert (read.provenance, read.additivity) == (table.provenance, table.additivity)
    assert (read.interference, read.coverage, read.ceilings) == (table.interference, table.coverage, table.ceilings)
    assert read.target == table.target
    assert read.content_hash == table.content_hash
    assert len(read) == table.rows.num_rows == sum(read.level(level).num_rows for level in ("layer", "kernel", "network"))


def test_the_content_hash_is_of_rows_and_targets_alone(fake_table: LatencyTable) -> None:
    assert replace(fake_table, provenance=replace(fake_table.provenance, command="another")).content_hash == fake_table.content_hash
    position = fake_table.rows.schema.get_field_index("latency_us")
    changed = fake_table.rows.set_column(position, SCHEMA.field(position), pc.add(fake_table.rows["latency_us"], 1e-9))
    assert replace(fake_table, rows=changed).content_hash != fake_table.content_hash
    other = {key: replace(target, threads=2) for key, target in fake_table.targets.items()}
    assert replace(fake_table, targets=other).content_hash != fake_table.content_hash


def test_a_changed_number_is_noticed(file: Path) -> None:
    rows = pq.read_table(file)
    position = rows.schema.get_field_index("latency_us")
    faster = pc.multiply(rows["latency_us"], 0.5)
    pq.write_table(rows.set_column(position, rows.schema.field(position), faster), file)
    with pytest.raises(TableError, match=r"table\.parquet was changed after it was written"):
        read_table(file)


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, -1])
def test_a_truncated_file_is_refused(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(TableError, match=r"is no readable Parquet file.*it may be truncated"):
        read_table(file)


def test_a_flipped_byte_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(TableError):
        read_table(file)


def test_an_absent_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.parquet", tmp_path):
        with pytest.raises(TableError, match="there is no table"):
            read_table(path)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    with pytest.raises(TableError, match="is Parquet, but no latency table"):
        read_table(path)


def test_a_table_without_one_of_the_columns_is_refused(file: Path) -> None:
    pq.write_table(pq.read_table(file).drop_columns(["macs"]), file)
    with pytest.raises(TableError, match=r"is Parquet, but no latency table.*macs"):
        read_table(file)


def test_a_newer_schema_says_update(file: Path) -> None:
    _edit_footer(file, lambda footer: footer.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(TableError, match=rf"has schema {SCHEMA_VERSION + 1}; this version reads up to {SCHEMA_VERSION} \(update"):
        read_table(file)


@pytest.mark.parametrize(
    "name",
    [
        "schema_version",
        "targets",
        "space",
        "space_digest",
        "provenance",
        "additivity",
        "interference",
        "coverage",
        "ceilings",
        "content_hash",
    ],
)
def test_a_footer_that_lacks_something_is_refused(file: Path, name: str) -> None:
    def remove(footer: dict[str, Any]) -> None:
        del footer[name]

    _edit_footer(file, remove)
    with pytest.raises(TableError, match=rf"no latency table: '{name}' is missing"):
        read_table(file)


@pytest.mark.parametrize(
    "edit",
    [
        lambda _: [],
        lambda _: "text",
        lambda footer: footer.update(schema_version="first"),
        lambda footer: footer.update(targets=[{"device": "x"}]),
        lambda footer: footer["provenance"].update(unheard=1),
        lambda footer: footer.update(provenance=[]),
    ],
)
def test_a_damaged_footer_is_refused(file: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    _edit_footer(file, edit)
    with pytest.raises(TableError, match=r"has a damaged footer|no latency table"):
        read_table(file)


def test_rows_that_are_no_measurements_are_refused(fake_table: LatencyTable) -> None:
    with pytest.raises(TableError, match="the rows do not have the columns of schema 1: macs"):
        replace(fake_table, rows=fake_table.rows.drop_columns(["macs"]))
    for column, allowed in (
        ("status", "steady, noisy, failed"),
        ("level", "layer, kernel, network"),
        ("role", "profiled, calibration, holdout"),
    ):
        position = fake_table.rows.schema.get_field_index(column)
        strange = pa.array(["strange"] * len(fake_table), pa.string())
        with pytest.raises(TableError, match=rf"column '{column}' holds 'strange' \(allowed: {allowed}\)"):
            replace(fake_table, rows=fake_table.rows.set_column(position, SCHEMA.field(position), strange))
    with pytest.raises(TableError, match="column 'target_id' holds"):
        replace(fake_table, targets={})


def test_several_targets_are_never_mixed_silently(fake_table: LatencyTable) -> None:
    other = replace(fake_table.target, threads=2)
    position = fake_table.rows.schema.get_field_index("target_id")
    rows = fake_table.rows.set_column(position, SCHEMA.field(position), pa.array([other.id] * len(fake_table), pa.string()))
    both = replace(fake_table, rows=pa.concat_tables([fake_table.rows, rows]), targets={**fake_table.targets, other.id: other})
    for use in (lambda: both.target, lambda: fit(both), lambda: fit(both, kind="endtoend"), lambda: evaluate(fit(fake_table), both)):
        with pytest.raises(TargetMismatchError, match="the table holds 2 targets"):
            use()


def test_pandas_and_pyarrow_read_it_without_this_package(fake_table: LatencyTable, file: Path) -> None:
    frame = pd.read_parquet(file)
    assert list(frame.columns) == [name for name, _, _ in COLUMNS]
    pd.testing.assert_frame_equal(frame, fake_table.to_pandas())
    slowest = frame[frame.level == "layer"].sort_values("latency_us").iloc[-1]
    assert fake_table.layer_latencies_us()[slowest.key] == slowest.latency_us
    assert set(fake_table.to_pandas("kernel").level) == {"kernel"}
    assert pq.read_schema(file).names == list(frame.columns)


def test_a_folder_that_looks_like_a_partition_adds_nothing(fake_table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "device=another" / "table.parquet"
    fake_table.write(path)
    assert read_table(path).rows.equals(fake_table.rows)


def test_units_stand_in_the_names_of_the_columns() -> None:
    others = {"kernels", "noise_floor", "energy_mj"}
    for name, kind, meaning in COLUMNS:
        assert meaning, name
        if kind == pa.float64():
            assert name in others or name.endswith("_us"), name
        assert kind == pa.float64() or not name.endswith("_us"), name
    assert SCHEMA.names == [name for name, _, _ in COLUMNS]
    assert SCHEMA.field("macs").metadata == {
        b"description": b"multiply-accumulates: for batch 1 (layers, networks), at the measured batch (kernels)"
    }


def test_networks_come_by_role_and_failed_rows_are_left_out(fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    profiled, holdout = fake_table.networks(), fake_table.networks("holdout")
    assert (profiled.genomes.shape, holdout.genomes.shape) == ((14, len(tiny_index.genes)), (8, len(tiny_index.genes)))
    rows = fake_table.rows.to_pylist()
    failing = next(row for row in rows if row["level"] == "network" and row["role"] == "holdout")
    failing.update(latency_us=None, noise_floor=None, status="failed", reason="it caught fire")
    lost = next(row for row in rows if row["level"] == "layer")
    lost.update(latency_us=None, status="failed", reason="it caught fire")
    table = replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))
    assert len(table.networks("holdout")) == 7
    assert failing["genome"] not in table.networks("holdout").genomes.tolist()
    assert set(fake_table.layer_latencies_us()) - set(table.layer_latencies_us()) == {lost["key"]}
    assert np.isfinite(table.noise_floor)


def test_a_table_without_held_out_networks_is_a_table(fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    table = replace(fake_table, rows=fake_table.rows.filter(pc.not_equal(fake_table.rows["role"], "holdout")))
    assert table.networks("holdout").genomes.shape == (0, len(tiny_index.genes))
    assert len(table.networks("holdout")) == 0
    assert table.noise_floor == pytest.approx(np.mean(table.networks().noise_floor))


def test_a_folder_that_cannot_be_written_is_a_clear_error(fake_table: LatencyTable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        fake_table.write(tmp_path / "file" / "table.parquet")
