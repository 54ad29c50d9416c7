"""Multiply-accumulates of single operators, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx import TensorProto, helper

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.counts import macs
from layerclock.network import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "output", "expected"),
    [
        # Each of 16*7*7 outputs sums over 8 channels and 3*3 places.
        ("Conv", {}, [(1, 8, 9, 9), (16, 8, 3, 3), (16,)], (1, 16, 7, 7), 16 * 7 * 7 * 8 * 9),
        ("Conv", {}, [(4, 8, 9, 9), (16, 8, 3, 3)], (4, 16, 7, 7), 4 * 16 * 7 * 7 * 8 * 9),
        # In two groups each output sees half of the channels; depthwise, one.
        ("Conv", {"group": 2}, [(1, 8, 9, 9), (16, 4, 3, 3)], (1, 16, 7, 7), 16 * 7 * 7 * 4 * 9),
        ("Conv", {"group": 8}, [(1, 8, 9, 9), (8, 1, 3, 3)], (1, 8, 7, 7), 8 * 7 * 7 * 9),
        ("Conv", {}, [(1, 8, 9), (16, 8, 3)], (1, 16, 7), 16 * 7 * 8 * 3),
        # Transposed: each of 8*5*5 inputs is spread over 16 channels and 3*3 places.
        ("ConvTranspose", {}, [(1, 8, 5, 5), (8, 16, 3, 3)], (1, 16, 7, 7), 8 * 5 * 5 * 16 * 9),
        ("ConvTranspose", {"group": 4}, [(1, 8, 5, 5), (8, 4, 3, 3)], (1, 16, 7, 7), 8 * 5 * 5 * 4 * 9),
        ("Gemm", {}, [(3, 20), (20, 10), (10,)], (3, 10), 3 * 20 * 10),
        ("Gemm", {"transB": 1}, [(3, 20), (10, 20)], (3, 10), 3 * 20 * 10),
        ("Gemm", {"transA": 1}, [(20, 3), (20, 10)], (3, 10), 3 * 20 * 10),
        ("MatMul", {}, [(3, 20), (20, 10)], (3, 10), 3 * 20 * 10),
        ("MatMul", {}, [(2, 5, 3, 20), (20, 10)], (2, 5, 3, 10), 2 * 5 * 3 * 20 * 10),
        ("MatMulInteger", {}, [(3, 20), (20, 10)], (3, 10), 3 * 20 * 10),
        # What adds nothing up counts none.
        ("Relu", {}, [(1, 8, 9, 9)], (1, 8, 9, 9), 0),
        ("Add", {}, [(1, 8), (1, 8)], (1, 8), 0),
        ("BatchNormalization", {}, [(1, 8, 9, 9), (8,), (8,), (8,), (8,)], (1, 8, 9, 9), 0),
        ("MaxPool", {"kernel_shape": [3, 3]}, [(1, 8, 9, 9)], (1, 8, 7, 7), 0),
        # What is known to multiply, but not how often.
        ("Einsum", {"equation": "ij,jk->ik"}, [(3, 20), (20, 10)], (3, 10), None),
        ("LSTM", {}, [(5, 1, 4), (1, 8, 4), (1, 8, 2)], (5, 1, 1, 2), None),
    ],
)
def test_an_operator_counts_as_by_hand(
    op: str, attributes: dict[str, Any], inputs: list[Shape], output: Shape, expected: int | None
) -> None:
    names = [f"in{number}" for number in range(len(inputs))]
    node = helper.make_node(op, names, ["out"], **attributes)
    shapes = {"out": TensorSpec(output), **{name: TensorSpec(shape) for name, shape in zip(names, inputs, strict=True)}}
    assert macs(node, shapes) == expected


@pytest.mark.parametrize("lost", ["data", "weights", "out"])
def test_a_shape_that_is_needed_and_unknown_is_no_zero(lost: str) -> None:
    shapes = {"data": TensorSpec((3, 20)), "weights": TensorSpec((20, 10)), "out": TensorSpec((3, 10))}
    del shapes[lost]
    counted = macs(helper.make_node("MatMul", ["data", "weights"], ["out"]), shapes)
    assert counted == (600 if lost == "weights" else None)


def test_operators_of_foreign_domains_are_not_counted() -> None:
    shapes = {"a": TensorSpec((3, 20)), "b": TensorSpec((20, 10)), "out": TensorSpec((3, 10))}
    assert macs(helper.make_node("MatMul", ["a", "b"], ["out"], domain="com.example"), shapes) is None
    assert macs(helper.make_node("Relu", ["a"], ["out"], domain="com.example"), shapes) is None
    assert macs(helper.make_node("MatMul", ["a", "b"], ["out"], domain="ai.onnx"), shapes) == 600


def test_a_quantised_convolution_finds_its_weights(tmp_path: Path) -> None:
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    node = helper.make_node("QLinearConv", names, ["out"], "a/Conv")
    specs = {"x": (1, 8, 9, 9), "w": (16, 8, 3, 3), "out": (1, 16, 7, 7)}
    assert macs(node, {name: TensorSpec(shape, "uint8") for name, shape in specs.items()}) == 16 * 7 * 7 * 8 * 9


def test_a_model_s_own_shapes_are_inferred(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], "a/MatMul"), helper.make_node("MatMul", ["h", "v"], ["y"], "b/MatMul")]
    values = {"x": (2, 4), "w": (4, 8), "v": (8, 3)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "m.onnx"))
    source = SourceGraph(tmp_path / "m.onnx")
    assert (source.macs("a/MatMul"), source.macs("b/MatMul")) == (2 * 4 * 8, 2 * 8 * 3)
