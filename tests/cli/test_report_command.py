"""``layerclock report`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headless import ReportInputs


def run(*words: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("layerclock")
    done = subprocess.run([str(program), "report", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def test_it_writes_a_page_and_says_what_is_not_in_it(report_inputs: ReportInputs, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    told = run(report_inputs.campaign, report_inputs.predictor, "-o", page).stdout
    assert "the device, where the time goes, the predictor" in told
    assert "What a search found" in told
    assert page.read_text().startswith("<!doctype html>")


def test_the_same_as_json(report_inputs: ReportInputs, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    document = json.loads(run(report_inputs.search, report_inputs.other, "-o", page, "--json").stdout)
    assert document["output"] == str(page)
    assert document["size_bytes"] == page.stat().st_size
    assert document["sections"] == ["The search"]
    assert {"what", "why", "command"} == set(document["missing"][0])


def test_what_it_cannot_show_is_one_clear_error(tmp_path: Path) -> None:
    for words in ((tmp_path,), (tmp_path / "absent",)):
        lines = run(*words, "-o", tmp_path / "r.html", expect=1).stderr.strip().splitlines()
        assert [line.split(":")[0] for line in lines[-2:]] == ["error", " hint"], lines
    assert not (tmp_path / "r.html").exists()
    run(expect=2)
    assert "layerclock report runs/x -o report.html" in run("--help").stdout
