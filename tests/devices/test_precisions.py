"""Networks in int8 and half precision: they run in it, keep every rule and their layers, or are refused; nothing turns back in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from layerclock.devices.conformance import check_device
from layerclock.devices.export import write_real_inputs
from layerclock.devices.half_precision import in_half
from layerclock.devices.onnx_file import prepare_model
from layerclock.devices.quantisation import quantised_by_nncf, quantised_by_onnxruntime
from layerclock.errors import ArgumentError, DeviceError, DeviceUnavailableError, TargetMismatchError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import load_space, open_device
from layerclock.target import require_same_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.interfaces import ModelFile, PreparesModels, SearchSpace

INT8 = DeviceOptions(precision="int8")
RUNTIMES = ("onnxruntime:cpu", "openvino:CPU")
CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(autouse=True)
def _needs_nncf(request: pytest.FixtureRequest) -> None:
    if "openvino:CPU" in request.node.name or "nncf" in request.node.name:
        pytest.importorskip("nncf", reason="quantising for OpenVINO needs nncf: pip install 'layerclock[quantize]'")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_quantised_network_keeps_every_rule_and_multiplies_whole_numbers(name: str, tiny_model: ModelFile) -> None:
    device = open_device(name, INT8)
    assert [finding for finding in check_device(device, tiny_model) if not finding.kept] == []
    kernels = device.load(tiny_model).kernels()
    whole = [kernel for kernel in kernels if kernel.op.startswith("QLinear") or kernel.implementation.lower().endswith("i8")]
    products = [kernel for kernel in kernels if {"Conv", "Gemm"}.intersection(kernel.fused_ops)]
    assert len(products) > 40
    # NNCF leaves the small convolutions of squeeze and excitation as they are.
    assert all("excite" in kernel.name for kernel in set(products[:-1]) - set(whole)), "all others, but perhaps the classifier"
    assert {kernel.site for kernel in whole} >= set(tiny_model.sites) - {tiny_model.sites[-1]}


def test_quantised_kernels_have_the_same_names_in_every_session(tiny_model: ModelFile) -> None:
    device = open_device("onnxruntime:cpu", INT8)
    first, second = (device.load(tiny_model).kernel_times(1).kernels for _ in range(2))
    assert set(first) == set(second)
    assert not any("token" in kernel.name for kernel in first)


@pytest.mark.parametrize("quantise", [quantised_by_onnxruntime, quantised_by_nncf], ids=["onnxruntime", "nncf"])
def test_what_a_tool_adds_belongs_to_a_layer_and_is_made_once(quantise: Callable[[ModelFile], ModelFile], tiny_model: ModelFile) -> None:
    made = quantise(tiny_model)
    assert made.precision == "int8"
    nodes = onnx.load(str(made.path)).graph.node
    assert {node.name.split("/")[0] for node in nodes} == set(tiny_model.sites)
    assert len({node.name for node in nodes}) == len(nodes)
    written = made.path.stat().st_mtime_ns
    assert quantise(tiny_model) == made
    assert made.path.stat().st_mtime_ns == written


@pytest.mark.parametrize(("isa", "largest"), [("avx avx2", 64), ("avx avx2 avx_vnni", 127), ("", 64)])
def test_weights_have_seven_bits_where_products_saturate(
    isa: str, largest: int, tiny_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = (("architecture", "x86_64"), *([("isa", isa)] if isa else []))
    monkeypatch.setattr("layerclock.devices.quantisation.cpu_fingerprint", lambda: processor)
    graph = onnx.load(str(quantised_by_onnxruntime(tiny_model).path)).graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(one.astype(np.int64)).max()) for one in weights if one.ndim == 4) == largest


def test_it_is_calibrated_on_the_space_s_real_inputs(tiny_space: SearchSpace, tiny_model: ModelFile, tmp_path: Path) -> None:
    real = write_real_inputs(tiny_space, 16)
    assert real is not None
    with np.load(real) as stored:
        assert stored["input"].shape == (16, 1, 32, 32)
    with_digits = quantised_by_onnxruntime(replace(tiny_model, calibration=real))
    scales = [
        [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(made.path)).graph.initializer if tensor.name == "input_scale"]
        for made in (with_digits, quantised_by_onnxruntime(tiny_model))
    ]
    assert scales[0] != scales[1], "digits span other values than normal numbers"
    assert write_real_inputs(load_space("ofa-mobilenetv3"), 16) is None
    np.savez(tmp_path / "wrong.npz", input=np.zeros((4, 3, 8, 8), np.float32))
    with pytest.raises(ArgumentError, match=r"wrong\.npz does not hold the network's inputs"):
        quantised_by_onnxruntime(replace(tiny_model, calibration=tmp_path / "wrong.npz"))


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bfloat16 instructions (AVX512-BF16 or AMX)")
def test_openvino_runs_bfloat16_where_the_processor_does(tiny_model: ModelFile) -> None:
    device = open_device("openvino:CPU", DeviceOptions(precision="bf16"))
    assert device.target.precision == "bfloat16"
    assert dict(device.target.options)["INFERENCE_PRECISION_HINT"] == "bf16"
    assert [finding for finding in check_device(device, tiny_model) if not finding.kept] == []
    implementations = [kernel.implementation for kernel in device.load(tiny_model).kernels() if kernel.op == "Convolution"]
    assert all(one.endswith("bf16") for one in implementations)


@pytest.mark.skipif("FP16" in CAPABILITIES, reason="this processor computes in float16")
def test_openvino_refuses_a_precision_that_the_processor_lacks() -> None:
    with pytest.raises(DeviceUnavailableError, match="cannot run networks in float16: OpenVINO's capabilities"):
        open_device("openvino:CPU", DeviceOptions(precision="fp16"))


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this processor has no bfloat16 instructions (AVX512-BF16 or AMX)")
def test_openvino_refuses_what_its_compiler_turned_back(tiny_model: ModelFile) -> None:
    """A hint is only a hint: another one among the options wins, and the network would be compiled for float32."""
    options = DeviceOptions(precision="bf16", extra={"INFERENCE_PRECISION_HINT": "f32"})
    with pytest.raises(DeviceUnavailableError, match=r"was asked for bfloat16, and .* run in f32"):
        open_device("openvino:CPU", options).load(tiny_model)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_onnxruntime_runs_half_precision_or_names_the_kernels_that_it_lacks(precision: str, tiny_model: ModelFile) -> None:
    device = open_device("onnxruntime:cpu", DeviceOptions(precision=precision))
    try:
        session = device.load(tiny_model)
    except DeviceUnavailableError:
        with pytest.raises(DeviceUnavailableError, match=f"no kernels? of Conv.* in {device.target.precision}"):
            device.load(tiny_model)
    else:  # on processors of Arm
        session.close()
        assert [finding for finding in check_device(device, tiny_model) if not finding.kept] == []


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.2)])
def test_a_network_in_half_precision_computes_the_same_but_for_rounding(precision: str, tolerance: float, tiny_model: ModelFile) -> None:
    made = onnx.load(str(in_half(tiny_model, precision).path))
    onnx.checker.check_model(made)
    given = {"input": np.random.default_rng(0).standard_normal((1, 1, 32, 32), dtype=np.float32)}
    expected, found = (np.asarray(cast("list[Any]", ReferenceEvaluator(one).run(None, given))[0]) for one in (str(tiny_model.path), made))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    assert {node.name.split("/")[0] for node in made.graph.node} == set(tiny_model.sites)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_quantised_file_is_not_run_under_another_precision(name: str, tiny_model: ModelFile) -> None:
    quantised = quantised_by_onnxruntime(tiny_model)
    file = prepare_model(quantised.path).file
    assert file.precision == "int8"
    with pytest.raises(DeviceError, match="is a network in int8, not float32") as raised:
        open_device(name).load(file)
    assert raised.value.hint == "use --precision int8"
    session = open_device(name, INT8).load(file)
    assert session.run() > 0


def test_numbers_of_two_precisions_do_not_mix(tiny_model: ModelFile) -> None:
    plain, whole = open_device("onnxruntime:cpu"), open_device("onnxruntime:cpu", INT8)
    with pytest.raises(TargetMismatchError, match="precision: 'float32' against 'int8'"):
        require_same_target(plain.target, [whole.target], "these tables")
    device: PreparesModels = plain  # type: ignore[assignment]  # it offers more than a Device
    assert device.prepare(tiny_model) == tiny_model


def test_inputs_that_nothing_reads_and_numbers_in_constants_are_no_hindrance(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("x", "unread", "y")]
    nodes = [
        helper.make_node("Constant", [], ["two"], "body/two", value_float=2.0),
        helper.make_node("Constant", [], ["four"], "body/four", value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Mul", ["x", "two"], ["doubled"], "body/Mul"),
        helper.make_node("Add", ["doubled", "four"], ["y"], "body/Add"),
    ]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    made = in_half(prepare_model(path).file, "float16")
    session = onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": zeros + 3, "unread": zeros})[0], [[7.0, 8.0, 9.0, 10.0]])
