"""Transfer on the command line: from other devices' tables to a predictor of a new one, measured here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.datasets.table import read_table
from layerclock.predictors.portable import load

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable

PROGRAM = str(Path(sys.executable).with_name("layerclock"))


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, fake_table: LatencyTable) -> list[str]:
    """Two other devices: the same networks, as if they had run with two and four threads."""
    folder = tmp_path_factory.mktemp("tables")
    paths = []
    for threads in (2, 4):
        target = replace(fake_table.target, threads=threads)
        rows = fake_table.rows.set_column(
            fake_table.rows.schema.get_field_index("target_id"), fake_table.rows.schema.field("target_id"), [[target.id] * len(fake_table)]
        )
        paths.append(str(folder / f"{threads}.parquet"))
        replace(fake_table, rows=rows, targets={target.id: target}).write(paths[-1])
    return paths


def test_networks_are_chosen_measured_and_fitted(tables: list[str], tmp_path: Path) -> None:
    output = tmp_path / "new.onnx"
    words = ("fit", "--transfer", *tables, "--device", "fake:cpu", "--samples", "8", "-o", str(output), "--json", "-q")
    said = json.loads(run(*words).stdout)
    assert said["networks"] == 8
    assert said["source_devices"] == [said["source_devices"][0]] * 2
    assert said["trust_in_sources"] > 0.2
    assert not said["misled"]
    table = read_table(tmp_path / "new" / "table.parquet")
    networks = table.networks()
    predicted = load(output).predict(networks.genomes)
    assert np.abs(predicted.latency_ms / networks.latency_ms - 1).max() < 0.1
    assert load(output).target == table.target
    # The same command finds what it has measured.
    assert json.loads(run(*words).stdout) == said


def test_without_other_devices_the_measurements_alone_tell(tmp_path: Path, fake_folder: Path) -> None:
    output = tmp_path / "alone.onnx"
    said = run("fit", "--transfer", "--measured", str(fake_folder / "table.parquet"), "-o", str(output)).stdout
    assert "no other device" in said
    evaluated = json.loads(run("evaluate", str(output), str(fake_folder / "table.parquet"), "--json").stdout)
    assert evaluated["spearman"] > 0.8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--transfer",), "--device or --measured"),
        (("--transfer", "--device", "fake:cpu"), "nothing tells the search space"),
        (("--transfer", "--device", "fake:cpu", "--space", "fbnet", "--samples", "3"), "from 5 to"),
        (("--transfer", "nowhere.parquet", "--device", "fake:cpu"), "there is no table"),
    ],
)
def test_bad_input_gets_one_clear_error(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in run("fit", *words, "-o", str(tmp_path / "x.onnx"), expect=1).stderr


def test_options_that_say_nothing_are_usage_errors(tmp_path: Path) -> None:
    assert "says nothing without --transfer" in run("fit", "t.parquet", "--samples", "9", "-o", str(tmp_path / "x.onnx"), expect=2).stderr
    assert "give one table" in run("fit", "-o", str(tmp_path / "x.onnx"), expect=2).stderr
    assert "give PREDICTOR and TABLE" in run("evaluate", expect=2).stderr


def test_published_tasks_are_told_beside_published_figures(data_folder: Path) -> None:
    if not (data_folder / "nasflat_tasks.json").is_file():
        pytest.skip("nasflat_tasks.json: the device sets of https://github.com/abdelfattah-lab/nasflat_latency")
    said = json.loads(run("evaluate", "--tasks", "nasflat", "--task", "F1", "--data", str(data_folder), "--json", "-q").stdout)
    assert said["published"]["F1"]["NASFLAT"] == pytest.approx(0.809)
    assert said["tasks"]["F1"]["spearman"] > said["published"]["F1"]["NASFLAT"]
    assert "there is no task" in run("evaluate", "--tasks", "nasflat", "--task", "X", "--data", str(data_folder), expect=1).stderr
