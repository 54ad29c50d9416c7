"""A network in half precision: every floating-point tensor in float16 or bfloat16, inputs and outputs in float32 as before."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.cache import cache_folder

if TYPE_CHECKING:
    from layerclock.interfaces import ModelFile

__all__ = ["in_half"]

# Part of the cache key: raise it when the converted file changes for the same network.
_VERSION = 2
_OPSET = 22
_TYPES = {"float16": (TensorProto.FLOAT16, np.dtype(np.float16)), "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16))}
# Inputs that the standard wants in float32 whatever the operator computes in: regions and scales.
_STAY = {"Resize": (1, 2)}


def in_half(model: ModelFile, precision: str) -> ModelFile:
    """A copy of ``model`` in ``float16`` or ``bfloat16``, from the cache if it is there.

    The casts that are added belong to the layer that they feed or follow.
    """
    digest = hashlib.sha256(repr([_VERSION, precision, model.digest]).encode()).hexdigest()[:24]
    path = cache_folder() / "models" / f"{digest}.onnx"
    if not path.exists():
        # Before this version of the standard convolutions and products know no bfloat16.
        made = version_converter.convert_version(onnx.load(str(model.path)), _OPSET)
        _convert(made.graph, *_TYPES[precision])
        make_folder(path.parent)
        write_atomically(path, lambda draft: onnx.save(made, str(draft)))
    return replace(model, path=path, digest=digest, precision=precision)


def _convert(graph: onnx.GraphProto, kind: int, dtype: np.dtype[np.generic]) -> None:
    def halved(tensor: TensorProto) -> TensorProto:
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name)

    staying = {node.input[at] for node in graph.node for at in _STAY.get(node.op_type, ()) if at < len(node.input)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in staying:
            tensor.CopyFrom(halved(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                if not staying.intersection(node.output):
                    attribute.t.CopyFrom(halved(attribute.t))
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                if not staying.intersection(node.output):
                    number = np.array(helper.get_attribute_value(attribute), dtype=dtype)
                    attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(number)))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
    weights = {tensor.name for tensor in graph.initializer}
    given = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT} - weights
    wanted = {value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    before, after = [], []
    for name in sorted(given):
        site = next((node.name.split("/")[0] for node in graph.node if name in node.input), None)
        if site is None:  # an input that nothing reads
            continue
        before.append(helper.make_node("Cast", [name], [f"{name}_half"], name=f"{site}/Cast_{name}", to=kind))
    for node in graph.node:
        node.input[:] = [f"{tensor}_half" if tensor in given | wanted else tensor for tensor in node.input]
        site = node.name.split("/")[0]
        after += [
            helper.make_node("Cast", [f"{tensor}_half"], [tensor], name=f"{site}/Cast_{tensor}", to=TensorProto.FLOAT)
            for tensor in node.output
            if tensor in wanted
        ]
        node.output[:] = [f"{tensor}_half" if tensor in wanted else tensor for tensor in node.output]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
