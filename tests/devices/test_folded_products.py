"""A kernel that a runtime names only after what it folded into its weights is known for the convolution or product that it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerclock.datasets.kernels import kernel_key
from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.devices.onnx_file import prepare_model
from layerclock.network import TensorSpec
from layerclock.plugins import open_device
from layerclock.predictors.kernel_features import family

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from layerclock.network import Kernel

Nodes = list[onnx.NodeProto]

MAP = (1, 16, 14, 14)
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "whole": (16, 16, 3, 3), "left": (8, 8, 1, 1), "right": (8, 8, 1, 1), "up": (16, 16, 2, 2), "wide": (16, 24),
    "bias": (24,), "layer scale": (24,), "gain": (16,), "shift": (16,), "mean": (16,), "variance": (16,), "other wide": (16, 24),
    "ones": (16,), "zeros": (16,),
}  # fmt: skip


def _node(op: str, inputs: str, result: str, **attributes: int | list[int]) -> onnx.NodeProto:
    made = helper.make_node(op, inputs.split(","), result.split(","), f"layer/{result.partition(',')[0]}")
    made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return made


def _normal(data: str, result: str) -> onnx.NodeProto:
    return _node("BatchNormalization", f"{data},gain,shift,mean,variance", result)


def _conv(data: str, weights: str, result: str) -> onnx.NodeProto:
    size = _WEIGHTS[weights][2]
    return _node("Conv", f"{data},{weights}", result, kernel_shape=[size] * 2, pads=[size // 2] * 4)


def _halves() -> Nodes:
    return [
        _node("Split", "input,sizes", "a,b", axis=1),
        _conv("a", "left", "c"),
        _conv("b", "right", "d"),
        _node("Concat", "c,d", "e", axis=1),
    ]


def _save(folder: Path, nodes: Nodes, shape: tuple[int, ...]) -> Path:
    generator = np.random.default_rng(0)
    read = {name for node in nodes for name in node.input}
    values = {name: 0.5 + generator.random(size, dtype=np.float32) for name, size in _WEIGHTS.items()}
    values |= {"ones": np.ones_like(values["ones"]), "zeros": np.zeros_like(values["zeros"])}
    weights = [numpy_helper.from_array(value, name) for name, value in values.items() if name in read]
    weights += [numpy_helper.from_array(np.array([8, 8]), "sizes")] * ("sizes" in read)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [result], weights)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _kernels(folder: Path, nodes: Nodes, shape: tuple[int, ...]) -> tuple[Kernel, ...]:
    """As OpenVINO's compiler tells them, which are those that then run, and all of the model's work is in them."""
    file = prepare_model(_save(folder, nodes, shape)).file
    session = open_device("openvino:CPU").load(file)
    said = session.kernels()
    assert sorted(map(kernel_key, said)) == sorted(map(kernel_key, session.kernel_times(2).kernels))
    session.close()
    source = SourceGraph(file.path)
    assert sum(kernel.macs or 0 for kernel in said) == sum(source.macs(name) or 0 for name in source.nodes) > 0
    return said


@pytest.mark.parametrize(
    ("behind", "operators"),
    [
        (lambda: [_normal("c", "output")], ("BatchNormalization",)),
        (lambda: [_normal("c", "n"), _node("Relu", "n", "output")], ("BatchNormalization", "Relu")),
        (lambda: [_normal("c", "n"), _node("Sigmoid", "n", "s"), _node("Mul", "n,s", "output")], ("BatchNormalization", "Sigmoid", "Mul")),
    ],
)
def test_a_convolution_under_its_normalisation(tmp_path: Path, behind: Callable[[], Nodes], operators: tuple[str, ...]) -> None:
    (kernel,) = (one for one in _kernels(tmp_path, [_conv("input", "whole", "c"), *behind()], MAP) if one.op == "Convolution")
    assert kernel.fused_ops == ("Conv", *operators)
    assert (kernel.inputs, kernel.outputs, kernel.weights[0]) == ((TensorSpec(MAP),), (TensorSpec(MAP),), TensorSpec((16, 16, 3, 3)))
    assert (dict(kernel.attributes)["kernel_shape"], kernel.macs, kernel.site) == ("3x3", 16 * 16 * 9 * 14 * 14, "layer")
    assert family(kernel) == "dense convolution"


def test_a_sum_behind_a_normalised_convolution(tmp_path: Path) -> None:
    kernels = _kernels(tmp_path, [_conv("input", "whole", "c"), _normal("c", "n"), _node("Add", "n,input", "output")], MAP)
    (kernel,) = (one for one in kernels if one.op == "Convolution")
    assert kernel.fused_ops[:2] == ("Conv", "BatchNormalization")
    assert sum("Add" in one.fused_ops for one in kernels) == 1


@pytest.mark.parametrize("normalised", [True, False])
def test_convolutions_over_the_parts_of_a_split_are_one_grouped_convolution(tmp_path: Path, normalised: bool) -> None:
    nodes = [*_halves(), *([_normal("e", "n")] if normalised else []), _node("Relu", "n" if normalised else "e", "output")]
    (kernel,) = (one for one in _kernels(tmp_path, nodes, MAP) if one.op == "Convolution")
    assert kernel.fused_ops == ("Split", "Conv", "Conv", "Concat", *(["BatchNormalization"] * normalised), "Relu")
    assert (kernel.inputs, kernel.outputs) == ((TensorSpec(MAP),), (TensorSpec(MAP),))
    assert [spec for spec in kernel.weights if len(spec.shape) == 4] == [TensorSpec((8, 8, 1, 1))] * 2
    assert (dict(kernel.attributes)["group"], family(kernel)) == (2, "grouped convolution")


def test_a_transposed_convolution_under_its_normalisation(tmp_path: Path) -> None:
    nodes = [_node("ConvTranspose", "input,up", "c", kernel_shape=[2, 2], strides=[2, 2]), _normal("c", "output")]
    (kernel,) = (one for one in _kernels(tmp_path, nodes, MAP) if one.op == "Deconvolution")
    assert (kernel.fused_ops, family(kernel)) == (("ConvTranspose", "BatchNormalization"), "deconvolution")


@pytest.mark.parametrize("shape", [(1, 20, 16), (1, 7, 7, 16)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_under_the_scale_of_its_layer(tmp_path: Path, biased: bool, shape: tuple[int, ...]) -> None:
    bias = [_node("Add", "p,bias", "q")] if biased else []
    nodes = [_node("MatMul", "input,wide", "p"), *bias, _node("Mul", "q,layer scale" if biased else "p,layer scale", "output")]
    (kernel,) = (one for one in _kernels(tmp_path, nodes, shape) if one.op == "FullyConnected")
    assert kernel.fused_ops == ("MatMul", *(["Add"] * biased), "Mul")
    assert (kernel.inputs, kernel.outputs) == ((TensorSpec(shape),), (TensorSpec((*shape[:-1], 24)),))
    assert (kernel.weights[0], kernel.macs) == (TensorSpec((16, 24)), int(np.prod(shape)) * 24)


def test_what_a_normalisation_is_taken_to_pieces_into_has_sizes_and_families(tmp_path: Path) -> None:
    turned = [_conv("input", "whole", "c"), _node("Transpose", "c", "t", perm=[0, 2, 3, 1])]
    kernels = _kernels(
        tmp_path, [*turned, _node("LayerNormalization", "t,gain,shift", "n", axis=-1), _node("MatMul", "n,wide", "output")], MAP
    )
    pieces = {kernel.op: kernel for kernel in kernels if not kernel.fused_ops and kernel.op != "Reorder"}
    assert {kind: family(kernel) for kind, kernel in pieces.items()} == {
        "Reduce": "reduction", "Subgraph": "elementwise", "RMS": "normalisation",
    }  # fmt: skip
    assert (pieces["Reduce"].inputs, pieces["Reduce"].outputs) == ((TensorSpec((1, 14, 14, 16)),), (TensorSpec((1, 14, 14, 1)),))


def test_a_normalisation_under_a_name_of_the_runtime_s_own(tmp_path: Path) -> None:
    """It has no other where its gain and shift change nothing, as in a network that was not trained."""
    nodes = [_node("Relu", "input", "r"), _node("LayerNormalization", "r,ones,zeros", "n", axis=-1), _node("MatMul", "n,wide", "output")]
    (kernel,) = (one for one in _kernels(tmp_path, nodes, (1, 10, 16)) if one.op == "MVN")
    assert kernel.fused_ops == ("LayerNormalization",)
    assert (kernel.weights, family(kernel)) == ((TensorSpec((16,)), TensorSpec((16,))), "normalisation")


def _graph_of_whole_numbers(path: Path, nodes: Nodes, weights: list[onnx.TensorProto], results: Mapping[str, int]) -> Path:
    given = helper.make_tensor_value_info("x", TensorProto.INT64, (1, 8))
    made = [helper.make_tensor_value_info(name, kind, None) for name, kind in results.items()]
    graph = helper.make_graph(nodes, "g", [given], made, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_the_last_operator_of_a_whole_output_has_its_time(tmp_path: Path) -> None:
    """OpenVINO calls it after the output, which it converts."""
    nodes = [helper.make_node("Add", ["x", "x"], ["a"], "/first/Add"), helper.make_node("Mul", ["a", "x"], ["y"], "/second/Mul")]
    file = prepare_model(_graph_of_whole_numbers(tmp_path / "m.onnx", nodes, [], {"y": TensorProto.INT64}), depth=1).file
    sites = {kernel.fused_ops: kernel.site for kernel in open_device("openvino:CPU").load(file).kernel_times(2).kernels}
    assert (sites["Add",], sites["Mul",]) == ("first", "second")


def test_a_conversion_that_several_layers_read_is_the_first_one_s_in_every_compilation(tmp_path: Path) -> None:
    tables = [numpy_helper.from_array(np.ones((9, 4), np.float32), f"table{number}") for number in range(6)]
    nodes = [helper.make_node("Gather", [table.name, "x"], [f"y{number}"], f"/layer{number}/Gather") for number, table in enumerate(tables)]
    results = dict.fromkeys((f"y{number}" for number in range(6)), TensorProto.FLOAT)
    file = prepare_model(_graph_of_whole_numbers(tmp_path / "m.onnx", nodes, tables, results), depth=1).file
    for _ in range(4):
        kernels = open_device("openvino:CPU").load(file).kernel_times(2).kernels
        assert {kernel.site for kernel in kernels if kernel.op == "Convert"} == {"layer0"}


def test_an_unnamed_product_goes_to_the_kernel_behind_it_only_where_that_has_none(tmp_path: Path) -> None:
    nodes = [
        _node("MatMul", "input,wide", "first"), _node("MatMul", "input,other wide", "second"),
        _node("Add", "first,bias", "q"), _node("Mul", "q,layer scale", "scaled"), _node("Add", "second,scaled", "output"),
    ]  # fmt: skip
    source = SourceGraph(_save(tmp_path, nodes, (1, 20, 16)))
    named = [Executed("one", "FullyConnected", ("layer/scaled",)), Executed("two", "FullyConnected", ("layer/second", "layer/output"))]
    assert [kernel.fused_ops for kernel in source.kernels(named)] == [("MatMul", "Add", "Mul"), ("MatMul", "Add")]
    # Both are unnamed: each goes to the nearest.
    named = [Executed("one", "FullyConnected", ("layer/scaled",)), Executed("two", "FullyConnected", ("layer/output",))]
    assert [kernel.fused_ops for kernel in source.kernels(named)] == [("MatMul", "Add", "Mul"), ("MatMul", "Add")]
    # A kernel that has its product takes no other.
    (only,) = source.kernels([Executed("two", "FullyConnected", ("layer/second", "layer/output"))])
    assert only.fused_ops == ("MatMul", "Add")


def test_a_transposition_beside_a_product_does_none_of_its_work(tmp_path: Path) -> None:
    source = SourceGraph(_save(tmp_path, [_node("MatMul", "input,wide", "output")], (1, 20, 16)))
    turned = Executed("turn", "Transpose", ("layer/output/transpose_a",), shape=(16, 20))
    first, second = source.kernels([turned, Executed("product", "FullyConnected", ("layer/output",))])
    assert (first.site, first.fused_ops, first.outputs, first.macs) == ("layer", (), (TensorSpec((16, 20)),), 0)
    assert (second.fused_ops, second.macs) == (("MatMul",), 20 * 16 * 24)


def test_a_normalisation_that_onnxruntime_makes_a_convolution_of(tmp_path: Path) -> None:
    nodes = [_conv("input", "whole", "c"), _node("MaxPool", "c", "p", kernel_shape=[2, 2]), _normal("p", "n"), _node("Relu", "n", "output")]
    kernels = open_device("onnxruntime:cpu").load(prepare_model(_save(tmp_path, nodes, MAP)).file).kernels()
    assert [kernel.fused_ops for kernel in kernels if kernel.fused_ops] == [("Conv",), ("MaxPool",), ("BatchNormalization", "Relu")]
