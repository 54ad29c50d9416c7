"""An ONNX graph while it is being drawn; convolutions, and activations in the forms in which exporters write them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Attribute", "Draft", "Tensor", "activation", "conv", "gelu", "residual", "swish"]

Attribute = int | float | str | list[int]

# What torch's exporters write by default, and every runtime reads.
_OPSET, _IR_VERSION = 17, 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the draft: its name and shape."""

    name: str
    shape: tuple[int, ...]


class Draft:
    """An ONNX graph while it is being drawn. Every node's name begins with the one layer that a composite is.

    ``unit`` is what its numbers of channels are multiples of, as far as they are not smaller; ``narrowest`` is the fewest of them from
    now on, where so many are allowed.
    """

    def __init__(self, generator: np.random.Generator, layer: str, unit: int = 8) -> None:
        self.generator = generator
        self.narrowest = 1
        self._unit = unit
        self._layer = layer
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.params = 0
        self.macs = 0

    def add(self, op: str, inputs: Sequence[Tensor | str], shape: Sequence[int], outputs: int = 1, **attributes: Attribute) -> Tensor:
        """One operator, whose result (the first, if ``outputs`` are several) has this shape; ``attributes`` are ONNX's own."""
        number = len(self.nodes)
        names = [f"t{number}" if position == 0 else f"t{number}.{position}" for position in range(outputs)]
        given = [one if isinstance(one, str) else one.name for one in inputs]
        node = helper.make_node(op, given, names, name=f"{self._layer}/{op}_{number}")
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return Tensor(names[0], tuple(shape))

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """A random constant whose product with the input keeps the input's size."""
        scale = (2.0 / max(1, prod(shape[1:]))) ** 0.5 if scale is None else scale
        return self.constant(self.generator.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def constant(self, values: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
        """A given constant: whole numbers, or float32."""
        array = np.asarray(values, dtype=None if isinstance(values, np.ndarray) else np.int64)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        self.params += array.size
        return name

    def scalar(self, value: float) -> str:
        """A constant of no axes."""
        return self.constant(np.array(value, dtype=np.float32))

    def pick(self, *choices: int) -> int:
        """One of the choices."""
        return int(self.generator.choice(choices))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.generator.random() < probability)

    def width(self, low: int = 8, high: int = 512) -> int:
        """A number of channels, even on a logarithmic scale, in whole units or, below one, in whole powers of two."""
        low = min(max(low, self.narrowest), high)
        width = float(np.exp(self.generator.uniform(np.log(low), np.log(high))))
        unit = min(self._unit, 1 << int(np.log2(width)))
        return max(low, round(width / unit) * unit)

    def model(self, given: Tensor, result: Tensor) -> onnx.ModelProto:
        """The whole, checked."""
        values = [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, list(one.shape)) for one in (given, result)]
        graph = helper.make_graph(self.nodes, "composite", values[:1], values[1:], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model


def swish(draft: Draft, x: Tensor) -> Tensor:
    """``x * sigmoid(x)``."""
    return draft.add("Mul", [x, draft.add("Sigmoid", [x], x.shape)], x.shape)


def _hard_swish(draft: Draft, x: Tensor) -> Tensor:
    form = draft.pick(0, 0, 1, 2)
    if form == 0:
        return draft.add("HardSwish", [x], x.shape)
    if form == 1:
        clipped = _relu6(draft, draft.add("Add", [x, draft.scalar(3.0)], x.shape))
        return draft.add("Mul", [x, draft.add("Div", [clipped, draft.scalar(6.0)], x.shape)], x.shape)
    return draft.add("Mul", [x, draft.add("HardSigmoid", [x], x.shape, alpha=1 / 6, beta=0.5)], x.shape)


def gelu(draft: Draft, x: Tensor) -> Tensor:
    """The Gaussian error linear unit, by the error function."""
    scaled = draft.add("Div", [x, draft.scalar(2**0.5)], x.shape)
    shifted = draft.add("Add", [draft.add("Erf", [scaled], x.shape), draft.scalar(1.0)], x.shape)
    return draft.add("Mul", [draft.add("Mul", [x, shifted], x.shape), draft.scalar(0.5)], x.shape)


def _relu6(draft: Draft, x: Tensor) -> Tensor:
    return draft.add("Clip", [x, draft.scalar(0.0), draft.scalar(6.0)], x.shape)


def _mish(draft: Draft, x: Tensor) -> Tensor:
    return draft.add("Mul", [x, draft.add("Tanh", [draft.add("Softplus", [x], x.shape)], x.shape)], x.shape)


def _plain(op: str, **attributes: float) -> Callable[[Draft, Tensor], Tensor]:
    def apply(draft: Draft, x: Tensor) -> Tensor:
        given: dict[str, Attribute] = dict(attributes)
        return draft.add(op, [x], x.shape, 1, **given)

    return apply


_ACTIVATIONS: tuple[tuple[float, Callable[[Draft, Tensor], Tensor]], ...] = (
    (0.28, _plain("Relu")),
    (0.18, lambda _, x: x),
    (0.16, swish),
    (0.1, _relu6),
    (0.1, _hard_swish),
    (0.06, gelu),
    (0.04, _plain("Sigmoid")),
    (0.03, _plain("LeakyRelu", alpha=0.1)),
    (0.02, _plain("HardSigmoid", alpha=1 / 6, beta=0.5)),
    (0.02, _mish),
    (0.01, _plain("Elu")),
)


def activation(draft: Draft, x: Tensor) -> Tensor:
    """One activation, as often as networks use it; at times none."""
    shares = np.array([share for share, _ in _ACTIVATIONS])
    return _ACTIVATIONS[int(draft.generator.choice(len(shares), p=shares / shares.sum()))][1](draft, x)


def conv(
    draft: Draft,
    x: Tensor,
    out: int,
    size: tuple[int, int] = (1, 1),
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = True,
) -> Tensor:
    """A convolution to ``out`` channels, padded so that only the stride makes the map smaller."""
    channels, height, width = x.shape[1:]
    pads = [dilation * (side - 1) // 2 for side in size]
    reach = [length + 2 * pad - dilation * (side - 1) - 1 for length, pad, side in zip((height, width), pads, size, strict=True)]
    sides = [one // stride + 1 for one in reach]
    inputs: list[Tensor | str] = [x, draft.weight(out, channels // groups, *size)]
    if bias:
        inputs.append(draft.weight(out, scale=0.1))
    draft.macs += out * prod(sides) * channels // groups * prod(size)
    return draft.add(
        "Conv",
        inputs,
        (1, out, *sides),
        kernel_shape=list(size),
        pads=pads * 2,
        strides=[stride] * 2,
        group=groups,
        dilations=[dilation] * 2,
    )


def residual(draft: Draft, before: Tensor, after: Tensor) -> Tensor:
    """``after``, with ``before`` added at times where their shapes are equal."""
    return draft.add("Add", [after, before], after.shape) if before.shape == after.shape and draft.chance(0.6) else after
