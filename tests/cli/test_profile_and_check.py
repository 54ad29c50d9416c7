"""``layerclock profile`` on given models, its options, and ``layerclock table check``, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile

PROGRAM = str(Path(sys.executable).with_name("layerclock"))


def run(*words: str, expect: int = 0, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def model(tiny_model: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file somewhere, with a name of its own."""
    path = tmp_path_factory.mktemp("models") / "mine.onnx"
    path.write_bytes(tiny_model.path.read_bytes())
    return path


def test_a_model_is_broken_down_in_words(model: Path, tmp_path: Path) -> None:
    said = run("profile", str(model), "--device", "fake:cpu", "--rounds", "2", "--runs", "5", "-q", folder=tmp_path).stdout
    for words in ("End to end", "mine", "ceilings of the device", "Layers", "Kernels", "GFLOP/s", "verdict", "slowest first"):
        assert words in said
    assert (tmp_path / "runs" / "mine" / "table.parquet").exists(), "without -o, beside where it was called"


def test_a_comma_in_a_file_s_name_is_part_of_the_name(model: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a,b.onnx", "zz.onnx")]
    for file in files:
        file.write_bytes(model.read_bytes())
    words = ("profile", *map(str, files), "--device", "fake:cpu", "--rounds", "2", "--runs", "5", "-o", str(tmp_path / "run"), "-q")
    said = run(*words).stdout
    assert [line.split()[0] for line in said.splitlines()[2:4]] == ["a,b", "zz"]
    run("report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert [f'"name":"{name}","role"' in page for name in ("a,b", "zz", "a", "b")] == [True, True, False, False]


def test_a_model_is_broken_down_as_data(model: Path, tmp_path: Path) -> None:
    words = ("profile", str(model), "--device", "fake:cpu", "--rounds", "2", "--runs", "5", "-o", str(tmp_path / "run"), "--json",
             "--licence", "CC-BY-4.0")  # fmt: skip
    document = json.loads(run(*words).stdout)
    assert document["rows"]["network"] == len(document["networks"]) == 1
    assert document["failed_networks"] == 0
    assert "CC-BY-4.0" in run("table", "card", str(tmp_path / "run" / "table.parquet")).stdout
    assert set(document["ceilings"]) == {"flops_per_s", "bytes_per_s"}
    for level in ("layer", "kernel"):
        rows = document[f"{level}s"]
        assert len(rows) == document["rows"][level]
        assert sum(row["share"] for row in rows) == pytest.approx(1.0)
        times = [row["latency_us"] * row["times_run"] for row in rows]
        assert times == sorted(times, reverse=True)
        assert {row["bound"] for row in rows} <= {"compute", "memory", None}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--budget", "soon", "is no time: write 90s, 10m or 1.5h"),
        ("--budget", "0s", "is no time"),
        ("--budget", "-5m", "is no time"),
        ("--limit", "1 day", "is no time"),
        ("--shape", "1x3x8x8", "is no shape: write input=1x3x224x224"),
        ("--shape", "x=1x0x8", "is no shape"),
        ("--shape", "x=3,4", "is no shape"),
        ("--affinity", "all", "names no processors: write 0 or 0,2-3"),
        ("--affinity", "0,", "names no processors"),
    ],
)
def test_an_option_that_makes_no_sense_is_wrong_usage(option: str, value: str, said: str, model: Path, tmp_path: Path) -> None:
    words = run("profile", str(model), "--device", "fake:cpu", option, value, "-o", str(tmp_path / "run"), expect=2).stderr
    assert said in " ".join(words.split())
    assert not (tmp_path / "run").exists()


def test_options_that_make_sense_are_taken(model: Path, tmp_path: Path) -> None:
    processor = min(os.sched_getaffinity(0))
    words = (
        "--budget",
        "1.5h",
        "--limit",
        "2m",
        "--affinity",
        f"{processor}-{processor}",
        "--shape",
        "input=1x1x32x32",
        "-o",
        str(tmp_path / "run"),
        "-q",
    )
    run("profile", str(model), "--device", "fake:cpu", *words)
    done = run("profile", str(model), "--device", "fake:cpu", "--shape", "input=1x3x32x32", "-o", str(tmp_path / "other"), expect=1)
    assert "axis 1 of input 'input' is 1 in the model, not 3" in " ".join(done.stderr.split())
    done = run("profile", str(model), "--device", "fake:cpu", "--affinity", "100000", "-o", str(tmp_path / "third"), expect=1)
    assert "cannot bind to the processors" in done.stderr


def test_either_a_space_or_models_are_given(model: Path, tmp_path: Path) -> None:
    for words in ((), (str(model), "--space", "digits-mobilenetv3")):
        said = run("profile", *words, "--device", "fake:cpu", "-o", str(tmp_path / "run"), expect=2).stderr
        assert "give one of --space, --composites and at least one MODEL.onnx" in said
    said = run("profile", str(model), "--device", "fake:cpu", "--networks", "5", expect=2).stderr
    assert "--networks says nothing about given models" in said
    of_a_space = ("profile", "--device", "fake:cpu", "--space", "digits-mobilenetv3")
    assert "-o names the folder" in run(*of_a_space, expect=2).stderr
    for option, reason in (
        (("--depth", "1"), "--depth says nothing about the networks of a space"),
        (("--shape", "x=1x3"), "--shape says nothing about the networks of a space"),
        (("--rounds", "3", "--budget", "1m"), "--rounds says nothing about a --budget"),
        (("--inputs", str(model)), "--inputs says nothing about float32"),
        (("--affinity", "1-0"), "'1-0' is no range: write 0-1"),
    ):
        assert reason in " ".join(run(*of_a_space, "-o", str(tmp_path / "run"), *option, expect=2).stderr.split())


def test_a_model_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"garbage")
    for name in ("bad.onnx", "absent.onnx"):
        said = run("profile", name, "--device", "fake:cpu", "-q", expect=1, folder=tmp_path).stderr
        assert said.startswith("error: ")
        assert " hint: " in said
        assert name in said


@pytest.fixture(scope="module")
def good(fake_table: LatencyTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "good.parquet"
    replace(fake_table, additivity={"median": 0.95, "lowest": 0.94, "highest": 0.96}).write(path)
    return path


@pytest.fixture(scope="module")
def bad(fake_table: LatencyTable, good: Path) -> Path:
    path = good.with_name("bad.parquet")
    replace(fake_table, additivity={"median": 1.4, "lowest": 1.3, "highest": 1.5}).write(path)
    return path


def test_a_table_that_can_be_trusted_is_exit_code_zero(good: Path) -> None:
    said = run("table", "check", str(good)).stdout
    assert "to be trusted" in said
    assert "NOT to be trusted" not in said


def test_a_table_that_cannot_be_trusted_is_exit_code_three_and_says_why(good: Path, bad: Path) -> None:
    done = run("table", "check", str(good), str(bad), expect=3)
    assert "NOT to be trusted as it is" in done.stdout
    assert f"not to be trusted: {bad}: the layers of a network sum to its end-to-end time" in " ".join(done.stderr.split())


def test_a_check_in_json_names_every_rule(good: Path, bad: Path) -> None:
    document = json.loads(run("table", "check", str(good), "--json").stdout)
    assert len(document[str(good)]) >= 7
    assert all(finding["kept"] for finding in document[str(good)] if finding["serious"])
    assert run("table", "check", str(bad), "--json", expect=3).stdout.lstrip().startswith("{")


def test_an_absent_table_cannot_be_checked(tmp_path: Path) -> None:
    assert "there is no table" in run("table", "check", str(tmp_path / "absent.parquet"), expect=1).stderr
