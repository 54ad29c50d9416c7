"""Any ONNX file made ready: names and layers from whatever paths it has, shapes fixed, and every bad file refused in words."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from layerclock.devices import onnx_file
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.cache import cache_folder
from layerclock.devices.onnx_file import prepare_model
from layerclock.errors import ArgumentError, DeviceError
from layerclock.network import TensorSpec
from layerclock.plugins import open_device

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Axis = int | str


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[Axis]]],
    weights: dict[str, tuple[int, ...]] | None = None,
    output: Sequence[Axis] | None = None,
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.ones(shape, dtype=np.float32), name) for name, shape in (weights or {}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _two_layers(path: Path, axes: Sequence[Axis] = (1, 3, 8, 8), names: Sequence[str] = ("", "", "", "", "")) -> Path:
    """Convolution, activation, convolution, pooling, flattening: 3 -> 4 -> 5 channels."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], names[0]),
        helper.make_node("Relu", ["a"], ["b"], names[1]),
        helper.make_node("Conv", ["b", "w2"], ["c"], names[2]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], names[3]),
        helper.make_node("Flatten", ["d"], ["y"], names[4]),
    ]
    return _save(path, nodes, {"x": (TensorProto.FLOAT, axes)}, {"w1": (4, 3, 3, 3), "w2": (5, 4, 1, 1)})


def _names(path: Path) -> list[str]:
    return [node.name for node in onnx.load(str(path)).graph.node]


def test_without_paths_each_convolution_begins_a_layer(tmp_path: Path) -> None:
    prepared = prepare_model(_two_layers(tmp_path / "m.onnx"))
    assert prepared.file.sites == ("Conv_0", "Conv_2")
    assert _names(prepared.file.path) == [
        "Conv_0/Conv", "Conv_0/Relu", "Conv_2/Conv", "Conv_2/GlobalAveragePool", "Conv_2/Flatten",
    ]  # fmt: skip
    first, second = (placed.layer for placed in prepared.layers)
    assert (first.op, first.macs, first.params) == ("Conv", 4 * 6 * 6 * 3 * 9, 4 * 3 * 9)
    assert (first.inputs, first.outputs) == ((TensorSpec((1, 3, 8, 8)),), (TensorSpec((1, 4, 6, 6)),))
    assert (second.op, second.macs, second.params) == ("Conv", 5 * 6 * 6 * 4, 5 * 4)
    assert (second.inputs, second.outputs) == ((TensorSpec((1, 4, 6, 6)),), (TensorSpec((1, 5)),))
    assert dict(first.attributes) == {"model": f"m@{prepared.file.digest[:8]}", "module": "Conv_0"}


def test_torchscript_paths_name_the_layers_to_the_depth_asked_for(tmp_path: Path) -> None:
    names = ("/stem/conv/Conv", "/stem/act/Relu", "/body/body.0/conv/Conv", "/GlobalAveragePool", "/Flatten")
    path = _two_layers(tmp_path / "m.onnx", names=names)
    by_depth = {depth: prepare_model(path, depth=depth).file.sites for depth in (1, 2, 3)}
    assert by_depth[1] == ("stem", "body")
    assert by_depth[2][0] == "stem.conv"
    assert len(set(by_depth.values())) == 3
    # What has no path of its own belongs to the layer before it.
    assert _names(prepare_model(path, depth=1).file.path)[-1].split("/")[0] == "body"
    with pytest.raises(ArgumentError, match="depth=0"):
        prepare_model(path, depth=0)


@pytest.mark.parametrize("dynamo", [False, True])
def test_both_of_torch_s_exporters_name_their_layers(dynamo: bool, tmp_path: Path) -> None:
    network = torch.nn.Sequential(OrderedDict(stem=torch.nn.Conv2d(3, 4, 3), head=torch.nn.Conv2d(4, 5, 1))).eval()
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        torch.onnx.export(network, (torch.zeros(1, 3, 8, 8),), str(path), dynamo=dynamo, verbose=False, external_data=False)
    prepared = prepare_model(path, depth=1)
    assert prepared.file.sites == ("stem", "head")
    assert [placed.layer.macs for placed in prepared.layers] == [4 * 6 * 6 * 3 * 9, 5 * 6 * 6 * 4]
    assert [placed.layer.params for placed in prepared.layers] == [4 * 27 + 4, 5 * 4 + 5]


def test_equal_names_become_distinct(tmp_path: Path) -> None:
    path = _two_layers(tmp_path / "m.onnx", names=("same",) * 5)
    names = _names(prepare_model(path).file.path)
    assert len(set(names)) == len(names) == 5
    paths = ("/block/Conv", "/block/Relu", "/block/Conv", "/block/Pool", "/block/Flatten")
    assert _names(prepare_model(_two_layers(path, names=paths)).file.path)[:3] == ["block/Conv", "block/Relu", "block/Conv_2"]


def test_a_free_batch_becomes_that_of_the_device(tmp_path: Path) -> None:
    path = _two_layers(tmp_path / "m.onnx", axes=("N", 3, 8, 8))
    for batch in (1, 4):
        prepared = prepare_model(path, batch)
        assert prepared.layers[0].layer.inputs == (TensorSpec((batch, 3, 8, 8)),)
    assert prepare_model(path, 1).file.digest != prepare_model(path, 4).file.digest
    with pytest.raises(ArgumentError, match=r"batch is 1, not 4 \(profile it with --batch 1\)"):
        prepare_model(_two_layers(path), 4)


@pytest.mark.parametrize("axes", [("N", 3, 8, 8), (7, 3, 8, 8)])
def test_multiply_accumulates_are_counted_for_batch_1_and_shapes_as_they_run(axes: Sequence[Axis], tmp_path: Path) -> None:
    first, second = (placed.layer for placed in prepare_model(_two_layers(tmp_path / "m.onnx", axes), 7).layers)
    assert (first.macs, second.macs) == (4 * 6 * 6 * 3 * 9, 5 * 6 * 6 * 4)
    assert (first.batch, second.outputs) == (7, (TensorSpec((7, 5)),))


def test_another_free_axis_has_to_be_fixed(tmp_path: Path) -> None:
    path = _two_layers(tmp_path / "m.onnx", axes=(1, 3, "H", "W"))
    with pytest.raises(ArgumentError, match=r"m\.onnx: input 'x' has the free shape 1x3xHxW \(fix it, for example: --shape x=1x3x64x64\)"):
        prepare_model(path)
    assert prepare_model(path, shapes={"x": (1, 3, 10, 12)}).layers[0].layer.outputs == (TensorSpec((1, 4, 8, 10)),)


def test_a_first_axis_that_is_fixed_is_the_batch_to_give(tmp_path: Path) -> None:
    """Also where another axis is free: what the hint says works."""
    path = _save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, (16, "N", 8))})
    with pytest.raises(ArgumentError, match=r"free shape 16xNx8 \(fix it, for example: --shape x=16x64x8 --batch 16\)"):
        prepare_model(path)
    with pytest.raises(ArgumentError, match=r"batch is 16, not 1 \(profile it with --batch 16, or give a --shape of batch 1\)"):
        prepare_model(path, shapes={"x": (16, 64, 8)})
    assert prepare_model(path, 16, {"x": (16, 64, 8)}).layers[0].layer.outputs == (TensorSpec((16, 64, 8)),)


def _with_input(path: Path, value: onnx.ValueInfoProto, node: onnx.NodeProto) -> Path:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [value], [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_an_input_that_tells_no_shape_takes_any(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    path = _with_input(tmp_path / "m.onnx", value, helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(ArgumentError, match=r"input 'x' tells no shape \(give it one, for example: --shape x=1x64\)"):
        prepare_model(path)
    prepared = prepare_model(path, shapes={"x": (1, 4, 5)})
    assert prepared.layers[0].layer.outputs == (TensorSpec((1, 4, 5)),)
    assert open_device("onnxruntime:cpu").load(prepared.file).run() > 0


def test_an_input_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, (1, 4)))
    for kind in (sequence, helper.make_optional_type_proto(sequence)):
        node = helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)
        path = _with_input(tmp_path / "m.onnx", helper.make_value_info("x", kind), node)
        with pytest.raises(ArgumentError, match=r"m\.onnx: input 'x' is no tensor \((sequence|optional)_type\)"):
            prepare_model(path)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"z": (1, 3, 8, 8)}, r"no input 'z' \(its inputs: x\)"),
        ({"x": (1, 3, 8)}, "has 4 axes, not 3"),
        ({"x": (1, 1, 8, 8)}, "axis 1 of input 'x' is 3 in the model, not 1"),
    ],
)
def test_a_shape_that_contradicts_the_model_is_refused(shapes: dict[str, tuple[int, ...]], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=said):
        prepare_model(_two_layers(tmp_path / "m.onnx"), shapes=shapes)


@pytest.mark.parametrize("content", [None, b"", b"\x08\x08\x12garbage" * 9, b"no model at all"])
def test_a_file_that_is_no_model_is_a_clear_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeviceError, match=r"m\.onnx (as an ONNX model|holds no operators)"):
        prepare_model(path)


def test_a_truncated_model_is_a_clear_error(tmp_path: Path) -> None:
    path = _two_layers(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DeviceError, match=r"m\.onnx"):
        prepare_model(path)


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "/head/MatMul"),
        helper.make_node("Einsum", ["a", "v"], ["y"], "/head/Einsum", equation="ij,jk->ik"),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"x": (TensorProto.FLOAT, (2, 4))}, {"w": (4, 8), "v": (8, 3)})
    (placed,) = prepare_model(path, batch=2, depth=1).layers
    assert dict(placed.layer.attributes)["uncounted"] == 1
    assert placed.layer.macs == 4 * 8


@pytest.mark.parametrize("device", ["onnxruntime:cpu", "openvino:CPU"])
def test_whole_number_inputs_run(device: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "/embed/Gather"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "/head/MatMul"),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"ids": (TensorProto.INT64, (1, "T"))}, {"table": (7, 4), "w": (4, 3)})
    prepared = prepare_model(path, shapes={"ids": (1, 5)}, depth=1)
    assert prepared.file.sites == ("embed", "head")
    assert open_device(device).load(prepared.file).run() > 0


def _with_weights_beside(folder: Path) -> Path:
    folder.mkdir()
    model = onnx.load(str(_two_layers(folder / "m.onnx")))
    onnx.save(model, str(folder / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    return folder / "m.onnx"


def test_weights_beside_may_be_a_link_as_in_caches_of_downloads(tmp_path: Path) -> None:
    path = _with_weights_beside(tmp_path / "snapshot")
    expected = prepare_model(path).file.path.read_bytes()
    for name, blob in (("m.bin", "4f5e"), ("m.onnx", "0a1b")):
        (path.parent / name).rename(tmp_path / blob)
        (path.parent / name).symlink_to(f"../{blob}")
    assert prepare_model(path).file.path.read_bytes() == expected
    (tmp_path / "4f5e").unlink()
    with pytest.raises(DeviceError, match=r"m\.onnx as an ONNX model: .*m\.bin"):
        prepare_model(path)


@pytest.mark.parametrize("place", ["../secret.bin", "{folder}/secret.bin", "link/secret.bin"])
def test_weights_in_other_folders_are_refused(place: str, tmp_path: Path) -> None:
    path = _with_weights_beside(tmp_path / "model")
    (path.parent / "m.bin").rename(tmp_path / "secret.bin")
    (path.parent / "link").symlink_to(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"):
        entry.value = place.format(folder=tmp_path)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DeviceError, match=r"m\.onnx as an ONNX model"):
        prepare_model(path)


def test_the_given_file_is_left_alone_and_the_prepared_one_is_kept(tmp_path: Path) -> None:
    path = _two_layers(tmp_path / "m.onnx")
    content = path.read_bytes()
    first = prepare_model(path).file
    written = first.path.stat().st_mtime_ns
    assert prepare_model(path).file == first
    assert (path.read_bytes(), first.path.stat().st_mtime_ns) == (content, written)


def _shape_of_operators(path: Path) -> Path:
    """A reshaping to what an operator says, which onnx does not infer."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "/body/MatMul"),
        helper.make_node("ReduceMax", ["choices"], ["sizes"], "/body/ReduceMax", axes=[0], keepdims=0),
        helper.make_node("Reshape", ["a", "sizes"], ["b"], "/body/Reshape"),
        helper.make_node("Relu", ["b"], ["y"], "/head/Relu"),
    ]
    _save(path, nodes, {"x": (TensorProto.FLOAT, (1, 4))}, {"w": (4, 256)})
    model = onnx.load(str(path))
    model.graph.initializer.append(numpy_helper.from_array(np.array([[16, 2], [4, 16]], dtype=np.int64), "choices"))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("largest_bytes", [1_800_000_000, 0])
def test_shapes_that_onnx_does_not_infer_are_filled_in(largest_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a model whose weights stand in a file beside it."""
    monkeypatch.setenv("LAYERCLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_file, "_LARGEST_BYTES", largest_bytes)
    prepared = prepare_model(_shape_of_operators(tmp_path / "m.onnx")).file.path
    assert SourceGraph(prepared).shapes["b"] == TensorSpec((16, 16), "float32")
    beside = {onnx_file.weights_file(prepared).name} if largest_bytes == 0 else set()
    assert {file.name for file in prepared.parent.iterdir()} == {prepared.name} | beside
    assert open_device("onnxruntime:cpu").load(prepare_model(tmp_path / "m.onnx").file).run() > 0


def test_an_interruption_leaves_no_prepared_model_without_its_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERCLOCK_CACHE", str(tmp_path / "cache"))
    path = _shape_of_operators(tmp_path / "m.onnx")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(onnx_file, "_fill_in_shapes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_model(path)
    assert not list((cache_folder() / "models").iterdir())
    assert "b" in SourceGraph(prepare_model(path).file.path).shapes
