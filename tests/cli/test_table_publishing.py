"""``layerclock table card``, ``diff``, ``merge``, ``publish``, ``query`` and ``compact``, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import read_table

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable

PROGRAM = str(Path(sys.executable).with_name("layerclock"))


def run(*words: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def two(fake_table: LatencyTable, tmp_path: Path) -> tuple[Path, Path]:
    """The same table of two versions of a runtime, of which the newer takes twice as long."""
    target = replace(fake_table.target, runtime_version="2")
    rows = fake_table.rows.to_pylist()
    for row in rows:
        row["target_id"] = target.id
        row.update({name: row[name] * 2 for name in ("latency_us", "interval_low_us", "interval_high_us") if row[name] is not None})
    newer = replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={target.id: target})
    paths = tmp_path / "old.parquet", tmp_path / "new.parquet"
    fake_table.write(paths[0])
    newer.write(paths[1])
    return paths


def test_a_card_is_written_and_printed(two: tuple[Path, Path], tmp_path: Path) -> None:
    run("table", "card", two[0], "-o", tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert read_table(two[0]).content_hash in text
    assert json.loads(run("table", "card", two[0], "--json").stdout)["card"] == text
    assert run("table", "card", two[0]).stdout.strip() == text.strip()


def test_two_versions_are_compared_and_not_merged(two: tuple[Path, Path], tmp_path: Path) -> None:
    told = json.loads(run("table", "diff", *two, "--json").stdout)
    assert told["typical"]["network"] == pytest.approx(2)
    assert told["target"] == {"runtime_version": ["1", "2"]} or list(told["target"]) == ["runtime_version"]
    said = run("table", "diff", *two).stdout
    assert "+100.0%" in said
    assert "runtime_version" in said
    refused = run("table", "merge", *two, "-o", tmp_path / "both.parquet", expect=1)
    assert "the targets differ in runtime_version" in refused.stderr
    assert not (tmp_path / "both.parquet").exists()
    merged = json.loads(run("table", "merge", two[0], two[0], "-o", tmp_path / "both.parquet", "--json").stdout)
    assert merged["parents"] == [read_table(two[0]).content_hash]


def test_a_number_of_rows_below_zero_is_wrong_usage(two: tuple[Path, Path]) -> None:
    for words in (("show", two[0]), ("diff", *two)):
        assert "'--top'" in run("table", *words, "--top", "-70", expect=2).stderr


def test_rows_go_out_and_come_back(two: tuple[Path, Path], tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        run("table", "export", two[0], "--to", kind, "-o", tmp_path / f"rows.{kind}")
        (told,) = json.loads(run("table", "import", "rows", tmp_path / f"rows.{kind}", "-o", tmp_path / kind, "--json").stdout)
        assert read_table(told["table"]).content_hash == read_table(two[0]).content_hash


def test_tables_are_published_asked_for_and_compacted(two: tuple[Path, Path], tmp_path: Path) -> None:
    url = tmp_path / "dataset"
    first = json.loads(run("table", "publish", *two, "--to", url, "--json").stdout)["rows_added"]
    assert set(first.values()) == {len(read_table(two[0]))}
    again = json.loads(run("table", "publish", *two, "--to", url, "--json").stdout)["rows_added"]
    assert set(again.values()) == {0}
    op = read_table(two[0]).level("layer")["op"][0].as_py()
    run("table", "query", url, "--device", "fake:cpu", "--runtime", "fake 2", "--op", op, "-o", tmp_path / "some.parquet")
    some = read_table(tmp_path / "some.parquet")
    assert some.provenance.parents == (read_table(two[1]).content_hash,)
    assert set(some.rows["op"].to_pylist()) == {op}
    listed = json.loads(run("table", "query", url, "--json").stdout)
    assert sum(part["rows"] for part in listed) == 2 * len(read_table(two[0]))
    assert "fake 2" in run("table", "query", url).stdout
    assert "parts are" in run("table", "compact", url).stdout
    nothing = run("table", "query", url, "--device", "another", "-o", tmp_path / "none.parquet", expect=1)
    assert "holds nothing of device 'another'" in nothing.stderr


def test_a_broken_file_stops_a_publication_before_anything_is_added(two: tuple[Path, Path], tmp_path: Path) -> None:
    broken, url = tmp_path / "broken.parquet", tmp_path / "dataset"
    broken.write_bytes(two[1].read_bytes()[:1000])
    refused = run("table", "publish", two[0], broken, "--to", url, expect=1)
    assert str(broken) in refused.stderr
    assert not url.exists()


def test_what_is_there_is_not_written_over(two: tuple[Path, Path], tmp_path: Path) -> None:
    for name, table in zip(("monday", "friday"), two, strict=True):
        run("table", "export", table, "--to", "csv", "-o", tmp_path / f"{name}.csv")
    out, url = tmp_path / "out", tmp_path / "dataset"
    for _ in range(2):  # the same content again is no loss
        run("table", "import", "rows", tmp_path / "monday.csv", "-o", out)
    (made,) = out.iterdir()
    refused = run("table", "import", "rows", tmp_path / "friday.csv", "-o", out, expect=1)
    assert f"{made} is there, with other content" in refused.stderr
    assert "name another folder" in refused.stderr
    assert read_table(made).content_hash == read_table(two[0]).content_hash
    made.write_text("mine")
    run("table", "import", "rows", tmp_path / "monday.csv", "-o", out, expect=1)
    assert made.read_text() == "mine"
    content = two[0].read_bytes()
    assert "would overwrite what is read" in run("table", "merge", two[0], "-o", two[0], expect=1).stderr
    assert two[0].read_bytes() == content
    run("table", "publish", two[0], "--to", url)
    part = next(url.rglob("*.parquet"))
    assert "lies in the dataset" in run("table", "query", url, "-o", part, expect=1).stderr


def test_a_version_of_a_space_is_asked_for(fake_table: LatencyTable, tmp_path: Path) -> None:
    url, rows, space = tmp_path / "dataset", len(fake_table), fake_table.space
    for digest in ("aaaaaaaaaaaa1111", "bbbbbbbbbbbb2222"):
        version = replace(fake_table, space_digest=digest)
        # Of the same content, two tables are one to a dataset.
        version = replace(version, rows=version.rows.slice(0, rows - (digest[0] == "b")))
        version.write(tmp_path / f"{digest}.parquet")
        run("table", "publish", tmp_path / f"{digest}.parquet", "--to", url)
    refused = run("table", "query", url, "-o", tmp_path / "x.parquet", "--space", space, expect=1).stderr
    assert f"{space}@aaaaaaaaaaaa1111, {space}@bbbbbbbbbbbb2222" in refused
    for asked in (f"{space}@aaaaaaaaaa", "aaaaaaaa"):
        run("table", "query", url, "-o", tmp_path / "x.parquet", "--space", asked)
        assert read_table(tmp_path / "x.parquet").space_digest == "aaaaaaaaaaaa1111"
        assert sum(part["rows"] for part in json.loads(run("table", "query", url, "--space", asked, "--json").stdout)) == rows
