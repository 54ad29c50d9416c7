"""From what a runtime executed back to the layers of the network: one written rule for all runtimes.

A runtime fuses operators of the exported model into kernels and adds kernels of its own. The rule:

1. A kernel made of operators of the model belongs to the layer of its *anchor*: the first convolution or matrix
   product among its operators, or the first operator where there is none.
2. A kernel that the runtime added (a layout reorder) belongs to the layer of the kernel that reads its result; at the
   end of the network, to the layer of the kernel that feeds it.
   Operators that no kernel names were fused: into the kernel that names a later one (where a runtime tells only the
   last), else into the kernel that makes their first input. What only makes shapes, indices and constants is left out.
   Products that no kernel names are those of the next kernel that has none, and normalisations those of a kernel that normalises
   what made their input (:mod:`~layerclock.devices.folding`).
3. What can be attributed by neither rule raises :class:`~layerclock.errors.DeviceError`: no time is dropped in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # what onnx.load raises on a damaged file

from layerclock.devices.counts import macs as count_macs
from layerclock.devices.folding import claim_normalisations, claim_unnamed, parallel_products
from layerclock.errors import DeviceError
from layerclock.network import AttributeValue, Kernel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["ANCHORS", "VIEWS", "Executed", "SourceGraph"]

# Operators that a layer is about; the rest of a fused kernel follows from them.
ANCHORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul", "ConvInteger"})
_BOOKKEEPING = frozenset({"int64", "int32", "bool"})
# What only gives a tensor another name or shape: a runtime does it in no time, and it is no part of what a kernel computes.
VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_MOVES = VIEWS | {"Transpose"}
# What makes indices out of numbers: real work, though its results are whole.
_SEARCHES = frozenset({"ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "NonZero"})
# Constants of at most so many numbers may say what shape a result has.
_SHAPES_AND_SCALES = 256
_KEPT_ATTRIBUTES = ("kernel_shape", "strides", "group", "dilations", "axes", "axis", "mode", "perm")


@dataclass(frozen=True, slots=True)
class Executed:
    """A kernel as the runtime reports it.

    ``operators`` are the names of the model's nodes that it computes; a runtime that tells only the last one sets
    ``only_last``, and the others are found by walking the model. ``reader`` and ``feeder`` name neighbouring kernels,
    ``shape`` is that of the result and ``read`` that of the first input where the runtime tells them: needed of reorders and of
    parts of operators, which the model does not know.
    """

    name: str
    op: str
    operators: tuple[str, ...]
    only_last: bool = False
    reader: str = ""
    feeder: str = ""
    layout: str = ""
    implementation: str = ""
    shape: tuple[int, ...] = ()
    read: tuple[int, ...] = ()


class SourceGraph:
    """The exported model's operators, their order, sites and shapes. Raises :class:`DeviceError` if it cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            model = onnx.shape_inference.infer_shapes(_without_weights(onnx.load(str(path))), data_prop=True)
        except (OSError, ValueError, DecodeError, onnx.shape_inference.InferenceError) as error:
            raise DeviceError(f"cannot read the model {path}: {error}", "export it again") from error
        graph = model.graph
        self.nodes: dict[str, onnx.NodeProto] = {node.name: node for node in graph.node}
        self.order = {node.name: position for position, node in enumerate(graph.node)}
        self.producer: dict[str, str] = {tensor: node.name for node in graph.node for tensor in node.output if tensor}
        self.readers: dict[str, list[str]] = {}
        for node in graph.node:
            for tensor in node.input:
                if tensor in self.producer:
                    self.readers.setdefault(self.producer[tensor], []).append(node.name)
        self.shapes: dict[str, TensorSpec] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            # A tensor of unknown shape is left out: whoever needs it must notice.
            if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
                shape = tuple(int(axis.dim_value) for axis in kind.shape.dim)
                self.shapes[value.name] = TensorSpec(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
        for weights in graph.initializer:
            self.shapes[weights.name] = TensorSpec(tuple(weights.dims), onnx.helper.tensor_dtype_to_np_dtype(weights.data_type).name)
        self.weights = {weights.name for weights in graph.initializer}
        self._constants = set(self.weights)
        for node in graph.node:  # in order: what is computed from constants alone, a runtime computes once
            # What holds operators of its own, a branch or a loop, reads more than its inputs.
            plain = "Random" not in node.op_type and not any(attribute.HasField("g") for attribute in node.attribute)
            if plain and all(tensor in self._constants for tensor in node.input if tensor):
                self._constants.update(node.output)
        self.outputs = [value.name for value in graph.output]
        self.inputs = [value.name for value in graph.input if value.name not in self.weights]

    def find(self, name: str) -> str:
        """The node that ``name`` stands for, or an empty string.

        It may be the name of a node, of a tensor that one makes, or of a part of a node that a runtime took to pieces and
        named after it (OpenVINO's ``<node>/WithoutBiases``), or after the network's output that it makes (``<tensor>.0``).
        """
        if name in self.nodes or name in self.producer:
            return name if name in self.nodes else self.producer[name]
        output = re.sub(r"\.\d+$", "", name)
        if output in self.outputs:
            return self.producer.get(output, "")
        whole = name
        while "/" in whole:
            whole = whole.rpartition("/")[0]
            if whole in self.nodes:
                return whole
        return ""

    def is_parameter(self, tensor: str) -> bool:
        """Whether it is a trained weight, rather than a shape or an index that the graph needs."""
        return tensor in self.weights and self.shapes[tensor].dtype not in _BOOKKEEPING

    def is_constant(self, tensor: str) -> bool:
        """Whether it is a weight, or computed from weights alone."""
        return tensor in self._constants

    def macs(self, name: str) -> int | None:
        """Multiply-accumulates of one node; None where they cannot be known."""
        return count_macs(self.nodes[name], self.shapes)

    def example_inputs(self) -> dict[str, npt.NDArray[Any]]:
        """Fixed pseudo-random inputs by name: normal numbers, or zeros and ones where the type is whole or logical."""
        generator = np.random.default_rng(0)
        examples: dict[str, npt.NDArray[Any]] = {}
        for name in self.inputs:
            spec = self.shapes[name]
            floating = "float" in spec.dtype
            values = generator.standard_normal(spec.shape, dtype=np.float32) if floating else generator.integers(0, 2, spec.shape)
            examples[name] = np.asarray(values, dtype=np.dtype(spec.dtype))
        return examples

    def kernels(self, executed: Sequence[Executed], boundaries: Collection[str] = ()) -> tuple[Kernel, ...]:
        """The executed kernels with their operators, shapes and layer, in the given order.

        ``boundaries`` are tensors of the model known to pass from one kernel to another: fusion never crosses them.
        """
        operators = self._operators(executed, boundaries)
        sites: dict[str, str] = {}
        for kernel in executed:
            # An operator that two kernels compute parts of is counted with the first, and places them both.
            own = operators[kernel.name] or tuple(dict.fromkeys(filter(None, map(self.find, kernel.operators))))
            if own:
                sites[kernel.name] = self._anchor(own).split("/")[0]
        by_name = {kernel.name: kernel for kernel in executed}
        for kernel in executed:
            if kernel.name not in sites:
                sites[kernel.name] = self._neighbour_site(kernel, by_name, sites)
        kernels = {kernel.name: self._kernel(kernel, operators[kernel.name], sites[kernel.name]) for kernel in executed}
        for name, found in list(kernels.items()):
            if not found.fused_ops:
                moved = _moved(by_name[name], by_name, kernels)
                read = by_name[name].read
                kernels[name] = replace(found, inputs=(TensorSpec(read),) if read else moved, outputs=moved)
        return tuple(kernels.values())

    def _operators(self, executed: Sequence[Executed], boundaries: Collection[str]) -> dict[str, tuple[str, ...]]:
        claimed: dict[str, list[str]] = {kernel.name: [] for kernel in executed}
        owner: dict[str, str] = {}
        for kernel in executed:
            for name in dict.fromkeys(filter(None, map(self.find, kernel.operators))):
                # A view or transposition that a runtime puts beside an operator bears that operator's name, and does none of its work.
                beside = kernel.op in _MOVES and self.nodes[name].op_type not in _MOVES
                if name not in owner and not beside:
                    owner[name] = kernel.name
                    claimed[kernel.name].append(name)
        growing = dict.fromkeys(kernel.name for kernel in executed if kernel.only_last and claimed[kernel.name])
        for kernel_name in growing:
            self._walk_back(kernel_name, claimed, owner, boundaries)
        # What is left was fused into the kernel that made its first input (a residual addition, for one).
        for name in self.order:
            made = (self.producer[tensor] for tensor in self.nodes[name].input if tensor in self.producer)
            before = next((one for one in made if not self.is_bookkeeping(one)), "")
            if name not in owner and owner.get(before) in growing and not self.is_bookkeeping(name):
                owner[name] = owner[before]
                claimed[owner[before]].append(name)
        claim_normalisations(self, executed, owner, claimed)
        claim_unnamed(self, owner, claimed)
        return {name: tuple(sorted(nodes, key=self.order.__getitem__)) for name, nodes in claimed.items()}

    def _walk_back(self, kernel: str, claimed: dict[str, list[str]], owner: dict[str, str], boundaries: Collection[str]) -> None:
        pending = list(claimed[kernel])
        site = pending[0].split("/")[0]
        while pending:
            for tensor in self.nodes[pending.pop()].input:
                before = self.producer.get(tensor, "")
                # Where the runtime does not tell which tensors it keeps, fusion is taken to end at the layer's edge.
                inside = tensor not in boundaries if boundaries else before.split("/")[0] == site
                if before and before not in owner and inside and not self.is_bookkeeping(before):
                    owner[before] = kernel
                    claimed[kernel].append(before)
                    pending.append(before)

    def is_product(self, node: str) -> bool:
        """Whether a node is a convolution or matrix product."""
        return self.nodes[node].op_type in ANCHORS

    def is_bookkeeping(self, node: str) -> bool:
        """Whether a node only makes constants, shapes or indices, and computes nothing to get them."""
        if self.is_product(node) or self.nodes[node].op_type in _SEARCHES:
            return all(tensor in self._constants for tensor in self.nodes[node].output if tensor)
        return all(self._is_bookkeeping(tensor) for tensor in self.nodes[node].output if tensor)

    def _is_bookkeeping(self, tensor: str) -> bool:
        """Whether a tensor is a constant, a shape or an index, which runtimes compute once and fold away."""
        spec = self.shapes.get(tensor)
        return tensor in self._constants or (spec is not None and spec.dtype in _BOOKKEEPING)

    def _anchor(self, operators: Sequence[str]) -> str:
        return next(filter(self.is_product, operators), operators[0])

    @staticmethod
    def _neighbour_site(kernel: Executed, by_name: dict[str, Executed], sites: dict[str, str]) -> str:
        for direction in ("reader", "feeder"):
            seen, current = {kernel.name}, getattr(kernel, direction)
            while current in by_name and current not in seen:
                if current in sites:
                    return sites[current]
                seen.add(current)
                current = getattr(by_name[current], direction)
        raise DeviceError(
            f"kernel {kernel.name!r} ({kernel.op}) cannot be attributed to a layer of the network",
            "please report it with the model: its time would be lost",
        )

    def _kernel(self, kernel: Executed, operators: tuple[str, ...], site: str) -> Kernel:
        inside = set(operators)
        read = [tensor for name in operators for tensor in self.nodes[name].input if tensor and self.producer.get(tensor) not in inside]
        constant = [tensor for tensor in read if tensor in self._constants]
        made = [tensor for tensor in self.nodes[operators[-1]].output if tensor] if operators else []
        attributes = dict(_attributes(self.nodes[self._anchor(operators)])) if operators else {}
        branches = parallel_products(self, operators)
        if len(branches) > 1:
            attributes["group"] = sum(_group(self.nodes[name]) for name in branches)
        counts = [self.macs(name) for name in operators]
        return Kernel(
            name=kernel.name,
            op=kernel.op,
            site=site,
            fused_ops=_computing([self.nodes[name].op_type for name in operators]),
            inputs=self._specs(tensor for tensor in dict.fromkeys(read) if tensor not in constant),
            outputs=self._specs(made),
            weights=self._specs(dict.fromkeys(constant)),
            attributes=tuple(sorted(attributes.items())),
            layout=kernel.layout,
            implementation=kernel.implementation,
            macs=None if None in counts else sum(count for count in counts if count is not None),
        )

    def _specs(self, tensors: Iterable[str]) -> tuple[TensorSpec, ...]:
        """Shapes of all tensors; none at all if one is unknown, so that nobody takes the rest for the whole."""
        names = list(tensors)
        return tuple(self.shapes[name] for name in names) if all(name in self.shapes for name in names) else ()


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed in place: of large tensors only shape and type. A campaign holds hundreds of networks in memory."""
    for weights in model.graph.initializer:
        if prod(weights.dims) > _SHAPES_AND_SCALES:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data"):
                weights.ClearField(field)
    return model


def _computing(operators: list[str]) -> tuple[str, ...]:
    """The operators without views, unless there is nothing else."""
    return tuple([op for op in operators if op not in VIEWS] or operators)


def _moved(kernel: Executed, by_name: Mapping[str, Executed], kernels: Mapping[str, Kernel]) -> tuple[TensorSpec, ...]:
    """What a reorder reads and writes: as the runtime tells, else as the kernel before it writes, or the one behind it reads first."""
    if kernel.shape:
        return (TensorSpec(kernel.shape),)
    for direction, side in (("feeder", "outputs"), ("reader", "inputs")):
        seen, current = {kernel.name}, getattr(kernel, direction)
        while current in kernels and current not in seen:
            found: tuple[TensorSpec, ...] = getattr(kernels[current], side)
            if found:
                return found[:1]
            seen.add(current)
            current = getattr(by_name[current], direction)
    return ()


def _group(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _attributes(node: onnx.NodeProto) -> Iterable[tuple[str, AttributeValue]]:
    for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
        if attribute.name in _KEPT_ATTRIBUTES:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                yield attribute.name, value.decode()
            else:
                yield attribute.name, value if isinstance(value, int) else "x".join(map(str, value))
