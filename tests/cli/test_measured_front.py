"""``layerclock search --measure``: the front, timed on a device; a search that has grown measures what is new."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import layerclock as lc
from layerclock.datasets.schema import SCHEMA
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.search.saved_search import read_search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace


def test_a_search_that_has_grown_measures_its_front_again(tiny_space: SearchSpace, tmp_path: Path) -> None:
    for evaluations in ("12", "24"):
        command = [
            sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", "params", "--objective",
            "latency:fake:cpu", "--evaluations", evaluations, "--population", "6", "--measure", "fake:cpu", "-o", "s", "-q",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with (tmp_path / "s/front_measured.csv").open() as file:
            measured = list(csv.DictReader(file))
        with (tmp_path / "s/pareto.csv").open() as file:
            assert len(measured) == len(list(csv.DictReader(file)))
        assert all(float(row["measured_latency_ms"]) > 0 for row in measured)
    saved = read_search(tmp_path / "s")
    assert set(saved.measured_ms) == set(saved.front.nonzero()[0].tolist())
    # Times of networks that are not among the evaluations are nobody's.
    text = (tmp_path / "s/front_measured.csv").read_text()
    (tmp_path / "s/front_measured.csv").write_text(text.replace(measured[0]["genome"], "9 " + measured[0]["genome"]))
    assert len(read_search(tmp_path / "s").measured_ms) == len(measured) - 1
    # A search that goes on without measuring has other numbers of evaluations.
    del command[command.index("--measure") : command.index("--measure") + 2]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).returncode == 0
    assert not (tmp_path / "s/front_measured.csv").exists()


@pytest.fixture(scope="module")
def predictor_of_two_threads(
    profile_tiny: Callable[..., LatencyTable], tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("two")
    table = profile_tiny(open_device("fake:cpu", DeviceOptions(threads=2)), folder=folder / "campaign")
    lc.fit(table, tiny_space).save(folder / "two.onnx")
    return folder / "two.onnx"


@pytest.mark.parametrize(("given", "threads"), [((), 2), (("--threads", "1"), 1)])
def test_a_front_is_measured_as_its_predictor_was_or_one_is_told(
    predictor_of_two_threads: Path, tiny_space: SearchSpace, tmp_path: Path, given: tuple[str, ...], threads: int
) -> None:
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", "params", "--objective",
        f"latency:{predictor_of_two_threads}", "--evaluations", "12", "--population", "6", "--measure", "fake:cpu", *given, "-o", "s", "-q",
    ]  # fmt: skip
    said: dict[str, Any] = {}
    for form in ((), ("--json",)):
        done = subprocess.run([*command, *form], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said["json" if form else "text"] = done.stdout
    assert json.loads(next((tmp_path / "s").glob("front-*/campaign.json")).read_text())["target"]["threads"] == threads
    differing = {} if threads == 2 else {"latency_ms": {"threads": [2, 1]}}
    assert json.loads(said["json"]).get("other_targets", {}) == differing
    assert ("latency_ms is for another target than was measured: threads 2 there, 1 here" in said["text"]) == bool(differing)


def test_a_constraint_on_another_device_is_not_judged_by_what_was_measured_here(
    predictor_of_two_threads: Path, fake_table: LatencyTable, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    target = replace(fake_table.target, device="phone:cpu")
    rows = [row | {"target_id": target.id} for row in fake_table.rows.to_pylist()]
    elsewhere = replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={target.id: target})
    lc.fit(elsewhere, tiny_space).save(tmp_path / "phone.onnx")
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", f"latency:{predictor_of_two_threads}",
        "--objective", "latency:phone.onnx", "--constraint", "latency_two_ms<=1000", "--constraint", "latency_phone_ms<=1000",
        "--evaluations", "12", "--population", "6", "--measure", "fake:cpu", "-o", "s", "-q", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["met_as_measured"] == {"latency_two_ms<=1000": len(told["pareto"])}


def test_a_measured_search_goes_on_with_its_own_settings_alone(tiny_space: SearchSpace, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", "latency:fake:cpu",
        "--evaluations", "6", "--population", "3", "-o", "s", "-q",
    ]  # fmt: skip
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    other = subprocess.run([*command, "--threads", "2"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "holds another search" in other.stderr
    # What ends a campaign ends the search: it is no network's fault, and marks none as failed.
    (tmp_path / "s/measured-fake_cpu/campaign.json").write_text("{}")
    broken = subprocess.run([*command, "--evaluations", "9"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "campaign.json" in broken.stderr
    assert pq.read_table(tmp_path / "s/evaluations.parquet")["failure"].null_count >= 3
    assert pq.read_table(tmp_path / "s/evaluations.parquet")["failure"].drop_null().to_pylist() == []
    assert pq.read_table(tmp_path / "s/earlier.parquet").num_rows == 6, "those that it had not come to again are kept"


def test_a_search_goes_on_with_its_own_predictor_alone(fake_table: LatencyTable, tiny_space: SearchSpace, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", "params", "--objective",
        "latency:fitted.onnx", "--evaluations", "6", "--population", "3", "-o", "s", "-q",
    ]  # fmt: skip
    for _ in range(2):
        lc.fit(fake_table, tiny_space).save(tmp_path / "fitted.onnx")
        assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    lc.fit(fake_table, tiny_space, "endtoend:model=ridge").save(tmp_path / "fitted.onnx")
    other = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "holds another search: its objectives" in other.stderr


def test_the_latency_of_a_sequence_is_no_single_run_to_measure(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", "transformer", "--objective", "params", "--objective",
        "latency:encoder.onnx+30*decoder.onnx", "--measure", "fake:cpu", "-o", "s", "-q",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--measure times one run of a network" in done.stderr


def _search_for_sequences(folder: Path, space: str, latency: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "layerclock", "search", "--space", space, "--objective", "params", "--objective", f"latency:{latency}",
        "--evaluations", "4", "--population", "2", "--algorithm", "random", "-o", "s", "-q",
    ]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_latency_of_a_sequence_is_of_the_searched_space(tmp_path: Path, fake_table: LatencyTable, tiny_space: SearchSpace) -> None:
    lc.fit(fake_table, tiny_space).save(tmp_path / "images.onnx")
    for part in ("encoder", "decoder"):
        space = lc.load_space(f"transformer:part={part},preset=tiny")
        table = lc.profile(open_device("fake:cpu"), space, tmp_path / part, networks=8, holdout=0, calibration=0, rounds=2, runs=2)
        lc.fit(table, space).save(tmp_path / f"{part}.onnx")
    tiny = "transformer:preset=tiny"
    swapped = _search_for_sequences(tmp_path, tiny, "decoder.onnx+30*encoder.onnx")
    assert "decoder.onnx predicts networks of 'transformer:part=decoder,preset=tiny'" in swapped.stderr
    longer = _search_for_sequences(tmp_path, f"{tiny},source_length=50", "encoder.onnx+30*decoder.onnx")
    assert "not of 'transformer:part=encoder,preset=tiny,source_length=50'" in longer.stderr
    images = _search_for_sequences(tmp_path, tiny_space.name, "images.onnx+30*images.onnx")
    assert "has no encoder of its own" in images.stderr
    found = _search_for_sequences(tmp_path, tiny, "encoder.onnx+30*decoder.onnx")
    assert found.returncode == 0, found.stderr
    assert {one.returncode for one in (swapped, longer, images)} == {1}
