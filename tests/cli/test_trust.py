"""What is told about a table that a predictor or a search is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from layerclock.cli.fit import command as fit
from layerclock.cli.objectives import parse_objectives
from layerclock.cli.search import naming_the_place
from layerclock.cli.trust import broken_rules, tell_distrust
from layerclock.datasets.schema import SCHEMA
from layerclock.errors import SearchError

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.space import SiteIndex


@pytest.fixture
def good(fake_table: LatencyTable) -> LatencyTable:
    """A table that keeps every serious rule."""
    rows = [row | {"n_undisturbed": max(8, row["n_undisturbed"] or 0), "noise_floor": row["noise_floor"] and 0.01, "status": "steady"}
            for row in fake_table.rows.to_pylist()]  # fmt: skip
    table = replace(fake_table, interference={}, additivity={"median": 0.95, "lowest": 0.94, "highest": 0.96})
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))


@pytest.fixture
def doubtful(good: LatencyTable) -> LatencyTable:
    return replace(good, additivity={"median": 0.5, "lowest": 0.4, "highest": 0.6})


def test_a_good_table_gives_nothing_to_tell(good: LatencyTable, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_distrust("good.parquet", good) == []
    assert capsys.readouterr().err == ""


def test_what_is_broken_is_told_with_what_to_do(doubtful: LatencyTable, capsys: pytest.CaptureFixture[str]) -> None:
    (broken,) = tell_distrust("x.parquet", doubtful)
    assert broken == "the layers of a network sum to its end-to-end time (50.0% of it, within 20.0%)"
    said = capsys.readouterr().err
    assert broken in said
    assert "layerclock table check x.parquet" in said


def test_a_search_tells_which_rules_its_table_breaks(
    good: LatencyTable, doubtful: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, table in (("good", good), ("doubtful", doubtful)):
        table.write(tmp_path / f"{name}.parquet")
        (objective,) = parse_objectives([f"latency:{tmp_path / name}.parquet"], tiny_space, tiny_index, tmp_path)
        assert objective.name == "latency_ms"
        (tmp_path / name).mkdir()
        table.write(tmp_path / name / "table.parquet")
        assert ("NOT to be trusted" in capsys.readouterr().err) == bool(broken_rules(table)) == (name == "doubtful")
    alike = [f"latency:{tmp_path / name}/table.parquet" for name in ("good", "doubtful")]
    found = parse_objectives(alike, tiny_space, tiny_index, tmp_path)
    assert [objective.name for objective in found] == ["latency_good_table_ms", "latency_doubtful_table_ms"]


def test_a_transfer_tells_which_of_its_tables_break_rules(
    good: LatencyTable, doubtful: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in (("good", good), ("doubtful", doubtful)):
        table.write(tmp_path / f"{name}.parquet")
    source, measured, output = tmp_path / "doubtful.parquet", tmp_path / "good.parquet", tmp_path / "new.onnx"
    words = ["--transfer", str(source), "--measured", str(measured), "-o", str(output), "--json"]
    fit.main(words, standalone_mode=False)
    said = capsys.readouterr()
    assert f"{source} is NOT to be trusted" in said.err
    assert json.loads(said.out)["broken_rules"] == [f"{source}: {broken_rules(doubtful)[0]}"]


def test_a_defect_of_an_evaluator_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"ended in ZeroDivisionError: .*test_trust.py, line \d+\)") as caught, naming_the_place(tmp_path):
        _ = 1 / 0
    assert str(tmp_path) in caught.value.hint
