"""Any network's latency on the command line: from a campaign over composites to a prediction kernel by kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

from layerclock.predictors.portable import METADATA_KEY
from layerclock.predictors.portable_kernels import load_kernelwise

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile

PROGRAM = str(Path(sys.executable).with_name("layerclock"))


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, composite_table: LatencyTable, tiny_model: ModelFile) -> Path:
    """A table of composites, the predictor fitted to it on the command line, and a model."""
    folder = tmp_path_factory.mktemp("kernelwise")
    composite_table.write(folder / "table.parquet")
    (folder / "mine.onnx").write_bytes(tiny_model.path.read_bytes())
    said = run("fit", str(folder / "table.parquet"), "--kind", "kernelwise", "-o", str(folder / "k.onnx")).stdout
    assert "error on left-out depthwise convolution" in said
    return folder


def _made_for(folder: Path, device: str, path: Path) -> None:
    """Write the predictor to ``path`` as if it were one of ``device``."""
    predictor = load_kernelwise(folder / "k.onnx")
    model = onnx.load_model_from_string(predictor.model)
    card = replace(predictor.card, target=replace(predictor.target, device=device))
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    path.write_bytes(model.SerializeToString())


def test_composites_are_profiled_until_the_budget_is_spent(tmp_path: Path) -> None:
    words = ("profile", "--device", "fake:cpu", "--composites", "--budget", "3s", "-o", str(tmp_path / "run"), "--json", "-q")
    document = json.loads(run(*words).stdout)
    assert document["rows"]["kernel"] > 0  # how many depends on how busy the machine is
    assert document["failed_networks"] == 0
    said = run("profile", "--device", "fake:cpu", "--composites", "--space", "composites", "-o", str(tmp_path / "run"), expect=2).stderr
    assert "one of --space, --composites" in said
    said = run("profile", "--device", "fake:cpu", "--composites", "--holdout", "3", "-o", str(tmp_path / "run"), expect=2).stderr
    assert "--holdout says nothing about composites" in said
    assert "-o names the folder" in run("profile", "--device", "fake:cpu", "--composites", expect=2).stderr


def test_a_model_is_predicted_kernel_by_kernel(folder: Path) -> None:
    said = run("predict", str(folder / "mine.onnx"), "--predictor", str(folder / "k.onnx")).stdout
    assert "90% interval" in said
    assert "slowest kernels on fake:cpu" in said
    document = json.loads(run("predict", str(folder / "mine.onnx"), "--predictor", str(folder / "k.onnx"), "--json").stdout)
    (network,) = document["networks"]
    assert network["lower_ms"] < network["latency_ms"] < network["upper_ms"]
    assert network["kernels_from"] == "the runtime's compiler"
    assert all(kernel["latency_us"] > 0 for kernel in network["kernels"])
    # Against what the same device takes for it.
    measured = run("profile", str(folder / "mine.onnx"), "--device", "fake:cpu", "-o", str(folder / "run"), "--json", "-q")
    (truth,) = json.loads(measured.stdout)["networks"]
    assert network["latency_ms"] == pytest.approx(truth["latency_us"] / 1e3, rel=0.15)


def test_where_the_runtime_is_absent_fusion_rules_stand_in_and_it_is_said(folder: Path) -> None:
    _made_for(folder, "elsewhere:npu", folder / "elsewhere.onnx")
    done = run("predict", str(folder / "mine.onnx"), "--predictor", str(folder / "elsewhere.onnx"), "--json")
    assert "elsewhere:npu is not here" in done.stderr
    (network,) = json.loads(done.stdout)["networks"]
    assert network["kernels_from"] == "fusion rules"
    here = json.loads(run("predict", str(folder / "mine.onnx"), "--predictor", str(folder / "k.onnx"), "--json").stdout)
    assert network["latency_ms"] == pytest.approx(here["networks"][0]["latency_ms"], rel=0.3)


def test_unknown_kernels_are_named(folder: Path) -> None:
    model = onnx.load(str(folder / "mine.onnx"))
    model.graph.node.append(onnx.helper.make_node("Cosh", [model.graph.output[0].name], ["strange"], name="last/Cosh"))
    model.graph.output[0].name = "strange"
    onnx.save(model, str(folder / "strange.onnx"))
    said = run("predict", str(folder / "strange.onnx"), "--predictor", str(folder / "k.onnx")).stdout
    assert "unknown: " in said
    assert "Cosh" in said


def test_a_model_that_the_runtime_refuses_is_told_by_its_own_name(folder: Path) -> None:
    model = onnx.load(str(folder / "mine.onnx"))
    model.graph.node.append(onnx.helper.make_node("Unheard", [model.graph.output[0].name], ["unheard"], domain="no.such"))
    model.opset_import.append(onnx.helper.make_opsetid("no.such", 1))
    model.graph.output[0].name = "unheard"
    onnx.save(model, str(folder / "unheard.onnx"))
    _made_for(folder, "onnxruntime:cpu", folder / "ort.onnx")
    said = run("predict", str(folder / "unheard.onnx"), "--predictor", str(folder / "ort.onnx"), expect=1).stderr
    assert str(folder / "unheard.onnx") in said


def test_a_predictor_is_judged_on_whole_networks_and_on_kernels(folder: Path) -> None:
    said = run("evaluate", str(folder / "k.onnx"), str(folder / "table.parquet")).stdout
    for words in ("by family of network", "by family of kernel", "with their own kernels: mean error", "inside the interval"):
        assert words in said
    document = json.loads(run("evaluate", str(folder / "k.onnx"), str(folder / "table.parquet"), "--json").stdout)
    assert document["own_kernels"]["mean_error"] < 0.05
    assert {"pointwise convolution", "product"} <= document["by_kernel_family"].keys()


def test_genomes_and_models_are_not_mixed_up(folder: Path) -> None:
    said = run("predict", "--predictor", str(folder / "k.onnx"), "--random", "2", expect=2).stderr
    assert "give at least one MODEL.onnx" in said
