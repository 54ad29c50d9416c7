"""What a regressor sees of a kernel: its family, and numbers about its work, its shapes and its place on the machine. Needs numpy.

Sizes enter as logarithms. ``roofline`` is the time that the kernel would take if only its arithmetic, its traffic and a fixed
launch cost counted (Williams, Waterman and Patterson 2009, *Roofline*): regressors predict the logarithm of how far the kernel
is from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log, prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.network import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from layerclock.network import Kernel

__all__ = ["FAMILIES", "FEATURES_VERSION", "Roofline", "Vocabulary", "describe", "family", "weight_bytes", "work"]

FloatArray = npt.NDArray[np.float64]

# Raise it when features change: what older files were fitted to, they are asked with. The second brought the weights of the whole
# network, the third how well blocks of several vectors are filled.
FEATURES_VERSION = 3
# A kernel is of the first family that claims one of its operators.
_CLAIMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("attention", frozenset({"Attention", "MultiHeadAttention"})),
    ("convolution", frozenset({"Conv", "ConvInteger", "QLinearConv"})),
    ("deconvolution", frozenset({"ConvTranspose"})),
    ("product", frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum"})),
    (
        "normalisation",
        frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LpNormalization"}),
    ),
    ("softmax", frozenset({"Softmax", "LogSoftmax"})),
    ("resize", frozenset({"Resize", "Upsample", "GridSample"})),
    ("pool", frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"})),
    ("reduction", frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ArgMax", "TopK", "CumSum"})),
    (
        "elementwise",
        frozenset({
            "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Abs", "Neg", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu",
            "Sigmoid", "HardSigmoid", "HardSwish", "Mish", "Softplus", "Softsign", "Tanh", "Erf", "Clip", "Min", "Max", "Where", "Cast",
            "Sin", "Cos", "Equal", "Greater", "Less", "Not", "Reciprocal", "Floor", "Round", "Sign", "Sum", "Mean",
        }),
    ),
)  # fmt: skip
# Channels that a matrix product computes at once: two to four vectors of 16.
_BLOCKS = (32, 48, 64)
# Bytes of a number whose type is not known.
_USUAL_WIDTH = 4
# What only moves numbers; reorders, which the model does not know, among it.
_MOVING = "movement"
# A runtime may give such a kernel the name of the operator that it moves numbers for.
_MOVING_KINDS = frozenset({"Transpose", "Reorder", "ReorderInput", "ReorderOutput"})
# What a runtime took an operator of the model to pieces into has no name of its own, and is known by the runtime's kind.
_FAMILIES_OF_KINDS = {
    "Reduce": "reduction", "TopK": "reduction", "MVN": "normalisation", "RMS": "normalisation", "Subgraph": "elementwise",
    "Eltwise": "elementwise", "Gelu": "elementwise", "HardSigmoid": "elementwise", "Mul": "elementwise",
}  # fmt: skip
# Families whose bias is added on the way.
_WITH_BIAS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
# Of convolutions, three kinds behave differently enough to be families of their own.
FAMILIES = (
    *(name for name, _ in _CLAIMS if name != "convolution"),
    "pointwise convolution", "dense convolution", "grouped convolution", "depthwise convolution", _MOVING,
)  # fmt: skip


def family(kernel: Kernel) -> str:
    """Which of :data:`FAMILIES` a kernel belongs to."""
    operators = set(kernel.fused_ops)
    if kernel.op in _MOVING_KINDS:
        return _MOVING
    for name, claimed in _CLAIMS:
        if operators & claimed:
            return _kind_of_convolution(kernel) if name == "convolution" else name
    return _MOVING if operators else _FAMILIES_OF_KINDS.get(kernel.op, _MOVING)


def _kind_of_convolution(kernel: Kernel) -> str:
    shape = _Shapes.of(kernel)
    if shape.groups > 1:
        return "depthwise convolution" if shape.groups >= shape.channels_in else "grouped convolution"
    return "pointwise convolution" if shape.kernel == (1, 1) else "dense convolution"


@dataclass(frozen=True, slots=True)
class _Shapes:
    """A kernel's sizes as those of a convolution or matrix product, whichever it is; ones where it is neither."""

    channels_in: int
    channels_out: int
    rows_in: int
    columns_in: int
    rows_out: int
    columns_out: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, kernel: Kernel) -> _Shapes:
        read = max((spec.shape for spec in kernel.inputs), key=prod, default=())
        made = kernel.outputs[0].shape if kernel.outputs else ()
        attributes = dict(kernel.attributes)
        first = kernel.inputs[0].shape if kernel.inputs else read
        on_map = any("Conv" in op or "Pool" in op for op in kernel.fused_ops)
        planes = [_plane(shape, on_map) for shape in (first if len(first) == len(made) else read, made)]
        weights = max((spec.shape for spec in kernel.weights), key=prod, default=())
        window = _pair(attributes.get("kernel_shape"), tuple(weights[2:4]) if on_map and len(weights) >= 4 else (1, 1))
        return cls(
            *(planes[0][0], planes[1][0], *planes[0][1:], *planes[1][1:]),
            kernel=window,
            strides=_pair(attributes.get("strides"), (1, 1)),
            dilations=_pair(attributes.get("dilations"), (1, 1)),
            groups=int(attributes.get("group", 1)),
        )


def _plane(shape: Sequence[int], on_map: bool) -> tuple[int, int, int]:
    """Channels, rows and columns: of a map [N, C, ..., W], or of a matrix [..., rows, channels]."""
    if len(shape) >= 4 or (on_map and len(shape) == 3):
        return shape[1], prod(shape[2:-1]), shape[-1]
    return (shape[-1], prod(shape[:-1]), 1) if shape else (1, 1, 1)


def _pair(written: object, otherwise: tuple[int, ...]) -> tuple[int, int]:
    values = tuple(map(int, written.split("x"))) if isinstance(written, str) else otherwise
    return (values[0], values[-1]) if values else (1, 1)


@dataclass(frozen=True, slots=True)
class Roofline:
    """The device as fitted: best arithmetic (MAC/us) and traffic (bytes/us) that any kernel reached, and the shortest kernel (us)."""

    macs_per_us: float
    bytes_per_us: float
    launch_us: float

    def time_us(self, macs: FloatArray, moved: FloatArray) -> FloatArray:
        """Roofline time of kernels, float64[K]."""
        time: FloatArray = self.launch_us + np.maximum(macs / self.macs_per_us, moved / self.bytes_per_us)
        return time


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of one device's kernels: operators, the runtime's own kinds and implementations, layouts, element types, and how
    many kernels of each family were seen. What is not among them is unknown to the predictor.
    """

    operators: tuple[str, ...]
    kinds: tuple[str, ...]
    implementations: tuple[str, ...]
    layouts: tuple[str, ...]
    dtypes: tuple[str, ...]
    families: Mapping[str, int]

    @classmethod
    def of(cls, kernels: Sequence[Kernel]) -> Vocabulary:
        """The words of these kernels."""
        return cls(
            operators=_words(op for kernel in kernels for op in set(kernel.fused_ops)),
            kinds=_words(kernel.op for kernel in kernels),
            implementations=_words(kernel.implementation for kernel in kernels),
            layouts=_words(kernel.layout for kernel in kernels),
            dtypes=_words(spec.dtype for kernel in kernels for spec in kernel.outputs[:1]),
            families=dict(Counter(map(family, kernels))),
        )

    def knows(self, kernel: Kernel) -> bool:
        """Whether kernels of this family, kind, implementation and type, and all its operators, were seen, and its sizes are told."""
        told = bool(kernel.outputs) and bool(kernel.inputs or kernel.weights) and kernel.macs is not None
        return told and (
            self.families.get(family(kernel), 0) > 0
            and kernel.op in self.kinds
            and kernel.implementation in self.implementations
            and set(kernel.fused_ops) <= set(self.operators)
            and kernel.outputs[0].dtype in self.dtypes
        )


def _words(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found)))


def describe(
    kernels: Sequence[Kernel],
    words: Vocabulary,
    roofline: Roofline,
    caches: Sequence[float],
    network_bytes: FloatArray,
    version: int = FEATURES_VERSION,
) -> FloatArray:
    """Features float64[K, F]; the last column is the logarithm of the roofline time in us.

    ``caches`` are the sizes of the machine's caches in bytes, the smallest first. ``network_bytes`` float64[K] are those of all
    weights of the network in which each kernel runs: where they exceed the last cache, each kernel finds its own gone from there.
    ``version`` up to :data:`FEATURES_VERSION` leaves out what came later.
    """
    rows = [_numbers(kernel, words, caches, _BLOCKS if version >= 3 else ()) for kernel in kernels]
    sizes = np.array([_work(kernel) for kernel in kernels]).reshape(-1, 2)
    numbers = np.array(rows, dtype=np.float64).reshape(len(kernels), -1)
    around = [np.log1p(network_bytes)] if version >= 2 else []
    return np.column_stack([numbers, *around, np.log(roofline.time_us(sizes[:, 0], sizes[:, 1]))])


def weight_bytes(kernels: Sequence[Kernel]) -> FloatArray:
    """Bytes of weights that each kernel reads, float64[K]."""
    return np.array([_bytes(kernel)[1] for kernel in kernels], dtype=np.float64)


def work(kernels: Sequence[Kernel]) -> tuple[FloatArray, FloatArray]:
    """Multiply-accumulates and bytes of each kernel."""
    sizes = np.array([_work(kernel) for kernel in kernels], dtype=np.float64).reshape(-1, 2)
    return sizes[:, 0], sizes[:, 1]


def _work(kernel: Kernel) -> tuple[float, float]:
    return _macs(kernel), float(sum(_bytes(kernel)))


def _macs(kernel: Kernel) -> float:
    """Multiply-accumulates; what only moves numbers has none, whatever operator it is named after."""
    return 0.0 if kernel.op in _MOVING_KINDS else float(kernel.macs or 0)


def _bytes(kernel: Kernel) -> tuple[int, int, int]:
    """Read, constant and written, all tensors taken to be of the result's type: a table's row tells no other."""
    try:
        width = TensorSpec((1,), kernel.outputs[0].dtype).bytes if kernel.outputs else _USUAL_WIDTH
    except KeyError:
        width = _USUAL_WIDTH
    read, weights, made = (width * sum(spec.elements for spec in specs) for specs in (kernel.inputs, kernel.weights, kernel.outputs))
    # Of a table, only what is looked up is read.
    return read, min(weights, made) if kernel.fused_ops == ("Gather",) else weights, made


def _log(value: float) -> float:
    return log(1 + value)


def _numbers(kernel: Kernel, words: Vocabulary, caches: Sequence[float], blocks: Sequence[int]) -> list[float]:
    shape = _Shapes.of(kernel)
    read, weights, made = _bytes(kernel)
    macs, moved = _macs(kernel), read + weights + made
    counts = _without_bias(kernel)
    per_group_in, per_group_out = shape.channels_in / shape.groups, shape.channels_out / shape.groups
    all_channels = (shape.channels_in, shape.channels_out, per_group_in, per_group_out)
    permutation = dict(kernel.attributes).get("perm", "")
    numbers = [
        _log(macs), _log(read), _log(weights), _log(made), _log(moved), _log(macs / max(1, moved)), _log(macs / max(1, made)),
        _log(shape.channels_in), _log(shape.channels_out), _log(shape.rows_in), _log(shape.columns_in), _log(shape.rows_out),
        _log(shape.columns_out), _log(shape.rows_out * shape.columns_out), _log(per_group_in), _log(per_group_out), _log(shape.groups),
        shape.kernel[0], shape.kernel[1], shape.strides[0], shape.strides[1], shape.dilations[0],
        # How well vectors of 8 and 16 and rows of the plane are filled.
        *(_filled(channels, vector) for channels in all_channels for vector in (8, 16)),
        shape.columns_out % 8, shape.channels_out % 8 == 0, shape.channels_in % 4 == 0,
        # The working set and its parts against each cache.
        *(_log(size) - _log(cache) for cache in caches for size in (moved, weights)),
        sum(counts.values()), len(kernel.inputs), max((len(spec.shape) for spec in kernel.inputs), default=0),
        _last_axis_stays(permutation), len(str(permutation)), _swish(counts), _gelu(counts),
        sum(len(spec.shape) > 1 for spec in kernel.weights),
        read / max(1, made),
    ]  # fmt: skip
    numbers += [float(counts[op]) for op in words.operators]
    numbers += [float(kernel.op == kind) for kind in words.kinds]
    numbers += [float(kernel.implementation == one) for one in words.implementations]
    numbers += [float(kernel.layout == layout) for layout in words.layouts]
    numbers += [_filled(channels, block) for channels in all_channels for block in blocks]
    return [float(number) for number in numbers]


def _without_bias(kernel: Kernel) -> Counter[str]:
    """How often each operator occurs, but for the addition of a bias: runtimes fuse it at no cost, and name it or not."""
    counts = Counter(kernel.fused_ops)
    if _WITH_BIAS & counts.keys() and counts["Add"]:
        counts["Add"] = max(0, counts["Add"] - sum(len(spec.shape) == 1 for spec in kernel.weights))
    return counts


def _filled(channels: float, vector: int) -> float:
    whole = -(-channels // vector) * vector
    return channels / whole if whole else 1.0


def _last_axis_stays(permutation: object) -> float:
    axes = str(permutation).split("x")
    return float(axes[-1] == str(len(axes) - 1))


def _swish(counts: Mapping[str, int]) -> float:
    return float(bool(counts.get("Sigmoid") and counts.get("Mul")))


def _gelu(counts: Mapping[str, int]) -> float:
    return float(bool(counts.get("Erf") or counts.get("Gelu")))
