"""A dataset of many tables: on disk, in memory and on an S3 server, with several writers, crashes and compactions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from layerclock.datasets import partitioned, partitions
from layerclock.datasets.partitioned import LatencyDataset, Selection
from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.storage import Storage
from layerclock.errors import ArgumentError, OutputError, TableError, TargetMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layerclock.datasets.table import LatencyTable


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of moto's server, an S3 that listens on this machine."""
    import boto3  # type: ignore[import-untyped]
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="latencies")
        yield "s3://latencies"
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "dataset")
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def _on(table: LatencyTable, device: str, factor: float = 1.0, version: str = "1") -> LatencyTable:
    """The same measurements as another device would have made them."""
    target = replace(table.target, device=device, runtime_version=version)
    rows = [
        {**row, "target_id": target.id, "device": device, "runtime_version": f"{target.runtime} {version}",
         "latency_us": None if row["latency_us"] is None else row["latency_us"] * factor}
        for row in table.rows.to_pylist()
    ]  # fmt: skip
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={target.id: target})


def _same(first: pa.Table, second: pa.Table) -> bool:
    order = [("target_id", "ascending"), ("level", "ascending"), ("role", "ascending"), ("key", "ascending"), ("latency_us", "ascending")]
    one, other = (rows.replace_schema_metadata(None).cast(pa.schema(list(SCHEMA))).sort_by(order) for rows in (first, second))
    return json.dumps(one.to_pylist()) == json.dumps(other.to_pylist())


def test_what_is_appended_is_found_and_appending_twice_adds_nothing(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    first, second = _on(fake_table, "board:a"), _on(fake_table, "board/b?=%.", 2.0)
    assert dataset.append(first) == len(first)
    assert dataset.append(first) == 0
    assert LatencyDataset(url).append(second) == len(second)
    assert _same(dataset.query(Selection()), pa.concat_tables([first.rows, second.rows]))
    assert _same(dataset.query(Selection(device="board/b?=%.")), second.rows)
    op = first.level("layer")["op"][0].as_py()
    found = dataset.query(Selection(device="board:a", runtime="fake", level="layer", op=op))
    expected = first.level("layer")
    assert _same(found, expected.filter(pc.equal(expected["op"], op)))
    assert dataset.query(Selection(device="board:a", op="no such operator")).num_rows == 0
    with pytest.raises(TableError, match="holds nothing of device 'board:c'"):
        dataset.query(Selection(device="board:c"))
    assert {part["device"] for part in dataset.partitions(Selection())} == {"board:a", "board/b?=%."}


def test_targets_that_share_a_folder_are_all_published(fake_table: LatencyTable, tmp_path: Path) -> None:
    other = replace(fake_table.target, threads=2)
    twice = pa.concat_tables(
        [fake_table.rows, pa.Table.from_pylist([{**row, "target_id": other.id} for row in fake_table.rows.to_pylist()], schema=SCHEMA)]
    )
    table = replace(fake_table, rows=twice, targets={**fake_table.targets, other.id: other})
    dataset = LatencyDataset(str(tmp_path / "dataset"))
    assert dataset.append(table) == 2 * len(fake_table)
    assert dataset.append(table) == 0
    assert set(pc.unique(dataset.query()["target_id"]).to_pylist()) == set(table.targets)
    with pytest.raises(TargetMismatchError, match="holds 2 targets"):
        _ = dataset.table(Selection()).target
    for found in (dataset.table(Selection(target=other.id)), table.of_target(other.id)):
        assert found.target == other
        assert len(found) == len(fake_table)
        assert found.provenance.parents == (table.content_hash,)
    with pytest.raises(TableError, match="target 'none-such'"):
        dataset.table(Selection(target="none-such"))
    with pytest.raises(ArgumentError, match=f"it holds .*{re.escape(other.id)}"):
        table.of_target("none-such")


def test_a_selection_of_nothing_is_no_table(fake_table: LatencyTable, tmp_path: Path) -> None:
    dataset = LatencyDataset(str(tmp_path / "dataset"))
    dataset.append(fake_table)
    with pytest.raises(TableError, match="holds no rows"):
        dataset.table(Selection(op="no such operator"))


def test_a_selection_is_a_table_with_its_parents(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    first, other = _on(fake_table, "board:a"), replace(_on(fake_table, "board:b"), space="another", space_digest="x")
    dataset.append(first)
    dataset.append(other)
    table = dataset.table(Selection(device="board:a"))
    assert _same(table.rows, first.rows)
    assert (table.space, table.targets, table.provenance.parents) == (first.space, first.targets, (first.content_hash,))
    with pytest.raises(ArgumentError, match="one space, and this selection of 2"):
        dataset.table(Selection())


def test_of_two_campaigns_of_one_target_a_table_has_the_better_row_of_each_key(fake_table: LatencyTable, tmp_path: Path) -> None:
    def resumed(row: dict[str, Any]) -> dict[str, Any]:
        """As the same campaign had it after more rounds; but one row did not get any."""
        more = row["key"] != fake_table.rows["key"][0].as_py() and row["latency_us"] is not None
        return {**row, "latency_us": row["latency_us"] * 2, "n_undisturbed": row["n_undisturbed"] + 1} if more else row

    better = replace(fake_table, rows=pa.Table.from_pylist([resumed(row) for row in fake_table.rows.to_pylist()], schema=SCHEMA))
    dataset = LatencyDataset(str(tmp_path))
    for table in (better, fake_table):
        dataset.append(table)
    for _ in range(2):
        found = dataset.table(Selection())
        assert _same(found.rows, better.rows)
        assert found.provenance.parents == tuple(sorted((fake_table.content_hash, better.content_hash)))
        dataset.compact()
    assert dataset.query().num_rows == 2 * len(fake_table)


def test_versions_of_a_space_are_told_apart_by_their_digest(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    tables = {digest: replace(_on(fake_table, "board:a", factor), space_digest=digest)
              for factor, digest in enumerate(("aaaaaaaaaaaa1111", "aaaaaaaaaaaa2222"), start=1)}  # fmt: skip
    for table in tables.values():
        dataset.append(table)
        dataset.append(replace(_on(table, "board:a", 7.0), space_digest=table.space_digest))
    for _ in range(2):
        with pytest.raises(ArgumentError, match=r"of 2: \S+@aaaaaaaaaaaa1111, \S+@aaaaaaaaaaaa2222 \(.*--space"):
            dataset.table(Selection(digest="aaaaaaaa"))
        for digest, table in tables.items():
            found = dataset.table(Selection(digest=digest[:13], level="layer"))
            assert found.space_digest == digest
            assert len(found) == table.level("layer").num_rows == dataset.count(Selection(digest=digest, level="layer")) // 2
        with pytest.raises(TableError, match="nothing of digest 'bbbbbbbb'"):
            dataset.table(Selection(digest="bbbbbbbb"))
        assert dataset.count(Selection(digest="bbbbbbbb")) == 0
        done = dataset.compact()
    assert (done.parts_after, done.bytes_written) == (6, 0)


def test_compaction_keeps_every_row_once_and_reduces_the_parts(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(4)]
    for table in tables[:3]:
        dataset.append(table)
    done = dataset.compact()
    assert (done.parts_before, done.parts_after) == (9, 3)
    assert _same(dataset.query(Selection()), pa.concat_tables([table.rows for table in tables[:3]]))
    assert dataset.append(tables[1]) == 0, "what was merged is known still"
    assert dataset.append(tables[3]) == len(tables[3])
    assert dataset.compact().parts_after == 3
    assert dataset.compact().bytes_written == 0, "nothing is left to do"
    assert _same(dataset.query(Selection()), pa.concat_tables([table.rows for table in tables]))
    assert set(dataset.table(Selection()).provenance.parents) == {table.content_hash for table in tables}


class _CrashError(Exception):
    """The power went out."""


@pytest.mark.parametrize("survived", range(14))
def test_a_crash_at_any_moment_of_a_compaction_loses_and_doubles_nothing(
    fake_table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    dataset = LatencyDataset(str(tmp_path))
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(3)]
    for table in tables:
        dataset.append(table)
    left = survived

    def counted(original: Any) -> Any:
        def step(self: Storage, *arguments: Any) -> Any:
            nonlocal left
            if not left:
                raise _CrashError
            left -= 1
            return original(self, *arguments)

        return step

    with monkeypatch.context() as patch:
        for name in ("write", "create", "remove"):
            patch.setattr(Storage, name, counted(getattr(Storage, name)))
        with pytest.raises(_CrashError):
            dataset.compact()
    expected = pa.concat_tables([table.rows for table in tables])
    assert _same(dataset.query(Selection()), expected)
    assert [dataset.append(table) for table in tables] == [0, 0, 0]
    dataset.compact()
    assert _same(dataset.query(Selection()), expected)
    # Others, who read every file, find each row once, too.
    assert sum(pq.read_metadata(part).num_rows for part in tmp_path.rglob("*.parquet")) == len(expected)


def test_what_a_crash_left_goes_even_where_nothing_is_to_merge(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    dataset.append(_on(fake_table, "board:a", 1))
    (folder,) = (folder for folder in dataset._partitions(Selection()) if folder.endswith("level=layer"))
    (part,) = _live(dataset, folder)
    dataset.storage.write(f"{folder}/merged-crashed.parquet", dataset.storage.read(f"{folder}/{part}"))
    dataset.compact()
    assert {name for name in dataset.storage.names(folder) if name.endswith(".parquet")} == {part}
    assert _same(dataset.query(Selection()), _on(fake_table, "board:a", 1).rows)


def test_of_two_compactions_at_once_one_takes_effect(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(3)]
    for table in tables:
        dataset.append(table)
    (folder,) = (folder for folder in dataset._partitions(Selection()) if folder.endswith("level=layer"))
    before = partitions.state_of(dataset.storage, folder)
    dataset.compact()
    dataset.storage.write(f"{folder}/merged-late.parquet", dataset.storage.read(f"{folder}/{next(iter(_live(dataset, folder)))}"))
    assert not partitions.commit(dataset.storage, folder, before, {"merged-late.parquet": 1}, set(before.parts))
    assert "merged-late.parquet" not in dataset.storage.names(folder)
    assert _same(dataset.query(Selection()), pa.concat_tables([table.rows for table in tables]))


def test_a_compaction_that_several_others_overtook_takes_no_effect(fake_table: LatencyTable, url: str) -> None:
    dataset = LatencyDataset(url)
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(5)]
    for table in tables[:2]:
        dataset.append(table)
    (folder,) = (folder for folder in dataset._partitions(Selection()) if folder.endswith("level=layer"))
    before = partitions.state_of(dataset.storage, folder)
    for table in tables[2:]:
        dataset.append(table)
        dataset.compact()
    assert "log-00000001.json" not in dataset.storage.names(folder), "the number that the slow one wants is free again"
    dataset.storage.write(f"{folder}/merged-late.parquet", dataset.storage.read(f"{folder}/{next(iter(_live(dataset, folder)))}"))
    files = set(dataset.storage.names(folder)) - {"merged-late.parquet"}
    slow = partitions.State(before.parts, before.contained, before.number, frozenset(_live(dataset, folder)))
    assert not partitions.commit(dataset.storage, folder, slow, {"merged-late.parquet": 1}, set(before.parts))
    assert set(dataset.storage.names(folder)) == files
    assert _same(dataset.query(Selection()), pa.concat_tables([table.rows for table in tables]))


@pytest.mark.parametrize("verb", ["compact", "count", "query"])
def test_a_compaction_in_the_midst_of_another_verb_loses_and_doubles_nothing(
    fake_table: LatencyTable, url: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    dataset = LatencyDataset(url)
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(3)]
    for table in tables:
        dataset.append(table)
    listed, ran = partitions.state_of, False

    def overtaken(*arguments: Any) -> partitions.State:
        nonlocal ran
        state = listed(*arguments)
        if not ran:
            ran = True
            LatencyDataset(url).compact()
        return state

    monkeypatch.setattr(partitioned, "state_of", overtaken)
    result = getattr(dataset, verb)()
    expected = pa.concat_tables([table.rows for table in tables])
    if verb == "count":
        assert result == len(expected)
    dataset.compact()
    assert _same(dataset.query(), expected)
    files = [name for folder in dataset._partitions(Selection()) for name in dataset.storage.names(folder) if name.endswith(".parquet")]
    assert len(files) == 3, "nothing is left over"


def test_what_vanishes_while_a_folder_is_listed_is_not_missed(
    fake_table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = LatencyDataset(str(tmp_path))
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(2)]
    for table in tables:
        dataset.append(table)
    listed, ran = Storage.names, False

    def slowly(self: Storage, folder: str) -> dict[str, int]:
        nonlocal ran
        before = listed(self, folder)
        if ran or not folder.endswith("level=layer"):
            return before
        ran = True
        LatencyDataset(str(tmp_path)).compact()
        after = listed(self, folder)
        return {name: size for name, size in before.items() if name in after}

    monkeypatch.setattr(Storage, "names", slowly)
    assert _same(dataset.query(Selection(level="layer")), pa.concat_tables([table.level("layer") for table in tables]))


def _live(dataset: LatencyDataset, folder: str) -> dict[str, int]:
    return partitions.state_of(dataset.storage, folder).parts


def test_several_writers_a_reader_and_a_compaction_at_once(fake_table: LatencyTable, tmp_path: Path) -> None:
    """Processes append different tables and the same one, while this one compacts and reads; every row is there once."""
    tables = [_on(fake_table, "board:a", 1 + number) for number in range(6)]
    for number, table in enumerate(tables):
        table.write(tmp_path / f"{number}.parquet")
    code = (
        "import sys\nfrom layerclock.datasets.partitioned import LatencyDataset\nfrom layerclock.datasets.table import read_table\n"
        "dataset = LatencyDataset(sys.argv[1])\nfor path in sys.argv[2:]:\n    dataset.append(read_table(path))\n"
    )
    url = str(tmp_path / "dataset")
    shares = [(0, 1, 2), (2, 3, 0), (4, 5, 2)]
    command = [sys.executable, "-c", code, url]
    writers = [subprocess.Popen([*command, *(str(tmp_path / f"{number}.parquet") for number in share)]) for share in shares]
    dataset, sizes = LatencyDataset(url), {len(fake_table) * number for number in range(7)}
    while any(writer.poll() is None for writer in writers):
        try:
            dataset.compact()
            layers = dataset.query(Selection(level="layer")).num_rows
        except TableError:
            continue
        assert layers % fake_table.level("layer").num_rows == 0, "no half part is ever seen"
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    dataset.compact()
    assert dataset.query(Selection()).num_rows in sizes
    assert _same(dataset.query(Selection()), pa.concat_tables([table.rows for table in tables]))
    hidden = [name for _, _, files in os.walk(url) for name in files if name.endswith(".draft")]
    assert not hidden


def test_of_many_creators_of_one_name_one_succeeds(url: str) -> None:
    storage = Storage(url)
    with ThreadPoolExecutor(4) as pool:
        took = list(pool.map(lambda number: storage.create("folder/name", str(number).encode()), range(8)))
    assert took.count(True) == 1 or url.startswith("memory:")
    assert storage.read("folder/name") == str(took.index(True)).encode() or url.startswith("memory:")


def test_damage_and_strange_places_are_told(fake_table: LatencyTable, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="holds no dataset"):
        LatencyDataset(str(tmp_path / "none")).compact()
    with pytest.raises(TableError, match="is no place for a dataset"):
        LatencyDataset("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        LatencyDataset(str(tmp_path / "file")).append(fake_table)
    dataset = LatencyDataset(str(tmp_path / "dataset"))
    dataset.append(fake_table)
    part = next((tmp_path / "dataset").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(TableError, match=r"a part of .* is damaged"):
        dataset.query(Selection())
    for log in ("{", "[]", '{"merged": 1, "contains": []}'):
        (part.parent / "log-00000001.json").write_text(log)
        with pytest.raises(TableError, match=r"log-00000001\.json is damaged"):
            dataset.query(Selection())


@pytest.mark.parametrize(
    "footer", ['{"x":{}}', "[1]", "1", "{", '{"x": {"space": "s", "space_digest": "d", "provenance": 1, "targets": []}}']
)
def test_a_part_with_a_strange_footer_is_told(fake_table: LatencyTable, tmp_path: Path, footer: str) -> None:
    dataset = LatencyDataset(str(tmp_path))
    for number in (1, 2):
        dataset.append(_on(fake_table, "board:a", number))
    part = next(tmp_path.rglob("*.parquet"))
    pq.write_table(pq.read_table(part).replace_schema_metadata({"layerclock": footer}), part)
    for verb in (dataset.query, dataset.compact):
        with pytest.raises(TableError, match=rf"is damaged: {part.name}: its footer or rows.*delete that part"):
            verb()


def test_polars_and_duckdb_read_tables_and_datasets_without_this_package(fake_table: LatencyTable, tmp_path: Path) -> None:
    import duckdb
    import polars as pl

    path = tmp_path / "table.parquet"
    fake_table.write(path)
    frame = pl.read_parquet(path)
    assert frame.columns == SCHEMA.names
    assert frame.filter(pl.col("level") == "layer")["latency_us"].to_list() == fake_table.level("layer")["latency_us"].to_pylist()
    query = "select level, count(*), sum(latency_us) from read_parquet(?) group by level order by level"
    told = duckdb.connect().execute(query, [str(path)]).fetchall()
    for level, number, total in told:
        rows = fake_table.level(level)
        assert (number, total) == (rows.num_rows, pytest.approx(pc.sum(rows["latency_us"]).as_py()))
    dataset = LatencyDataset(str(tmp_path / "dataset"))
    for device in ("board:a", "board:b"):
        dataset.append(_on(fake_table, device))
    query = "select count(*) from read_parquet(?, hive_partitioning = false)"
    found = duckdb.connect().execute(query, [f"{tmp_path}/dataset/**/*.parquet"]).fetchall()
    assert found == [(2 * len(fake_table),)]
    assert pl.scan_parquet(f"{tmp_path}/dataset/**/*.parquet").select(pl.len()).collect().item() == 2 * len(fake_table)


@pytest.mark.parametrize("compacted", [False, True])
def test_pandas_reads_a_dataset_as_the_page_says(fake_table: LatencyTable, tmp_path: Path, compacted: bool) -> None:
    dataset = LatencyDataset(str(tmp_path / "lab"))
    for number, device in enumerate(("board:a", "board:a", "board/b"), start=1):
        dataset.append(_on(fake_table, device, number))
    if compacted:
        dataset.compact()
    page = (Path(__file__).parents[2] / "docs" / "ship.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "rglob" in block)
    code = f"import json\nimport pandas as pd\n{code}\nprint(json.dumps([list(everything), everything['device'].value_counts().to_dict()]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [SCHEMA.names, {"board:a": 2 * len(fake_table), "board/b": len(fake_table)}]
