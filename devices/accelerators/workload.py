"""What an accelerator computes: convolution-like operators as nested loops, taken from kernels and from ONNX models.

A matrix product is a 1x1 convolution whose pixels are its rows; a product of a batch of matrices, as in attention, is a grouped
one whose weights are activations. Element-wise operators, pooling and normalisation multiply and accumulate nothing: they are no
loop nest, and the cost models of this package leave them out.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.attribution import ANCHORS, VIEWS, Executed, SourceGraph
from layerclock.errors import ArgumentError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from layerclock.network import AttributeValue, Kernel, TensorSpec

__all__ = ["LoopNest", "NestColumns", "PlacedNest", "kernel_nest", "model_kernels", "model_nests"]

IntArray = npt.NDArray[np.int64]

_CONVOLUTIONS = frozenset({"Conv", "QLinearConv", "ConvInteger"})
# What a convolution's own kernel computes besides: activations and normalisation work on its result as it passes.
_FUSED = frozenset({"Relu", "HardSwish", "HardSigmoid", "Clip", "Sigmoid", "Tanh", "BatchNormalization"})


@dataclass(frozen=True, slots=True)
class LoopNest:
    """One operator as loops over batch, output and input channels (of all groups), output pixels and filter taps.

    Raises :class:`ArgumentError` for sizes below one, and for channels that the groups do not divide.
    """

    batch: int
    out_channels: int
    in_channels: int
    out_y: int
    out_x: int
    filter_y: int
    filter_x: int
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1 or self.out_channels % self.groups or self.in_channels % self.groups:
            raise ArgumentError(f"{self} is no operator", "sizes are at least 1, and groups divide both numbers of channels")

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        pixels = self.batch * self.out_y * self.out_x
        return pixels * self.out_channels * (self.in_channels // self.groups) * self.filter_y * self.filter_x

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads one input channel only."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def key(self) -> str:
        """Identity of the shape: the same text on every machine."""
        return "n{}k{}c{}oy{}ox{}fy{}fx{}sy{}sx{}dy{}dx{}g{}".format(*astuple(self))


@dataclass(frozen=True, slots=True)
class PlacedNest:
    """A loop nest, the operator that it is, and the layer of the network that the operator belongs to."""

    site: str
    operator: str
    nest: LoopNest


class NestColumns:
    """Loop nests as columns, int64[L] each and named as in :class:`LoopNest`: what the vectorised models read."""

    names = tuple(field.name for field in fields(LoopNest))

    def __init__(self, table: IntArray) -> None:
        self.table = table
        columns = dict(zip(self.names, table.T, strict=True))
        self.batch = columns["batch"]
        self.out_channels, self.in_channels = columns["out_channels"], columns["in_channels"]
        self.out_y, self.out_x = columns["out_y"], columns["out_x"]
        self.filter_y, self.filter_x = columns["filter_y"], columns["filter_x"]
        self.stride_y, self.stride_x = columns["stride_y"], columns["stride_x"]
        self.dilation_y, self.dilation_x = columns["dilation_y"], columns["dilation_x"]
        self.groups = columns["groups"]
        self.depthwise = (self.groups > 1) & (self.groups == self.in_channels)
        taps = self.filter_y * self.filter_x
        self.macs: IntArray = self.batch * self.out_y * self.out_x * self.out_channels * (self.in_channels // self.groups) * taps

    @classmethod
    def of(cls, nests: Sequence[LoopNest]) -> NestColumns:
        """The columns of L loop nests, in order."""
        return cls(np.array([astuple(nest) for nest in nests], dtype=np.int64).reshape(len(nests), len(cls.names)))

    def __len__(self) -> int:
        return len(self.table)


def kernel_nest(kernel: Kernel) -> LoopNest | None:
    """The loop nest of an executed kernel; None if it multiplies and accumulates nothing.

    Raises :class:`DeviceError` if it does so in a way that is no single convolution or matrix product, or of unknown shape.
    """
    anchors = [op for op in kernel.fused_ops if op in ANCHORS]
    if not anchors and kernel.macs == 0:
        return None
    supported = len(anchors) == 1 and anchors[0] != "ConvTranspose" and kernel.macs is not None and bool(kernel.outputs)
    if not supported:
        raise DeviceError(
            f"kernel {kernel.name!r} ({'+'.join(kernel.fused_ops)}) is no convolution or matrix product of known shape",
            "the cost models of accelerators know Conv, Gemm and MatMul with fixed shapes",
        )
    nest = _convolution(kernel) if anchors[0] in _CONVOLUTIONS else _product(kernel)
    if nest.macs != kernel.macs:
        raise DeviceError(f"kernel {kernel.name!r} has {kernel.macs} multiply-accumulates, its loops {nest.macs}", "please report it")
    return nest


def _convolution(kernel: Kernel) -> LoopNest:
    attributes = dict(kernel.attributes)
    weights = next((spec.shape for spec in (*kernel.weights, *kernel.inputs[1:]) if len(spec.shape) >= 3), ())
    output = kernel.outputs[0].shape
    if not 3 <= len(weights) <= 4 or len(output) != len(weights):
        raise DeviceError(f"kernel {kernel.name!r} is a convolution over {len(weights) - 2} axes", "the cost models know one and two")
    groups = int(attributes.get("group", 1))
    filters, pixels = _two(weights[2:]), _two(output[2:])
    strides, dilations = (_two(_sizes(attributes.get(name, 1))) for name in ("strides", "dilations"))
    return LoopNest(output[0], weights[0], weights[1] * groups, *pixels, *filters, *strides, *dilations, groups)


def _product(kernel: Kernel) -> LoopNest:
    output, macs = kernel.outputs[0], kernel.macs or 0
    columns = output.shape[-1]
    depth = macs // output.elements
    matrices = prod(_right(kernel, depth, columns)[:-2])
    rows = output.elements // (columns * matrices)
    return LoopNest(1, matrices * columns, matrices * depth, 1, rows, 1, 1, groups=matrices)


def _right(kernel: Kernel, depth: int, columns: int) -> tuple[int, ...]:
    """Shape of the right-hand matrix, or of a batch of them: what stands still while rows pass."""
    operands: Iterable[TensorSpec] = (*kernel.weights, *reversed(kernel.inputs))
    shapes = [spec.shape for spec in operands if len(spec.shape) >= 2 and set(spec.shape[-2:]) == {depth, columns}]
    return shapes[0] if shapes else (depth, columns)


def _sizes(value: AttributeValue) -> tuple[int, ...]:
    return tuple(int(part) for part in str(value).split("x"))


def _two(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Sizes along y and x; a single axis is x."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def model_kernels(source: SourceGraph) -> tuple[Kernel, ...]:
    """The kernels of a model on an accelerator: each convolution or product with the activations right behind it, other operators alone.

    What only makes constants, shapes or indices is no kernel, and neither is a view, unless its layer would have none.
    """
    fused: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for name, node in source.nodes.items():
        if source.is_bookkeeping(name):
            continue
        before = source.producer.get(node.input[0], "") if node.input else ""
        alone = source.readers.get(before, []) == [name] and before.split("/")[0] == name.split("/")[0]
        if node.op_type in _FUSED and alone and before in owner:
            owner[name] = owner[before]
            fused[owner[before]].append(name)
        else:
            owner[name] = name
            fused[name] = [name]
    working = {name.split("/")[0] for name in fused if source.nodes[name].op_type not in VIEWS}
    executed = [
        Executed(name, source.nodes[name].op_type, tuple(operators))
        for name, operators in fused.items()
        if source.nodes[name].op_type not in VIEWS or name.split("/")[0] not in working
    ]
    return source.kernels(executed)


def model_nests(path: Path) -> tuple[PlacedNest, ...]:
    """The loop nests of an ONNX model whose node names begin with ``<site>/``, in order of execution.

    Raises :class:`DeviceError` if it cannot be read, or multiplies and accumulates in a way that is no loop nest.
    """
    found = ((kernel, kernel_nest(kernel)) for kernel in model_kernels(SourceGraph(path)))
    return tuple(PlacedNest(kernel.site, kernel.name, nest) for kernel, nest in found if nest is not None)
