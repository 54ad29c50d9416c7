"""The blocks of composite networks: what the runtimes' kernels are met in, one small function each, all of one signature.

Each takes a draft and a feature map [1, C, H, W] and returns the feature map behind it. Widths, kernel sizes, strides and
activations are drawn at random, from what published networks use and from around it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from layerclock.profiler.drafting import Attribute, Draft, Tensor, activation, conv, residual, swish
from layerclock.profiler.token_blocks import channels_last, sequence, transformer, windows

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BLOCKS", "classifier", "heavy_head", "stem"]


# Published networks widen their last map where it is small.
_MOST_PLACES_OF_WIDE_HEAD = 14 * 14

# Convolutions ----------------------------------------------------------------------------------------------------------


def _stride(draft: Draft, x: Tensor) -> int:
    return 2 if min(x.shape[2:]) >= 14 and draft.chance(0.3) else 1


def _dense(draft: Draft, x: Tensor) -> Tensor:
    sizes = [(3, 3)] * 6 + [(5, 5), (7, 7), (1, 3), (3, 1), (1, 7), (7, 1), (2, 2)]
    size = sizes[draft.pick(*range(len(sizes)))] if min(x.shape[2:]) >= 4 else (3, 3)
    dilation = 2 if size == (3, 3) and draft.chance(0.1) else 1
    out = x.shape[1] if draft.chance(0.4) else draft.width(high=max(16, min(512, 3_000_000 // (x.shape[1] * prod(size)))))
    y = conv(draft, x, out, size, _stride(draft, x), dilation=dilation, bias=draft.chance(0.9))
    return activation(draft, residual(draft, x, y))


def _pointwise(draft: Draft, x: Tensor) -> Tensor:
    y = activation(draft, conv(draft, x, draft.width(high=1024), stride=2 if draft.chance(0.1) and min(x.shape[2:]) >= 14 else 1))
    if y.shape[2:] == x.shape[2:] and draft.chance(0.6):
        return activation(draft, residual(draft, x, conv(draft, y, x.shape[1])))
    return y


def _depthwise(draft: Draft, x: Tensor) -> Tensor:
    y = x
    if draft.chance(0.7):
        y = activation(draft, conv(draft, x, min(960, x.shape[1] * draft.pick(1, 2, 3, 4, 6))))
    size = draft.pick(3, 3, 3, 5, 5, 7)
    y = conv(draft, y, y.shape[1], (size, size), _stride(draft, y), groups=y.shape[1])
    y = activation(draft, y)
    if draft.chance(0.3):
        y = _excite(draft, y)
    out = x.shape[1] if draft.chance(0.5) else draft.width(high=320)
    return residual(draft, x, conv(draft, y, out))


def _grouped(draft: Draft, x: Tensor) -> Tensor:
    per_group = draft.pick(2, 3, 4, 8, 8, 16, 16, 24, 32, 40, 48, 64)
    groups = draft.pick(2, 3, 4, 8, 16, 32)
    channels = min(per_group * groups, 768 // per_group * per_group)
    y = activation(draft, conv(draft, x, channels))
    if draft.chance(0.25):
        y = _in_parts(draft, y)
    else:
        size = draft.pick(1, 3, 3, 3, 5)
        y = conv(draft, y, channels, (size, size), _stride(draft, y), groups=max(1, channels // per_group))
    y = activation(draft, y)
    return residual(draft, x, conv(draft, y, x.shape[1]))


def _in_parts(draft: Draft, x: Tensor) -> Tensor:
    """A convolution of its own for each part of the channels, depthwise ones of growing size at times (MixNet)."""
    channels, height, width = x.shape[1:]
    number = draft.pick(2, 2, 3, 4)
    sizes = [channels // number] * (number - 1)
    sizes.append(channels - sum(sizes))
    first = draft.add("Split", [x, draft.constant(sizes)], (1, sizes[0], height, width), outputs=number, axis=1)
    parts = [first, *(Tensor(f"{first.name}.{place}", (1, size, height, width)) for place, size in enumerate(sizes) if place)]
    if draft.chance(0.5):
        parts = [conv(draft, part, part.shape[1], (3 + 2 * place,) * 2, groups=part.shape[1]) for place, part in enumerate(parts)]
    else:
        parts = [conv(draft, part, part.shape[1], bias=False) for part in parts]
    y = _concatenated(draft, parts)
    return _normalise_batch(draft, y) if draft.chance(0.7) else y


def _excite(draft: Draft, x: Tensor) -> Tensor:
    channels, pooled = x.shape[1], (1, x.shape[1], 1, 1)
    squeezed = max(4, channels // draft.pick(4, 4, 8, 16, 24))
    if draft.chance(0.5):
        y = draft.add("GlobalAveragePool", [x], pooled)
    else:
        y = draft.add("ReduceMean", [x], pooled, axes=[2, 3], keepdims=1)
    y = conv(draft, y, squeezed)
    y = swish(draft, y) if draft.chance(0.5) else draft.add("Relu", [y], y.shape)
    y = conv(draft, y, channels)
    gate = draft.add("Sigmoid", [y], pooled) if draft.chance(0.6) else draft.add("HardSigmoid", [y], pooled, alpha=1 / 6, beta=0.5)
    return draft.add("Mul", [x, gate], x.shape)


def _pre_activation(draft: Draft, x: Tensor) -> Tensor:
    y = draft.add("Relu", [_normalise_batch(draft, x)], x.shape)
    y = conv(draft, y, draft.pick(64, 96, 128, 192), bias=False)
    y = draft.add("Relu", [_normalise_batch(draft, y)], y.shape)
    y = conv(draft, y, draft.pick(12, 24, 32, 48), (3, 3), bias=False)
    return _concatenated(draft, [x, y])


def _normalise_batch(draft: Draft, x: Tensor) -> Tensor:
    channels = x.shape[1]
    ones = np.ones(channels, dtype=np.float32)
    parts = [draft.constant(ones * np.float32(value)) for value in (1.1, 0.1, 0.05, 0.9)]
    return draft.add("BatchNormalization", [x, *parts], x.shape)


# Moving and joining ----------------------------------------------------------------------------------------------------


def _concatenated(draft: Draft, parts: list[Tensor]) -> Tensor:
    channels = sum(part.shape[1] for part in parts)
    return draft.add("Concat", parts, (1, channels, *parts[0].shape[2:]), axis=1)


def _branches(draft: Draft, x: Tensor) -> Tensor:
    parts = [x] if draft.chance(0.3) else []
    for _ in range(draft.pick(2, 2, 3, 4)):
        y = activation(draft, conv(draft, x, draft.width(high=160)))
        if draft.chance(0.6):
            size = draft.pick(3, 3, 5)
            y = activation(draft, conv(draft, y, draft.width(high=192), (size, size)))
        parts.append(y)
    if draft.chance(0.3):
        op = "MaxPool" if draft.chance(0.5) else "AveragePool"
        pooled = draft.add(op, [x], x.shape, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
        parts.append(activation(draft, conv(draft, pooled, draft.width(high=96))))
    return _concatenated(draft, parts)


def _shuffle(draft: Draft, x: Tensor) -> Tensor:
    channels, height, width = x.shape[1:]
    half = max(8, channels // 2)
    if channels % 2 or channels < 2 * half or draft.chance(0.3):
        x = activation(draft, conv(draft, x, 2 * half))
    left = draft.add("Split", [x, draft.constant([half, x.shape[1] - half])], (1, half, height, width), outputs=2, axis=1)
    right = Tensor(f"{left.name}.1", (1, x.shape[1] - half, height, width))
    y = activation(draft, conv(draft, right, half))
    y = conv(draft, y, half, (3, 3), groups=half)
    y = activation(draft, conv(draft, y, half))
    joined = _concatenated(draft, [left, y])
    total = joined.shape[1]
    groups = draft.pick(2, 2, 4) if total % 4 == 0 else 2
    apart = (1, groups, total // groups, height, width)
    split = draft.add("Reshape", [joined, draft.constant(list(apart))], apart)
    turned = draft.add("Transpose", [split], (1, total // groups, groups, height, width), perm=[0, 2, 1, 3, 4])
    return draft.add("Reshape", [turned, draft.constant([1, total, height, width])], joined.shape)


def _pool(draft: Draft, x: Tensor) -> Tensor:
    y = activation(draft, conv(draft, x, draft.width(high=256)))
    size = draft.pick(2, 3, 3, 5) if min(y.shape[2:]) >= 4 else 3
    stride = 2 if min(y.shape[2:]) >= 14 and draft.chance(0.6) else 1
    pad = (size - 1) // 2
    sides = [(side + 2 * pad - size) // stride + 1 for side in y.shape[2:]]
    op = "MaxPool" if draft.chance(0.6) else "AveragePool"
    return draft.add(op, [y], (1, y.shape[1], *sides), kernel_shape=[size] * 2, pads=[pad] * 4, strides=[stride] * 2)


def _enlarge(draft: Draft, x: Tensor) -> Tensor:
    channels, height, width = x.shape[1:]
    x = activation(draft, conv(draft, x, draft.width(high=128)))
    channels, bigger = x.shape[1], (2 * height, 2 * width)
    if max(bigger) > 112:
        return x
    if draft.chance(0.4):
        out = draft.width(high=96)
        draft.macs += channels * out * height * width * 4
        inputs: list[Tensor | str] = [x, draft.weight(channels, out, 2, 2, scale=channels**-0.5), draft.weight(out, scale=0.1)]
        return activation(draft, draft.add("ConvTranspose", inputs, (1, out, *bigger), kernel_shape=[2, 2], strides=[2, 2]))
    scales = draft.constant(np.array([1, 1, 2, 2], dtype=np.float32))
    nearest: dict[str, Attribute] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    linear: dict[str, Attribute] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    y = draft.add("Resize", [x, "", scales], (1, channels, *bigger), 1, **(linear if draft.chance(0.5) else nearest))
    return activation(draft, conv(draft, y, draft.width(high=64), (3, 3)))


def _elementwise(draft: Draft, x: Tensor) -> Tensor:
    y = conv(draft, x, x.shape[1], (3, 3), groups=x.shape[1])
    for _ in range(draft.pick(1, 2, 3)):
        kind = draft.pick(0, 1, 2, 3, 4)
        if kind == 0:
            # A gate, rather than the map itself, whose size would grow like a power.
            gated = draft.chance(0.4)
            y = draft.add("Mul" if gated else "Add", [y, draft.add("Sigmoid", [x], x.shape) if gated else x], y.shape)
        elif kind == 1:
            y = draft.add("Mul", [y, draft.weight(x.shape[1], 1, 1, scale=1.0)], y.shape)
        elif kind == 2:
            y = _normalise_batch(draft, y)
        elif kind == 4:
            scaled = draft.add("Mul", [draft.add("Sub", [y, x], y.shape), draft.weight(x.shape[1], 1, 1, scale=1.0)], y.shape)
            y = draft.add("Add", [x, scaled], y.shape)
        else:
            y = activation(draft, y)
    return y


def _normalised(draft: Draft, x: Tensor) -> Tensor:
    y = conv(draft, x, draft.width(high=192), (3, 3))
    channels, height, width = y.shape[1:]
    groups = next(number for number in (32, 16, 8, 4, 2) if channels % number == 0) if channels % 2 == 0 else 1
    groups = channels if draft.chance(0.3) else groups
    flat = draft.add("Reshape", [y, draft.constant([1, groups, -1])], (1, groups, channels * height * width // groups))
    ones = [draft.constant(np.full(groups, value, dtype=np.float32)) for value in (1.0, 0.1)]
    normal = draft.add("InstanceNormalization", [flat, *ones], flat.shape)
    y = draft.add("Reshape", [normal, draft.constant([1, channels, height, width])], y.shape)
    y = draft.add("Mul", [y, draft.weight(channels, 1, 1, scale=1.0)], y.shape)
    return activation(draft, y)


def stem(draft: Draft, x: Tensor) -> Tensor:
    """From an image to a feature map: a strided convolution, or patches."""
    if draft.chance(0.2):
        return conv(draft, x, draft.width(48, 256), (16, 16), 16)
    size = draft.pick(3, 3, 5, 7)
    return activation(draft, conv(draft, x, draft.width(16, 64), (size, size), 2))


def classifier(draft: Draft, x: Tensor) -> Tensor:
    """From a feature map to one vector; a third of them with a wide pointwise convolution before or behind the pooling."""
    wide = draft.pick(512, 768, 1024, 1280, 1280, 1536, 2048) if draft.chance(0.35) else 0
    before = wide and prod(x.shape[2:]) <= _MOST_PLACES_OF_WIDE_HEAD and draft.chance(0.7)
    x = activation(draft, conv(draft, x, wide)) if before else x
    channels = x.shape[1]
    if draft.chance(0.6):
        pooled = draft.add("GlobalAveragePool", [x], (1, channels, 1, 1))
    else:
        pooled = draft.add("ReduceMean", [x], (1, channels, 1, 1), axes=[2, 3], keepdims=1)
    pooled = activation(draft, conv(draft, pooled, wide)) if wide and not before else pooled
    channels = pooled.shape[1]
    flat = draft.add("Flatten", [pooled], (1, channels), axis=1)
    relu = draft.chance(0.3)
    widths = [1000] if wide else [draft.pick(512, 1024, 1280)] * draft.chance(0.3) + [draft.pick(10, 100, 1000)]
    for out in widths:
        flat = _fully_connected(draft, flat, out, relu)
    return flat


def heavy_head(draft: Draft, x: Tensor, params: int) -> Tensor:
    """Fully connected layers with so many weights, or a layer's more, behind a feature map's mean or a vector."""
    if len(x.shape) == 4:
        x = draft.add("Flatten", [draft.add("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))], x.shape[:2], axis=1)
    width, most = 8 * round((params / 2) ** 0.5 / 8), draft.params + params
    while draft.params < most:
        x = _fully_connected(draft, x, width, relu=True)
    return x


def _fully_connected(draft: Draft, x: Tensor, out: int, relu: bool) -> Tensor:
    draft.macs += x.shape[1] * out
    x = draft.add("Gemm", [x, draft.weight(out, x.shape[1]), draft.weight(out, scale=0.1)], (1, out), transB=1)
    return draft.add("Relu", [x], x.shape) if relu else x


BLOCKS: dict[str, Callable[[Draft, Tensor], Tensor]] = {
    "dense": _dense,
    "pointwise": _pointwise,
    "depthwise": _depthwise,
    "grouped": _grouped,
    "excite": _excite,
    "pre-activation": _pre_activation,
    "branches": _branches,
    "shuffle": _shuffle,
    "pool": _pool,
    "enlarge": _enlarge,
    "elementwise": _elementwise,
    "transformer": transformer,
    "channels-last": channels_last,
    "normalised": _normalised,
    "windows": windows,
    "sequence": sequence,
}
