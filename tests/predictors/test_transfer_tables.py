"""Tables, ours and imported ones, as the sources of a transfer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from layerclock.datasets.public.as_tables import space_tables
from layerclock.datasets.public.latencies import PublicLatencies
from layerclock.datasets.public.wide_parquet import read_wide_parquet
from layerclock.datasets.schema import SCHEMA
from layerclock.errors import TableError, TargetMismatchError
from layerclock.plugins import load_space
from layerclock.predictors.transfer.tables import sources_of

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray, SiteIndex

CELLS = load_space("nas-bench-201")


def _tables(genomes: list[list[int]], latency_ms: list[list[float]], devices: tuple[str, ...]) -> list[LatencyTable]:
    return space_tables(PublicLatencies("nas-bench-201", np.array(genomes), np.array(latency_ms), devices, "here", "CC0-1.0"))


def test_networks_of_all_tables_are_brought_together() -> None:
    first = _tables([[3, 0, 0, 3, 0, 0], [1, 1, 1, 1, 1, 1]], [[1.0], [2.0]], ("a",))
    second = _tables([[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]], [[3.0], [4.0]], ("b",))
    sources = sources_of([*first, *second], CELLS)
    assert sources.devices == ("a", "b")
    # The first edge of [3, 0, 0, 3, 0, 0] leads nowhere, but a device that runs what is written spends time on it.
    assert sources.genomes.tolist() == [[1] * 6, [2] * 6, [3, 0, 0, 3, 0, 0]]
    np.testing.assert_array_equal(sources.latency_ms, [[2, 3], [np.nan, 4], [1, np.nan]])


def test_a_network_that_occurs_more_than_once_has_the_median() -> None:
    often = [0, 0, 0, 3, 0, 0]
    (odd,) = _tables([often] * 3, [[9.0], [1.0], [2.0]], ("a",))
    (even,) = _tables([*([often] * 4), [1] * 6], [[8.0], [1.0], [2.0], [6.0], [5.0]], ("b",))
    sources = sources_of([odd, even], CELLS)
    assert sources.genomes.tolist() == [often, [1] * 6]
    np.testing.assert_array_equal(sources.latency_ms, [[2, 4], [np.nan, 5]])


def test_a_campaigns_table_gives_all_its_networks(fake_table: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    slower = replace(fake_table.target, device="other")
    rows = fake_table.rows
    for name, values in (("target_id", pa.repeat(slower.id, len(rows))), ("latency_us", pc.multiply(rows["latency_us"], 2))):
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, SCHEMA.field(position), values)
    sources = sources_of([fake_table, replace(fake_table, rows=rows, targets={slower.id: slower})], tiny_space)
    assert sources.devices == ("fake:cpu", "other")
    assert len(sources.genomes) == 22
    assert np.array_equal(tiny_index.canonical(sources.genomes), sources.genomes)
    np.testing.assert_allclose(sources.latency_ms[:, 1], 2 * sources.latency_ms[:, 0])
    measured = {row["key"]: row["latency_us"] for row in fake_table.level("network").to_pylist()}
    for genome, (latency_ms, _) in zip(sources.genomes.tolist(), sources.latency_ms, strict=True):
        assert latency_ms == pytest.approx(measured[" ".join(map(str, genome))] / 1e3)


def test_devices_of_one_name_are_told_apart() -> None:
    (table,) = _tables([[1] * 6], [[2.0]], ("a",))
    faster = replace(table.target, batch=8)
    position = table.rows.schema.get_field_index("target_id")
    other = replace(table, rows=table.rows.set_column(position, SCHEMA.field(position), pa.array([faster.id])), targets={faster.id: faster})
    assert sources_of([table, other], CELLS).devices == (table.target.id, faster.id)


def test_what_does_not_belong_together_is_refused(fake_table: LatencyTable, tiny_space: SearchSpace) -> None:
    (table,) = _tables([[1] * 6], [[2.0]], ("a",))
    with pytest.raises(TableError, match="no table to transfer from"):
        sources_of([], CELLS)
    with pytest.raises(TableError, match="of a is of the space 'nas-bench-201', not of 'digits"):
        sources_of([fake_table, table], tiny_space)
    with pytest.raises(TableError, match="not of 'nas-bench-201:classes=100'"):
        sources_of([table], load_space("nas-bench-201:classes=100"))
    with pytest.raises(TargetMismatchError, match=f"2 tables have the target {table.target.id}"):
        sources_of([table, *_tables([[2] * 6], [[2.0]], ("a",))], CELLS)
    with pytest.raises(TargetMismatchError, match="the table holds 2 targets"):
        sources_of([replace(table, targets={**table.targets, "b": replace(table.target, device="b")})], CELLS)
    layers = replace(fake_table, rows=fake_table.level("layer"))
    with pytest.raises(TableError, match="of fake:cpu has no measured networks"):
        sources_of([layers], tiny_space)


def _number(genomes: GenomeArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]] = genomes @ 5 ** np.arange(5, -1, -1)
    return numbers


def test_the_published_cells(data_folder: Path) -> None:
    found = read_wide_parquet(data_folder / "nb201_latency.parquet")
    few = replace(found, latency_ms=found.latency_ms[:, [0, 26]], devices=(found.devices[0], found.devices[26]))
    sources = sources_of(space_tables(few), CELLS)
    assert np.array_equal(_number(sources.genomes), np.arange(5**6)), "every cell once, dead edges and all"
    order = np.argsort(_number(found.genomes))
    np.testing.assert_allclose(sources.latency_ms, few.latency_ms[order], rtol=1e-12)
    assert np.isnan(sources.latency_ms[:, 1]).sum() > 0
