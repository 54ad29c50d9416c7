"""What a report is made of, what it says, and what it says of what it lacks. Its looks are tested in a browser beside."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from html import unescape
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import ArgumentError, OutputError, PredictorError, SearchError, TableError
from layerclock.profiler.drift import read_drift
from layerclock.reports.inputs import read_inputs
from layerclock.reports.kinds import kinds
from layerclock.reports.page import json_for_script
from layerclock.reports.plotly_library import PLOTLY_SHA256, plotly_script
from layerclock.reports.report import report
from layerclock.search.result_files import read_pareto
from layerclock.search.saved_search import read_search

if TYPE_CHECKING:
    from pathlib import Path

    from headless import ReportInputs


def data_of(page: Path) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    content: dict[str, object] = json.loads(found[1])
    return content


def test_a_page_asks_the_network_for_nothing(report_page: Path) -> None:
    text = report_page.read_text()
    assert "default-src 'none'; script-src 'sha256-" in unescape(text)
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", ours), "neither scripts nor styles nor pictures from outside"
    assert not re.findall(r"@import|url\(", ours)
    assert report_page.stat().st_size < 8e6


def test_the_library_is_as_its_authors_published_it() -> None:
    script = plotly_script()
    assert hashlib.sha256(script.encode()).hexdigest() == PLOTLY_SHA256
    assert "plotly.js (basic - minified) v4" in script[:200]
    assert not re.search(r"</script|<!--|\r", script), "it could end the element that it stands in"


def test_a_section_is_there_where_its_data_is_and_else_the_way_to_it(report_inputs: ReportInputs, tmp_path: Path) -> None:
    every = {"The device", "Where the time goes", "The predictor", "The search", "Differences"}
    table = report([report_inputs.campaign], tmp_path / "a.html")
    assert set(table.sections) == every - {"The predictor", "The search", "Differences"}
    commands = {one.what: one.command for one in table.missing}
    assert commands["How good a predictor is"] == f"layerclock fit {report_inputs.campaign / 'table.parquet'} -o cpu.onnx"
    assert commands["What a search found"].startswith("layerclock search --space digits-mobilenetv3:")
    found = report([report_inputs.search, report_inputs.predictor], tmp_path / "b.html")
    assert set(found.sections) == {"The predictor", "The search"}
    assert {"The device and how steady it was", "How good fake.onnx is", "Layer times of the networks that search found"} <= {
        one.what for one in found.missing
    }
    assert all(one.command in unescape((tmp_path / "b.html").read_text()) for one in found.missing)


def test_the_numbers_are_those_of_the_table(report_inputs: ReportInputs, report_page: Path, fake_table: object) -> None:
    table = read_inputs([report_inputs.campaign]).tables[0]
    data = data_of(report_page)
    spent = data["spent"][0]  # type: ignore[index]
    by_key = dict(zip(table.table.level("layer")["key"].to_pylist(), table.table.level("layer")["latency_us"].to_pylist(), strict=True))
    assert dict(zip(spent["layer"]["name"], spent["layer"]["us"], strict=True)) == pytest.approx(by_key, rel=1e-4)
    assert table.index is not None
    truth = table.table.networks("profiled")
    sums = table.index.counts(truth.genomes) @ np.array([by_key[layer.key] for layer in table.index.vocabulary])
    shown = [sum(spent["layer"]["us"][row] for _, row in one["layers"]) for one in spent["networks"] if one["role"] == "profiled"]
    assert shown == pytest.approx(sums.tolist(), rel=1e-4)
    kernels = [one for one in spent["networks"] if one["role"] == "profiled"]
    assert all(one["kernels"] and min(one["kernels"]) >= 0 for one in kernels)


def test_a_search_reads_back_as_it_was_written(report_inputs: ReportInputs) -> None:
    saved, front = read_search(report_inputs.search), read_pareto(report_inputs.search)
    assert len(saved) == 30
    assert [one.name for one in saved.objectives] == list(front.objectives)
    assert saved.genomes[saved.front].shape == front.genomes.shape
    assert {tuple(row) for row in saved.genomes[saved.front].tolist()} == {tuple(row) for row in front.genomes.tolist()}
    latency = saved.measures[0]
    assert latency.lower is not None
    assert (latency.lower <= latency.values).all()
    position = [tuple(row) for row in saved.genomes.tolist()].index(tuple(front.genomes[0].tolist()))
    assert saved.configs[position] == front.configs[0]


def test_the_front_as_measured_is_read_with_it(report_inputs: ReportInputs, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(report_inputs.search, folder)
    genome = " ".join(map(str, read_search(folder).genomes[3]))
    (folder / "front_measured.csv").write_text(f"evaluation,genome,device,measured_latency_ms\n3,{genome},fake:cpu,0.25\n")
    saved = read_search(folder)
    assert (saved.measured_on, saved.measured_ms) == ("fake:cpu", {3: 0.25})
    assert not any("as measured" in one.what for one in report([folder], tmp_path / "r.html").missing)


def test_drift_is_in_the_order_of_measuring(fake_folder: Path, tmp_path: Path) -> None:
    drift = read_drift(fake_folder)
    if drift is not None:  # the fake device is watched only where it pretends to run on this machine
        assert (np.diff(drift.minutes) >= 0).all()
        assert ((drift.disturbed >= 0) & (drift.disturbed <= 1)).all()
        assert set(drift.rounds.tolist()) == {0, 1}
    assert read_drift(tmp_path) is None


def test_a_folder_brings_the_predictor_and_the_search_that_lie_in_it(report_inputs: ReportInputs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(report_inputs.campaign / "table.parquet", folder)
    shutil.copy(report_inputs.predictor, folder / "layerwise.onnx")
    (folder / "network.onnx").write_bytes(b"no predictor")
    shutil.copytree(report_inputs.search, folder / "search")
    found = read_inputs([folder])
    assert [one.name for one in found.predictors] == ["layerwise.onnx"]
    assert [one.name for one in found.searches] == ["run/search"]
    assert len(found.left_out) == 1
    assert "network.onnx" in found.left_out[0]


def test_inputs_of_one_name_are_told_apart(report_inputs: ReportInputs, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "run").mkdir(parents=True)
        shutil.copy(report_inputs.campaign / "table.parquet", tmp_path / name / "run")
    names = [one.name for one in read_inputs([tmp_path / "a" / "run", tmp_path / "b" / "run"]).tables]
    assert names == [str(tmp_path / name / "run" / "table.parquet") for name in ("a", "b")]


def test_what_is_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "campaign.json").write_text("{}")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "evaluations.parquet").write_bytes(b"PAR1")
    for path, message in (("notes.txt", "none of ours"), ("gone", "does not exist"), ("empty", "neither a table nor a search"),
                          ("begun", "without a table yet")):  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            read_inputs([tmp_path / path])
    with pytest.raises(ArgumentError, match="something to report on"):
        read_inputs([])
    with pytest.raises(SearchError, match="no readable search"):
        read_inputs([tmp_path / "cut"])
    with pytest.raises(TableError, match="there is no table"):
        read_inputs([tmp_path / "gone.parquet"])
    with pytest.raises(PredictorError, match="there is no predictor"):
        read_inputs([tmp_path / "gone.onnx"])


def test_a_page_that_cannot_be_written_says_so(report_inputs: ReportInputs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        report([report_inputs.search], tmp_path / "file" / "report.html")


def test_no_text_can_leave_the_element_of_the_data() -> None:
    hostile = {"</script><script>": "<!--", "\u2028&": "]]>"}
    text = json_for_script(hostile)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == hostile


def test_kinds_split_what_takes_most_of_the_time() -> None:
    attributes = [{"k": 3, "name": "a"}, {"k": 5, "name": "a"}, {}, {"k": 3, "name": "a"}]
    assert kinds(["conv", "conv", "stem", "conv"], attributes, [5.0, 5.0, 1.0, 5.0]) == ["conv, k 3", "conv, k 5", "stem", "conv, k 3"]
    assert kinds(["conv", "stem"], [{}, {}], [1.0, 9.0]) == ["conv", "stem"]
