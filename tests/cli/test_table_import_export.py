"""``layerclock table import`` and ``export``, and what ``show`` and ``check`` say of imported tables, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from layerclock.cli import table_export, table_import
from layerclock.datasets.exports import EXPORTS
from layerclock.datasets.public.formats import FORMATS
from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import read_table

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = str(Path(sys.executable).with_name("layerclock"))


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables of forty cells on two devices."""
    folder, rng = tmp_path_factory.mktemp("published"), np.random.default_rng(0)
    codes = np.unique(rng.integers(1, 5, (40, 6)), axis=0).tolist()
    for name in ("desktop-cpu-fp32", "phone"):
        held = {tuple(code): float(seconds) for code, seconds in zip(codes, rng.uniform(0.001, 0.02, len(codes)), strict=True)}
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(held))
    words = ("table", "import", "latbench", *map(str, sorted(folder.glob("*.pickle"))), "-o", str(folder / "tables"), "--json")
    told = json.loads(run(*words).stdout)
    assert [Path(one["table"]).name for one in told] == ["desktop-cpu-fp32.parquet", "phone.parquet"]
    assert {(one["rows"], one["space"], one["licence"]) for one in told} == {(len(codes), "nas-bench-201", "Apache-2.0")}
    return folder / "tables"


def test_the_lists_of_the_help_are_the_readers_and_writers() -> None:
    assert tuple(FORMATS) == table_import.FORMATS
    assert tuple(EXPORTS) == table_export.KINDS
    said = run("table", "import", "--help").stdout
    assert all(f"  {name} " in said for name in FORMATS)
    assert "Example: layerclock table import" in said
    assert "Example: layerclock table export" in run("table", "export", "--help").stdout


def test_imported_tables_are_shown_and_checked(imported: Path) -> None:
    said = run("table", "show", str(imported / "phone.parquet"), "--level", "network", "--top", "3").stdout
    assert "https://github.com/SamsungLabs/eagle" in said
    assert "not told" in said
    assert max(map(len, said.splitlines())) <= 80
    findings = json.loads(run("table", "check", str(imported / "phone.parquet"), "--json", expect=3).stdout)
    (rules,) = findings.values()
    kept = {rule["rule"]: rule["kept"] for rule in rules}
    assert kept["every time is possible"]
    assert not kept["the noise floor of whole networks is low"], "nobody told it"


def test_a_predictor_is_fitted_to_an_imported_table(imported: Path, tmp_path: Path) -> None:
    done = run(
        "fit", str(imported / "desktop-cpu-fp32.parquet"), "--kind", "endtoend:model=ridge", "-o", str(tmp_path / "cpu.onnx"), "--json"
    )
    told = json.loads(done.stdout)
    assert told["space"] == "nas-bench-201"
    assert "Warning" not in done.stderr
    findings = json.loads(run("table", "check", str(imported / "desktop-cpu-fp32.parquet"), "--json", expect=3).stdout)
    (rules,) = findings.values()
    assert told["broken_rules"] == [f"{rule['rule']} ({rule['detail']})" for rule in rules if rule["serious"] and not rule["kept"]]
    assert f"NOT to be trusted as it is: {told['broken_rules'][0]}" in done.stderr
    judged = run("evaluate", str(tmp_path / "cpu.onnx"), str(imported / "desktop-cpu-fp32.parquet"), "--role", "profiled")
    assert "not told" in judged.stdout
    assert "nan" not in judged.stdout
    assert "Warning" not in judged.stderr


def test_rows_are_exported(imported: Path, tmp_path: Path) -> None:
    table = read_table(imported / "phone.parquet")
    for kind in ("csv", "jsonl"):
        assert kind in run("table", "export", str(imported / "phone.parquet"), "--to", kind, "-o", str(tmp_path / f"rows.{kind}")).stdout
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == SCHEMA.names
    expected = table.rows.to_pylist()
    assert [float(row["latency_us"]) for row in rows] == [row["latency_us"] for row in expected]
    assert [json.loads(row["genome"]) for row in rows] == [row["genome"] for row in expected]
    assert {row["noise_floor"] for row in rows} == {""}
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == expected


def test_rows_of_a_campaign_are_exported(fake_folder: Path, tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        told = json.loads(
            run("table", "export", str(fake_folder / "table.parquet"), "--to", kind, "-o", str(tmp_path / f"rows.{kind}"), "--json").stdout
        )
        assert told["rows"] == len(read_table(fake_folder / "table.parquet"))
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    with (tmp_path / "rows.csv").open() as file:
        assert [row["key"] for row in csv.DictReader(file)] == [line["key"] for line in lines]


def test_once_for_alls_tables_there_and_back(data_folder: Path, tmp_path: Path) -> None:
    published = [data_folder / "ofa" / f"{side}_lookup_table.yaml" for side in (160, 224)]
    run("table", "import", "ofa-yaml", *map(str, published), "--device", "note10", "-o", str(tmp_path))
    names = ("note10-ofa-mobilenetv3-width-1.2-resolution-160.parquet", "note10-ofa-mobilenetv3-width-1.2.parquet")
    for path, name in zip(published, names, strict=True):
        run("table", "export", str(tmp_path / name), "--to", "ofa-yaml", "-o", str(tmp_path / "again.yaml"))
        assert (tmp_path / "again.yaml").read_bytes() == path.read_bytes()
        assert "to be trusted" in run("table", "check", str(tmp_path / name), expect=3).stdout


class _Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, ("true",)


def test_errors_are_one_clear_line_with_a_hint(imported: Path, fake_folder: Path, tmp_path: Path) -> None:
    hostile, foreign = tmp_path / "hostile.pickle", tmp_path / "foreign.yaml"
    hostile.write_bytes(pickle.dumps({(0,) * 6: _Hostile()}))
    foreign.write_text(yaml.dump({"Conv": {"mean": 1.0}}))
    out, fake, phone = ("-o", str(tmp_path / "out")), str(fake_folder / "table.parquet"), str(imported / "phone.parquet")
    for words, reason in (
        (("import", "latbench", str(hostile), *out), "which no list of numbers needs"),
        (("import", "latbench", str(tmp_path / "absent.pickle"), *out), "cannot read"),
        (
            ("import", "latbench", str(imported.parent / "phone.pickle"), "--space", "fbnet", *out),
            "networks of nas-bench-201, not of fbnet",
        ),
        (("import", "nnlqp", str(foreign), "--space", "vit", *out), "tell their space themselves"),
        (("import", "ofa-yaml", str(foreign), *out), "first convolution"),
        (("export", phone, "--to", "ofa-yaml", *out), "no name for the layers of nas-bench-201"),
        (("export", fake, "--to", "ofa-yaml", *out), "no name for the layers of digits-mobilenetv3"),
        (("export", str(foreign), "--to", "csv", *out), "no readable Parquet"),
    ):
        lines = run("table", *words, expect=1).stderr.strip().splitlines()
        assert [line.split(":")[0] for line in lines] == ["error", " hint"], lines
        assert reason in lines[0]
    assert not (tmp_path / "out").exists()
    assert "'csv', 'jsonl', 'ofa-yaml'" in run("table", "export", phone, "--to", "xlsx", *out, expect=2).stderr
    assert "'hw-nas-bench'" in run("table", "import", "hwnas", phone, *out, expect=2).stderr
