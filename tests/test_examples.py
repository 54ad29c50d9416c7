"""Every script in examples/ runs, in small, on real runtimes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(folder: Path, script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_space: SearchSpace) -> Path:
    """Where ``new_device.py`` has measured and fitted."""
    folder = tmp_path_factory.mktemp("examples")
    printed = run(folder, "new_device.py", "onnxruntime:cpu", "--space", tiny_space.name, "--small")
    assert "the largest network" in printed
    return folder


def test_a_constrained_search_with_an_accuracy_of_ones_own(folder: Path) -> None:
    predictor = "runs/new-device/predictor.onnx"
    printed = run(folder, "constrained_search.py", predictor, "--budget-ms", "1000", "--evaluations", "20")
    assert "stage1.depth" in printed
    assert (folder / "runs/constrained/pareto.csv").exists()


def test_transfer_to_another_runtime(folder: Path) -> None:
    printed = run(folder, "transfer_20_samples.py", "openvino:CPU", "runs/new-device/table.parquet", "--samples", "5")
    assert "trust in the other devices" in printed
    assert printed.count("90 % interval") == 3


def test_a_device_of_a_third_party(tmp_path: Path) -> None:
    printed = run(tmp_path, "third_party_device.py", "fake:cpu")
    assert "kept" in printed
    assert "BROKEN" not in printed
