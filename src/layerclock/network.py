"""The words for what is measured: tensors, layers, networks and kernels."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

__all__ = ["AttributeValue", "Kernel", "Layer", "Network", "PlacedLayer", "TensorSpec"]

AttributeValue = int | float | str | bool

_DTYPE_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16, "int4": 0.5, "uint4": 0.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and element type of a tensor. The first axis is the batch."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in bytes; raises ``KeyError`` for an element type of unknown width."""
        return ceil(self.elements * _DTYPE_BYTES[self.dtype])

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + ("" if self.dtype == "float32" else f":{self.dtype}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One source-level unit of a network: a stem, an inverted-bottleneck block, a classifier.

    ``macs`` (multiply-accumulates) and ``params`` (trained weights) are exact counts for batch 1: the batch at which a layer was timed
    belongs to the target. The shapes are those for ``batch``: 1, but for layers of a file, which cannot be had for another.
    ``weight_bytes`` is the size of the weights, None where each has four bytes.
    """

    op: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    attributes: tuple[tuple[str, AttributeValue], ...]
    macs: int
    params: int
    batch: int = 1
    weight_bytes: int | None = None

    @property
    def key(self) -> str:
        """Identity of the layer: the same text on every machine and in every run."""
        attributes = ",".join(f"{name}={_canonical(value)}" for name, value in sorted(self.attributes))
        shapes = [" ".join(map(str, specs)) for specs in (self.inputs, self.outputs)]
        return f"{self.op}({attributes}) {shapes[0]} -> {shapes[1]}"


def _canonical(value: AttributeValue) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class PlacedLayer:
    """A layer and the site of the network where it stands."""

    site: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the sequence of its layers, in order of execution."""

    name: str
    layers: tuple[PlacedLayer, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers together."""
        return sum(placed.layer.macs for placed in self.layers)

    @property
    def params(self) -> int:
        """Trained weights of all layers together."""
        return sum(placed.layer.params for placed in self.layers)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a runtime really executed: a primitive, often fused from several operators of the model.

    ``inputs`` are what it reads of other kernels' results, ``weights`` what it reads of the model's constants.
    ``macs`` are the multiply-accumulates of its operators at the batch that it ran with, None where they are not known.
    ``site`` names the layer that the kernel's time belongs to; see :mod:`layerclock.devices.attribution` for the rule.
    """

    name: str
    op: str
    site: str
    fused_ops: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    weights: tuple[TensorSpec, ...] = ()
    attributes: tuple[tuple[str, AttributeValue], ...] = ()
    layout: str = ""
    implementation: str = ""
    macs: int | None = None
