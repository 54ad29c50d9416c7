"""Multiply-accumulates of ONNX operators: one small function each, all of one signature.

A multiply-accumulate is a product added to a sum, as in a convolution or a matrix product; biases, activations, pooling
and normalisation count none (as in once-for-all's and torchvision's figures). A floating-point operation is half of one.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from layerclock.network import TensorSpec

    Count = Callable[[onnx.NodeProto, Mapping[str, TensorSpec]], int]

__all__ = ["macs"]

# Operators that multiply and accumulate, but whose count is not known here: what holds them has no count, either.
_UNCOUNTED = frozenset({"Einsum", "LSTM", "GRU", "RNN", "Attention", "DeformConv", "If", "Loop", "Scan"})


def macs(node: onnx.NodeProto, shapes: Mapping[str, TensorSpec]) -> int | None:
    """Multiply-accumulates of one operator; None where they cannot be known (a shape is missing, an operator unknown)."""
    if node.op_type in _UNCOUNTED or node.domain not in ("", "ai.onnx", "com.microsoft.nchwc"):
        return None
    if node.op_type not in _COUNTS:
        return 0
    try:
        return _COUNTS[node.op_type](node, shapes)
    except KeyError:
        return None


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, TensorSpec]) -> int:
    weights = shapes[node.input[_WEIGHTS[node.op_type]]].shape
    return shapes[node.output[0]].elements * prod(weights[1:])


def _transposed(node: onnx.NodeProto, shapes: Mapping[str, TensorSpec]) -> int:
    return shapes[node.input[0]].elements * prod(shapes[node.input[1]].shape[1:])


def _product(node: onnx.NodeProto, shapes: Mapping[str, TensorSpec]) -> int:
    return shapes[node.output[0]].elements * shapes[node.input[0]].shape[-1]


def _gemm(node: onnx.NodeProto, shapes: Mapping[str, TensorSpec]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.output[0]].elements * shapes[node.input[0]].shape[0 if transposed else -1]


_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_COUNTS: dict[str, Count] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
}
