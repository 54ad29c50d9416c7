"""The one rule that says to which layer a kernel's time belongs, on models made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.errors import DeviceError
from layerclock.network import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> SourceGraph:
    """Layer a: convolution, activation. Layer b: strided depthwise, project, add of a's output. Layer c: matrix product."""

    def conv(name: str, data: str, channels: int, group: int = 1) -> onnx.NodeProto:
        return helper.make_node("Conv", [data, f"{name}.w"], [name], name, kernel_shape=[1, 1], strides=[1, 1], group=group)

    nodes = [
        conv("a/Conv", "input", 4),
        helper.make_node("Relu", ["a/Conv"], ["a/Relu"], "a/Relu"),
        conv("b/Depthwise", "a/Relu", 4, group=4),
        conv("b/Project", "b/Depthwise", 4),
        helper.make_node("Add", ["b/Project", "a/Relu"], ["b/Add"], "b/Add"),
        helper.make_node("Flatten", ["b/Add"], ["c/Flatten"], "c/Flatten"),
        helper.make_node("Gemm", ["c/Flatten", "c.w"], ["output"], "c/Gemm"),
    ]
    shapes = {"a/Conv.w": (4, 3, 1, 1), "b/Depthwise.w": (4, 1, 1, 1), "b/Project.w": (4, 4, 1, 1), "c.w": (16, 5)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.ones(shape, dtype=np.float32), name) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "model.onnx"))
    return SourceGraph(tmp_path / "model.onnx")


def test_a_fused_activation_belongs_to_its_convolution(source: SourceGraph) -> None:
    (kernel,) = source.kernels([Executed("conv_0", "Convolution", ("a/Conv", "a/Relu"), layout="nChw16c", implementation="jit")])
    assert (kernel.site, kernel.fused_ops, kernel.op) == ("a", ("Conv", "Relu"), "Convolution")
    assert (kernel.inputs, kernel.weights) == ((TensorSpec((1, 3, 2, 2)),), (TensorSpec((4, 3, 1, 1)),))
    assert kernel.outputs == (TensorSpec((1, 4, 2, 2)),)
    assert dict(kernel.attributes) == {"group": 1, "kernel_shape": "1x1", "strides": "1x1"}
    assert (kernel.layout, kernel.implementation) == ("nChw16c", "jit")


def test_the_order_in_which_a_runtime_names_operators_does_not_matter(source: SourceGraph) -> None:
    (kernel,) = source.kernels([Executed("k", "Convolution", ("a/Relu", "a/Conv"))])
    assert (kernel.site, kernel.fused_ops) == ("a", ("Conv", "Relu"))


def test_a_residual_sum_over_two_layers_belongs_to_the_layer_of_its_convolution(source: SourceGraph) -> None:
    (kernel,) = source.kernels([Executed("k", "Convolution", ("b/Project", "b/Add"))])
    assert (kernel.site, kernel.fused_ops) == ("b", ("Conv", "Add"))
    assert TensorSpec((1, 4, 2, 2)) in kernel.inputs
    # An addition that starts before the product that it is fused with: the product is the anchor.
    (kernel,) = source.kernels([Executed("k", "FullyConnected", ("b/Add", "c/Flatten", "c/Gemm"))])
    assert kernel.site == "c"
    # Without any product, the first operator decides.
    (kernel,) = source.kernels([Executed("k", "Eltwise", ("b/Add", "c/Flatten"))])
    assert kernel.site == "b"


def test_a_tensor_stands_for_the_operator_that_makes_it(source: SourceGraph) -> None:
    (kernel,) = source.kernels([Executed("k", "Gemm", ("output",))])
    assert (kernel.site, kernel.fused_ops) == ("c", ("Gemm",))
    assert source.find("nothing of the kind") == ""


def test_of_a_runtime_that_names_only_the_last_operator_the_others_are_found(source: SourceGraph) -> None:
    executed = [
        Executed("a/Relu", "FusedConv", ("a/Relu",), only_last=True),
        Executed("b/Depthwise", "Conv", ("b/Depthwise",), only_last=True),
        Executed("b/Project", "FusedConv", ("b/Project",), only_last=True),
        Executed("c/Gemm", "Gemm", ("c/Gemm",), only_last=True),
    ]
    kernels = source.kernels(executed, boundaries={"a/Relu", "b/Depthwise", "b/Add"})
    assert [(kernel.site, kernel.fused_ops) for kernel in kernels] == [
        ("a", ("Conv", "Relu")),
        ("b", ("Conv",)),  # the boundary keeps it apart from the projection
        ("b", ("Conv", "Add")),  # the residual addition is the projection's, whose output it reads first
        ("c", ("Gemm",)),
    ]
    assert kernels[2].outputs == (TensorSpec((1, 4, 2, 2)),)


def test_without_boundaries_walking_back_stops_at_the_layer(source: SourceGraph) -> None:
    executed = [Executed(name, "x", (name,), only_last=True) for name in ("b/Add", "c/Gemm")]
    assert [kernel.fused_ops for kernel in source.kernels(executed)] == [("Conv", "Conv", "Add"), ("Gemm",)]


def test_walking_back_stops_at_a_tensor_that_passes_between_kernels(source: SourceGraph) -> None:
    executed = [Executed(name, "x", (name,), only_last=True) for name in ("a/Relu", "b/Project", "c/Gemm")]
    assert [kernel.fused_ops for kernel in source.kernels(executed)][1] == ("Conv", "Conv", "Add")
    # The runtime says which results left a kernel, the depthwise one among them: it was computed with what comes before it.
    kernels = source.kernels(executed, boundaries={"b/Depthwise", "b/Add"})
    assert [kernel.fused_ops for kernel in kernels] == [("Conv", "Relu", "Conv"), ("Conv", "Add"), ("Gemm",)]


def test_an_operator_counts_for_one_kernel_only(source: SourceGraph) -> None:
    first, second = source.kernels([Executed("one", "x", ("a/Conv", "a/Relu")), Executed("two", "y", ("a/Relu", "b/Depthwise"))])
    assert first.fused_ops == ("Conv", "Relu")
    assert (second.site, second.fused_ops) == ("b", ("Conv",))


def test_a_reorder_belongs_to_its_reader_and_at_the_end_to_its_feeder(source: SourceGraph) -> None:
    executed = [
        Executed("conv", "Convolution", ("a/Conv", "a/Relu")),
        Executed("reorder", "Reorder", (), reader="again", feeder="conv"),
        Executed("again", "Reorder", (), reader="project", feeder="reorder"),
        Executed("project", "Convolution", ("b/Project", "b/Add")),
        Executed("back", "Reorder", (), feeder="project"),
        Executed("to_output", "Reorder", (), reader="not a kernel", feeder="back"),
    ]
    kernels = source.kernels(executed)
    assert [kernel.site for kernel in kernels] == ["a", "b", "b", "b", "b", "b"]
    assert [kernel.name for kernel in kernels] == [kernel.name for kernel in executed]
    # What it moves is the result of the kernel before it.
    assert (kernels[1].fused_ops, kernels[1].inputs, kernels[1].attributes) == ((), (TensorSpec((1, 4, 2, 2)),), ())


@pytest.mark.parametrize(
    "executed",
    [
        [Executed("lost", "Reorder", ())],
        [Executed("lost", "Reorder", ("no such operator",), reader="nowhere", feeder="neither")],
        [Executed("lost", "Reorder", (), reader="other", feeder="other"), Executed("other", "Reorder", (), reader="lost", feeder="lost")],
    ],
)
def test_time_that_belongs_nowhere_raises(source: SourceGraph, executed: list[Executed]) -> None:
    with pytest.raises(DeviceError, match=r"kernel 'lost' \(Reorder\) cannot be attributed"):
        source.kernels(executed)


def test_a_damaged_or_absent_model_is_a_clear_error(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x08\x08\x12garbage" * 9)
    with pytest.raises(DeviceError, match=r"cannot read the model .*damaged\.onnx"):
        SourceGraph(damaged)
    with pytest.raises(DeviceError, match=r"cannot read the model .*absent\.onnx"):
        SourceGraph(tmp_path / "absent.onnx")
