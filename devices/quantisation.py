"""INT8 networks by static quantisation: real inputs are run through the network, and show the range of every tensor.

Weights are quantised to int8 channel by channel, activations tensor by tensor, as QuantizeLinear and DequantizeLinear around each
operator (Jacob et al. 2018, *Quantization and training of neural networks for efficient integer-arithmetic-only inference*): by ONNX
Runtime's own tool for ONNX Runtime, by NNCF for OpenVINO. The added operators belong to the layer of what they convert.

Where the processor's 8-bit products saturate, weights have 7 bits: sums of two products would not fit into 16, and the network would
answer something else, at the same speed (OpenVINO's documentation, *Saturation (overflow) issue workaround*; ONNX Runtime's
``reduce_range``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.cache import cache_folder
from layerclock.devices.machine import cpu_fingerprint
from layerclock.errors import ArgumentError, DeviceError
from layerclock.plugins import missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.interfaces import ModelFile

    Batches = list[dict[str, npt.NDArray[Any]]]

__all__ = ["in_precision", "is_quantised", "name_after_layers", "quantised_by_nncf", "quantised_by_onnxruntime"]

# Part of the cache key: raise it when the quantised file changes for the same network.
_VERSION = 1
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


def in_precision(model: ModelFile, precision: str, convert: Mapping[str, Callable[[ModelFile], ModelFile]]) -> ModelFile:
    """The network as a device of ``precision`` loads it; ``convert`` holds what makes another file for a precision.

    Raises :class:`DeviceError` for a network that is in another low precision already.
    """
    if model.precision not in ("float32", precision):
        raise DeviceError(f"{model.path.name} is a network in {model.precision}, not {precision}", f"use --precision {model.precision}")
    return convert[precision](model) if precision in convert and model.precision != precision else model


def is_quantised(graph: onnx.GraphProto) -> bool:
    """Whether a network computes in whole numbers."""
    return any(node.op_type in _QUANTISED for node in graph.node)


def quantised_by_onnxruntime(model: ModelFile) -> ModelFile:
    """An INT8 copy made by ``onnxruntime.quantization``, from the cache if it is there.

    Raises :class:`DeviceError` if it cannot be made.
    """
    return _quantised(model, "onnxruntime", _onnxruntime)


def quantised_by_nncf(model: ModelFile) -> ModelFile:
    """An INT8 copy made by NNCF, from the cache if it is there.

    Raises :class:`~layerclock.errors.MissingExtraError` without NNCF, :class:`DeviceError` if it cannot be made.
    """
    try:
        return _quantised(model, "nncf", _nncf)
    except ModuleNotFoundError as error:
        raise missing_package(error, "quantising for OpenVINO") from error


def _saturates() -> bool:
    """Whether this processor adds 8-bit products in 16 bits: x86 without VNNI, or of which the machine does not tell."""
    processor = dict(cpu_fingerprint())
    return processor.get("architecture", "").lower() in _X86 and "vnni" not in processor.get("isa", "")


def _quantised(model: ModelFile, tool: str, quantise: Callable[[Path, Batches, bool], onnx.ModelProto]) -> ModelFile:
    seven_bits = _saturates()
    inputs = hashlib.sha256(model.calibration.read_bytes()).hexdigest() if model.calibration else ""
    asked = repr([_VERSION, tool, _version(tool), model.digest, inputs, *(["seven bits"] if seven_bits else [])])
    digest = hashlib.sha256(asked.encode()).hexdigest()[:24]
    path = cache_folder() / "models" / f"{digest}.onnx"
    if not path.exists():
        try:
            made = quantise(model.path, _batches(model), seven_bits)
        except (ImportError, DeviceError, ArgumentError):
            raise
        except Exception as error:  # neither tool has a base of its errors
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise DeviceError(f"{tool} cannot quantise {model.path.name}: {first[0]}", "profile it in another --precision") from error
        name_after_layers(made.graph, model.sites)
        make_folder(path.parent)
        write_atomically(path, lambda draft: onnx.save(made, str(draft)))
    return replace(model, path=path, digest=digest, precision="int8")


def _version(tool: str) -> str:
    try:
        return version(tool)
    except ModuleNotFoundError:  # a nightly build bears another name; the import tells whether it is there
        return ""


def _batches(model: ModelFile) -> Batches:
    """Real inputs in batches of the network's size; without any, the fixed pseudo-random ones: times do not depend on them."""
    source = SourceGraph(model.path)
    if model.calibration is None:
        return [source.example_inputs()]
    with np.load(model.calibration, allow_pickle=False) as stored:
        inputs = {name: stored[name] for name in stored.files}
    wanted = {name: source.shapes[name] for name in source.inputs}
    if set(inputs) != set(wanted) or any(
        inputs[name].shape[1:] != spec.shape[1:] or not len(inputs[name]) for name, spec in wanted.items()
    ):
        shapes = {name: ("N", *spec.shape[1:]) for name, spec in wanted.items()}
        raise ArgumentError(f"{model.calibration.name} does not hold the network's inputs", f"an .npz of {shapes}")
    number, batch = len(inputs[source.inputs[0]]), wanted[source.inputs[0]].shape[0]
    chosen = [np.arange(first, first + batch) % number for first in range(0, number, batch)]
    return [{name: inputs[name][rows].astype(spec.dtype) for name, spec in wanted.items()} for rows in chosen]


def _onnxruntime(path: Path, batches: Batches, seven_bits: bool) -> onnx.ModelProto:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # has no types
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder:
        known, result = str(Path(folder) / "known.onnx"), str(Path(folder) / "int8.onnx")
        quant_pre_process(str(path), known, skip_optimization=True, skip_symbolic_shape=True)
        quantization.quantize_static(
            known, result, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            reduce_range=seven_bits,
        )  # fmt: skip
        return onnx.load(result)


def _nncf(path: Path, batches: Batches, seven_bits: bool) -> onnx.ModelProto:
    import nncf

    nncf.set_log_level(logging.ERROR)
    overflow = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE if seven_bits else None)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        made: onnx.ModelProto = nncf.quantize(
            onnx.load(str(path)),
            nncf.Dataset(batches),
            subset_size=len(batches),
            target_device=nncf.TargetDevice.CPU,
            advanced_parameters=overflow,
        )
    return made


def name_after_layers(graph: onnx.GraphProto, sites: tuple[str, ...]) -> None:
    """Name the nodes that a tool added after the layer of what they convert, in place.

    That is the layer that makes the tensor; of weights and of the network's inputs, the first that reads it.
    """
    known = frozenset(sites)
    site_of = {node.name: node.name.split("/")[0] for node in graph.node if node.name.split("/")[0] in known}
    producer = {tensor: node.name for node in graph.node for tensor in node.output}
    reader: dict[str, str] = {}
    for node in graph.node:
        for tensor in node.input:
            reader.setdefault(tensor, node.name)
    unplaced = [node for node in graph.node if node.name not in site_of]
    # Forth from what makes the tensor, then back from what reads it: chains are short, and each turn places at least one node.
    for neighbour in (lambda node: producer.get(node.input[0], ""), lambda node: reader.get(node.output[0], "")):
        while True:
            placed = {node.name: site_of[neighbour(node)] for node in unplaced if neighbour(node) in site_of}
            if not placed:
                break
            site_of |= placed
            unplaced = [node for node in unplaced if node.name not in placed]
    if unplaced:
        raise DeviceError(f"the quantised operator {unplaced[0].name!r} belongs to no layer", "please report it with the model")
    for node in graph.node:
        if node.name.split("/")[0] not in known:
            node.name = f"{site_of[node.name]}/{node.name.replace('/', '.')}"
