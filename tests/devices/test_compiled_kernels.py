"""What a runtime's compiler says that it will execute is what it then executes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from layerclock.datasets.kernels import kernel_key
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.fusion import fused_kernels
from layerclock.devices.onnx_file import prepare_model
from layerclock.network import TensorSpec
from layerclock.plugins import open_device
from layerclock.profiler.composites import THEMES, CompositeSpace

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import ModelFile

SPACE = CompositeSpace()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["fake:cpu", "onnxruntime:cpu", "openvino:CPU"])
def test_kernels_are_told_without_a_run(name: str, theme: str) -> None:
    session = open_device(name).load(SPACE.export(np.array([THEMES.index(theme), 3])))
    said = session.kernels()
    assert Counter(map(kernel_key, said)) == Counter(map(kernel_key, session.kernel_times(1).kernels))
    assert all(kernel.outputs for kernel in said)
    assert len({kernel.name for kernel in said}) == len(said)
    session.close()


def test_rules_make_the_kernels_that_were_seen() -> None:
    device = open_device("fake:cpu")
    models = [SPACE.export(np.array([THEMES.index(theme), seed])) for theme in ("dense", "excite") for seed in (1, 2)]
    kernels = [device.load(model).kernels() for model in models]
    fusions = {"+".join(kernel.fused_ops): (kernel.op, kernel.implementation, kernel.layout) for each in kernels for kernel in each}
    for model, expected in zip(models, kernels, strict=True):
        found = fused_kernels(SourceGraph(model.path), fusions)
        assert sum(kernel.macs or 0 for kernel in found) == sum(kernel.macs or 0 for kernel in expected)
        same = Counter(map(kernel_key, found)) & Counter(map(kernel_key, expected))
        assert same.total() > 0.8 * len(expected)


def _save(nodes: list[onnx.NodeProto], path: Path, constants: list[onnx.TensorProto]) -> ModelFile:
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 8])
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [result], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return prepare_model(path).file


def test_shapes_that_operators_compute_are_filled_in(tmp_path: Path) -> None:
    two = helper.make_tensor("two", TensorProto.INT64, [1], [2])
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["count"], keepdims=1),
        helper.make_node("Div", ["count", "two"], ["half"]),
        helper.make_node("Concat", ["two", "half"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["input", "wanted"], ["folded"]),
        helper.make_node("Relu", ["folded"], ["output"]),
    ]
    source = SourceGraph(_save(nodes, tmp_path / "computed.onnx", [two]).path)
    assert source.shapes["folded"].shape == (2, 16)
    assert all(kernel.outputs for kernel in open_device("onnxruntime:cpu").load(prepare_model(tmp_path / "computed.onnx").file).kernels())


def test_shared_weights_behind_identities_are_weights(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [8, 8], np.ones(64))
    bias = helper.make_tensor("b", TensorProto.FLOAT, [8], np.ones(8))
    nodes = [
        helper.make_node("Identity", ["b"], ["same"]),
        helper.make_node("MatMul", ["input", "w"], ["product"]),
        helper.make_node("Add", ["same", "product"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["output"]),
    ]
    model = _save(nodes, tmp_path / "shared.onnx", [weights, bias])
    for name in ("onnxruntime:cpu", "openvino:CPU"):
        kernels = open_device(name).load(model).kernels()
        operators = [op for kernel in kernels for op in kernel.fused_ops]
        assert "Identity" not in operators
        assert {"MatMul", "Add"} <= set(operators)
        (product,) = (kernel for kernel in kernels if "MatMul" in kernel.fused_ops)
        assert TensorSpec((8, 8)) in product.weights
