"""A third party's package works without an edit of ours: installed, found by its entry points, profiled and fitted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parent / "example_plugin"
PROGRAM = str(Path(sys.executable).parent / "layerclock")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``run(program, *arguments)`` with the plug-in installed; returns the JSON that it printed."""
    copy = tmp_path_factory.mktemp("plugin") / "source"  # a build leaves files beside the source
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    site = copy.parent / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(site),
        str(copy),
    ]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=300)
    assert installed.returncode == 0, installed.stderr

    def run(*command: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        finished = subprocess.run(command, cwd=copy.parent, env=environment, capture_output=True, text=True, timeout=120)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return json.loads(finished.stdout)

    return run


def test_its_devices_are_listed_with_what_is_missing(run: Callable[..., Any]) -> None:
    listed = {entry["name"]: entry for entry in run(PROGRAM, "devices", "--json")}
    assert listed["example:board"]["available"]
    assert (listed["example:big-board"]["reason"], listed["example:big-board"]["hint"]) == ("it is not plugged in", "plug it in")
    assert listed["fake:cpu"]["available"]


def test_an_adapter_takes_less_than_a_hundred_lines() -> None:
    assert len((SOURCE / "src" / "layerclock_example" / "device.py").read_text().splitlines()) < 100


def test_its_device_keeps_every_rule(run: Callable[..., Any]) -> None:
    findings = run(PROGRAM, "devices", "--check", "example:board", "--json")
    assert len(findings) >= 12
    assert all(finding["kept"] for finding in findings), findings


def test_it_is_profiled_fitted_and_searched_like_a_built_in(run: Callable[..., Any], tmp_path: Path) -> None:
    profiled = run(
        PROGRAM, "profile", "--device", "example:board", "--space", "example-plain:channels=8", "--networks", "8", "--holdout", "3",
        "--calibration", "0",
        "--rounds", "2", "-o", str(tmp_path), "--json", "--quiet",
    )  # fmt: skip
    assert (profiled["rows"]["network"], profiled["failed_networks"]) == (11, 0)
    assert profiled["rows"]["layer"] == 4  # three kernels and the classifier
    fitted = run(PROGRAM, "fit", str(tmp_path / "table.parquet"), "-o", str(tmp_path / "board.onnx"), "--json")
    assert (fitted["space"], fitted["networks"]) == ("example-plain:channels=8", 8)
    code = f"""
import json
from layerclock import accuracy_objective, latency_objective, load, load_evaluator, load_space, pareto_search, evaluate, read_table
predictor = load({str(tmp_path / "board.onnx")!r})
error = evaluate(predictor, read_table({str(tmp_path / "table.parquet")!r})).mean_error
evaluator = load_evaluator("example-size:channels=8")
space = load_space("example-plain:channels=8")
result = pareto_search(space, [latency_objective(predictor), accuracy_objective(evaluator)], evaluations=30)
print(json.dumps({{"error": error, "metric": evaluator.metric, "front": result.genomes[result.pareto()].tolist()}}))
"""
    searched = run(sys.executable, "-c", code)
    assert searched["error"] < 0.01
    assert searched["metric"] == "size_log10"
    assert searched["front"]
