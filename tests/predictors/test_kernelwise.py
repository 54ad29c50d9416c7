"""A kernel-wise predictor tells networks of no known space, says what it does not know, and lives in one file that runs no code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from layerclock.errors import PredictorError, TableError, TargetMismatchError
from layerclock.network import Kernel, TensorSpec
from layerclock.predictors.evaluate_kernels import evaluate_kernelwise, network_family
from layerclock.predictors.kernel_features import FAMILIES, Roofline, Vocabulary, describe, family, work
from layerclock.predictors.kernel_graph import build_kernel_predictor
from layerclock.predictors.kernel_models import fit_models
from layerclock.predictors.kernelwise import KernelRows, caches_of, errors_by_gene, fit_kernelwise, kernel_rows
from layerclock.predictors.portable import METADATA_KEY, is_kernelwise, load
from layerclock.predictors.portable_kernels import KernelPredictor, load_kernelwise
from layerclock.predictors.trees import fit_forest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.predictors.kernel_models import KernelModels
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.target import Target

MAP = TensorSpec((1, 16, 14, 14))
_NUMBERS = ("launch_us", "macs_per_us", "scale", "lacking", "unknown_error", "interval_factor")


def _convolution(groups: int = 1, kernel: int = 3, ops: tuple[str, ...] = ("Conv",)) -> Kernel:
    attributes = (("group", groups), ("kernel_shape", f"{kernel}x{kernel}"), ("strides", "1x1"))
    return Kernel("k", "Conv", "s", ops, (MAP,), (MAP,), (TensorSpec((16, 16 // groups, kernel, kernel)),), attributes, "", "fake", 1000)


@pytest.fixture(scope="module")
def predictor(composite_table: LatencyTable) -> KernelPredictor:
    return fit_kernelwise(composite_table)


@pytest.fixture(scope="module")
def small(composite_table: LatencyTable, predictor: KernelPredictor) -> tuple[KernelModels, KernelPredictor]:
    """Regressors of a few trees, and the file of these: quickly fitted, quickly loaded."""
    rows = kernel_rows(composite_table)
    models = fit_models(rows.kernels, rows.times_us, rows.network_bytes, caches_of(composite_table.target), bags=2, trees=4)
    return models, build_kernel_predictor(models, predictor.card)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (_convolution(), "dense convolution"),
        (_convolution(kernel=1), "pointwise convolution"),
        (_convolution(groups=16), "depthwise convolution"),
        (_convolution(groups=4), "grouped convolution"),
        (Kernel("k", "Gemm", "s", ("MatMul", "Add")), "product"),
        (Kernel("k", "Subgraph", "s", ("Sigmoid", "Mul")), "elementwise"),
        (Kernel("k", "Conv", "s", ("Conv",), (TensorSpec((1, 32, 100)),), attributes=(("group", 32),)), "depthwise convolution"),
        (Kernel("k", "ReorderInput", "s"), "movement"),
        (Kernel("k", "Wonder", "s", ("Wonder",)), "movement"),
    ],
)
def test_families(kernel: Kernel, expected: str) -> None:
    assert family(kernel) == expected
    assert expected in FAMILIES


def test_features_tell_apart_what_takes_different_time() -> None:
    kernels = [_convolution(), _convolution(ops=("Conv", "Sigmoid", "Mul")), _convolution(groups=4), _convolution(kernel=5)]
    words, roofline = Vocabulary.of(kernels), Roofline(10.0, 100.0, 1.0)
    features = describe(kernels, words, roofline, (1e4, 1e6, 1e7), np.ones(4))
    assert features.shape[0] == 4
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == 4
    macs, moved = work(kernels)
    assert moved[0] == 4 * (2 * MAP.elements + 16 * 16 * 9)
    assert features[:, -1] == pytest.approx(np.log(1.0 + np.maximum(macs / 10.0, moved / 100.0)))


def test_a_kernel_takes_longer_in_a_network_whose_weights_fill_the_cache() -> None:
    sides = range(4, 64)
    kernels = [
        replace(_convolution(), inputs=(TensorSpec((1, 16, side, side)),), outputs=(TensorSpec((1, 16, side, side)),), macs=2304 * side**2)
        for side in sides
    ]
    small, large = np.full(len(kernels), 1e6), np.full(len(kernels), 1e8)
    around = np.where(np.arange(len(kernels)) % 2, small, large)
    times_us = np.array(sides, dtype=np.float64) ** 2 * np.where(around > 1e7, 1.5, 1.0)
    models = fit_models(kernels, times_us, around, (1e4, 1e6, 3e7), bags=1)
    slower = models.predict_us(kernels, large) / models.predict_us(kernels, small)
    assert np.median(slower) == pytest.approx(1.5, rel=0.1)


def test_the_weights_around_a_kernel_are_those_of_its_networks() -> None:
    kernels = [_convolution(kernel=side) for side in (1, 3, 5, 7)]
    of_each = 4 * 256 * np.array([1, 9, 25, 49])
    networks = [np.array([0, 0, 1]), np.array([1, 2])]
    rows = KernelRows(kernels, np.ones(4), networks, np.ones(2), np.zeros(2), [{}, {}])
    first, second = 2 * of_each[0] + of_each[1], of_each[1] + of_each[2]
    assert rows.network_bytes == pytest.approx([first, (first * second) ** 0.5, second, of_each[3]], rel=1e-3)


def test_what_was_never_seen_is_not_known() -> None:
    words = Vocabulary.of([_convolution()])
    assert words.knows(_convolution(kernel=7))
    assert not words.knows(_convolution(ops=("Conv", "Wonder")))
    assert not words.knows(replace(_convolution(), implementation="other"))
    assert not words.knows(_convolution(groups=16))
    assert not words.knows(replace(_convolution(), outputs=()))


def test_trees_in_the_file_are_those_that_were_fitted() -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((300, 7))
    forest = fit_forest(features, np.abs(features[:, 0]) + features[:, 1], bags=2, trees=30)
    node = onnx.helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **forest.attributes())
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "trees", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    new = generator.standard_normal((200, 7))
    assert session.run(None, {"x": new.astype(np.float32)})[0].ravel() == pytest.approx(forest.predict(new), abs=1e-5)


def test_the_file_computes_what_the_fitted_regressors_do(
    composite_table: LatencyTable, small: tuple[KernelModels, KernelPredictor]
) -> None:
    rows = kernel_rows(composite_table)
    models, predictor = small
    found = predictor.kernel_us(rows.kernels, rows.network_bytes)
    assert found == pytest.approx(models.predict_us(rows.kernels, rows.network_bytes) * predictor.card.lacking, rel=1e-4)
    assert predictor.kernel_us([]).shape == (0,)
    assert predictor.kernel_us([rows.kernels[0]], rows.network_bytes[:1])[0] == pytest.approx(found[0], rel=1e-6)


def test_networks_that_it_saw_are_told_well_and_others_not_badly(composite_table: LatencyTable, predictor: KernelPredictor) -> None:
    result = evaluate_kernelwise(predictor, composite_table)
    assert result.networks.mean_error < 0.03
    assert result.own_kernels.mean_error < 0.02
    assert result.coverage == pytest.approx(1.0)
    assert result.networks.interval_coverage > 0.85
    assert sum(number for _, _, number in result.by_network_family.values()) == result.networks.networks
    assert sum(share for *_, share in result.by_kernel_family.values()) == pytest.approx(1.0)
    json.dumps(result.to_dict())


def test_unknown_kernels_lower_the_coverage_and_widen_the_interval(composite_table: LatencyTable, predictor: KernelPredictor) -> None:
    rows = kernel_rows(composite_table)
    kernels = [rows.kernels[one] for one in rows.networks[0]]
    known = predictor.predict(kernels)
    strange = predictor.predict([replace(kernel, fused_ops=(*kernel.fused_ops, "Wonder")) for kernel in kernels])
    assert known.known.all()
    assert not strange.known.any()
    assert (known.coverage, strange.coverage) == (1.0, 0.0)
    assert (strange.upper_ms - strange.lower_ms) / strange.latency_ms > (known.upper_ms - known.lower_ms) / known.latency_ms
    with pytest.raises(PredictorError, match="without kernels"):
        predictor.predict([])


def test_calibration_scales_every_network(composite_table: LatencyTable, predictor: KernelPredictor) -> None:
    rows = kernel_rows(composite_table)
    kernels = [rows.kernels[one] for one in rows.networks[0]]
    assert predictor.scaled(1.5).predict(kernels).latency_ms == pytest.approx(1.5 * predictor.predict(kernels).latency_ms)


def test_errors_by_gene_tell_the_themes_apart(composite_table: LatencyTable) -> None:
    errors = errors_by_gene(composite_table, "theme")
    assert errors
    assert all(error >= 0 for error in errors.values())


def test_what_cannot_be_fitted_or_compared_is_refused(
    composite_table: LatencyTable, fake_table: LatencyTable, predictor: KernelPredictor
) -> None:
    few = composite_table.rows.slice(0, 30)
    with pytest.raises(TableError, match="a kernel-wise fit needs"):
        fit_kernelwise(replace(composite_table, rows=few))
    other = replace(composite_table.target, device="fake:other")
    with pytest.raises(TargetMismatchError):
        evaluate_kernelwise(_for_target(predictor, other), composite_table)
    assert evaluate_kernelwise(_for_target(predictor, other), composite_table, other_target=True).networks.networks > 0
    assert fake_table.space != composite_table.space


def _for_target(predictor: KernelPredictor, target: Target) -> KernelPredictor:
    model = onnx.load_model_from_string(predictor.model)
    card = replace(predictor.card, target=target)
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    return KernelPredictor(model.SerializeToString())


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path, composite_table: LatencyTable, predictor: KernelPredictor) -> None:
    predictor.save(tmp_path / "k.onnx")
    again = load_kernelwise(tmp_path / "k.onnx")
    assert again.card == predictor.card
    kernels = kernel_rows(composite_table).kernels[:50]
    assert np.array_equal(again.kernel_us(kernels), predictor.kernel_us(kernels))
    assert is_kernelwise(tmp_path / "k.onnx")
    with pytest.raises(PredictorError, match="not genomes"):
        load(tmp_path / "k.onnx")


def test_damaged_and_hostile_files_are_refused(
    tmp_path: Path, small: tuple[KernelModels, KernelPredictor], genome_predictor: OnnxPredictor
) -> None:
    predictor = small[1]
    with pytest.raises(PredictorError, match="cannot read"):
        load_kernelwise(tmp_path / "absent.onnx")
    for content in (b"", b"garbage", predictor.model[: len(predictor.model) // 2]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(PredictorError):
            load_kernelwise(tmp_path / "bad.onnx")
    genome_predictor.save(tmp_path / "genomes.onnx")
    assert not is_kernelwise(tmp_path / "genomes.onnx")
    with pytest.raises(PredictorError, match="no kernel-wise predictor"):
        load_kernelwise(tmp_path / "genomes.onnx")
    whole = predictor.card.to_json()
    families = re.sub(r'"family_errors": \{[^}]*\}', '"family_errors": {}', whole)
    numbers = [re.sub(rf'"{name}": [-0-9.e]+', f'"{name}": {value}', whole) for name in _NUMBERS for value in ("-1.0", "1e999", '"1"')]
    assert len({whole, families, *numbers}) == 2 + len(numbers)
    for text in ("{}", "[]", "null", '{"format": 99}', "[" * 100_000, whole.replace('"launch_us"', '"lunch_us"'), families, *numbers):
        model = onnx.load_model_from_string(predictor.model)
        onnx.helper.set_model_props(model, {METADATA_KEY: text})
        with pytest.raises(PredictorError, match="damaged metadata"):
            KernelPredictor(model.SerializeToString())


@pytest.fixture(scope="module")
def genome_predictor(fake_table: LatencyTable) -> OnnxPredictor:
    from layerclock.predictors.fitting import fit

    return fit(fake_table)


@pytest.mark.parametrize(("name", "expected"), [("resnet50", "resnet"), ("vit_tiny", "vit"), ("dense", "dense"), ("50cents", "50cents")])
def test_a_networks_family_is_told_by_its_name(name: str, expected: str) -> None:
    assert network_family(name) == expected


def test_asking_needs_nothing_but_numpy_and_onnxruntime(
    composite_table: LatencyTable, predictor: KernelPredictor, tmp_path: Path, run_python: Callable[[str], str]
) -> None:
    predictor.save(tmp_path / "k.onnx")
    kernels = kernel_rows(composite_table).kernels[:3]
    answer = run_python(f"""
import sys
for name in ("torch", "sklearn", "onnx", "pandas", "pyarrow", "openvino", "scipy", "pymoo", "safetensors", "click", "rich"):
    sys.modules[name] = None
import layerclock
from layerclock.network import Kernel, TensorSpec
predictor = layerclock.load_kernelwise({str(tmp_path / "k.onnx")!r})
print(predictor.predict({kernels!r}).latency_ms)
""")
    assert float(answer) == pytest.approx(predictor.predict(kernels).latency_ms)
