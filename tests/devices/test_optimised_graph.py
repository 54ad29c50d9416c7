"""Kernels of ONNX Runtime's optimised graph have the same names in every session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.onnxruntime.optimised_graph import described

if TYPE_CHECKING:
    from pathlib import Path

ROOT, LEFT, RIGHT, SUM = "root/Conv", "left/Conv", "right/Conv", "right/Add"
CPU = "CPUExecutionProvider"


@pytest.fixture
def source(tmp_path: Path) -> SourceGraph:
    """A convolution that two others read, whose results are added."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["root_out"], ROOT),
        helper.make_node("Conv", ["root_out", "w"], ["left_out"], LEFT),
        helper.make_node("Conv", ["root_out", "w"], ["right_out"], RIGHT),
        helper.make_node("Add", ["left_out", "right_out"], ["y"], SUM),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 8, 4, 4)) for name in "xy"]
    weights = numpy_helper.from_array(np.ones((8, 8, 1, 1), dtype=np.float32), "w")
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [weights])), str(tmp_path / "m.onnx"))
    return SourceGraph(tmp_path / "m.onnx")


@pytest.mark.parametrize("order", [(LEFT, RIGHT), (RIGHT, LEFT)])
@pytest.mark.parametrize("number", [1, 7])
def test_a_reorder_is_named_after_the_first_of_its_readers_in_the_model(source: SourceGraph, order: tuple[str, str], number: int) -> None:
    blocked = {"domain": "com.microsoft.nchwc"}
    reorder = f"ReorderInput_token_{number}"
    convolutions = [helper.make_node("Conv", ["blocked", "w"], [f"{name}_nchwc"], f"{name}_nchwc", **blocked) for name in order]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["root_out"], ROOT),
        helper.make_node("ReorderInput", ["root_out"], ["blocked"], reorder, **blocked),
        *convolutions,
        helper.make_node("Add", [f"{LEFT}_nchwc", f"{RIGHT}_nchwc"], ["y"], SUM),
    ]
    graph = helper.make_graph(nodes, "optimised", [], [])
    operation = {node.name: node.op_type for node in nodes}
    kernels = described(source, operation, graph, dict.fromkeys(operation, CPU))
    assert kernels[reorder].name == f"ReorderInput({ROOT} -> {LEFT}_nchwc)"
    assert kernels[reorder].site == "left"
    assert kernels[f"{RIGHT}_nchwc"].site == "right"
