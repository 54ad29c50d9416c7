"""Blocks of composite networks that work on tokens, or on maps with the channels last."""

from __future__ import annotations

from math import prod

import numpy as np

from layerclock.profiler.drafting import Draft, Tensor, conv, gelu, residual

__all__ = ["channels_last", "sequence", "transformer", "windows"]


def _linear(draft: Draft, x: Tensor, out: int) -> Tensor:
    draft.macs += prod(x.shape) * out
    product = draft.add("MatMul", [x, draft.weight(x.shape[-1], out, scale=x.shape[-1] ** -0.5)], (*x.shape[:-1], out))
    return draft.add("Add", [draft.weight(out, scale=0.1), product], product.shape)


def _normalise_last(draft: Draft, x: Tensor) -> Tensor:
    width = x.shape[-1]
    parts = [draft.constant(np.ones(width, dtype=np.float32)), draft.constant(np.full(width, 0.1, dtype=np.float32))]
    return draft.add("LayerNormalization", [x, *parts], x.shape, axis=-1, epsilon=1e-5)


def _perceptron(draft: Draft, x: Tensor) -> Tensor:
    hidden = _linear(draft, x, min(1536, x.shape[-1] * draft.pick(1, 2, 3, 4)))
    return _linear(draft, gelu(draft, hidden) if draft.chance(0.7) else draft.add("Relu", [hidden], hidden.shape), x.shape[-1])


def _self_attention(draft: Draft, x: Tensor, heads: int) -> Tensor:
    tokens, width = x.shape[1:]
    each = width // heads
    joint = draft.chance(0.4)
    projected = [_linear(draft, x, 3 * width)] if joint else [_linear(draft, x, width) for _ in range(3)]
    if joint:
        first = draft.add("Split", [projected[0], draft.constant([width] * 3)], x.shape, outputs=3, axis=2)
        projected = [first, Tensor(f"{first.name}.1", x.shape), Tensor(f"{first.name}.2", x.shape)]
    query, key, value = (
        draft.add("Transpose", [draft.add("Reshape", [part, draft.constant([1, tokens, heads, each])], (1, tokens, heads, each))],
                  (1, heads, each, tokens) if turned else (1, heads, tokens, each), perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])
        for part, turned in zip(projected, (False, True, False), strict=True)
    )  # fmt: skip
    draft.macs += 2 * tokens * tokens * width
    scores = draft.add("MatMul", [query, key], (1, heads, tokens, tokens))
    scaled = draft.add("Mul", [scores, draft.scalar(each**-0.5)], scores.shape)
    weights = draft.add("Softmax", [scaled], scores.shape, axis=-1)
    mixed = draft.add("MatMul", [weights, value], (1, heads, tokens, each))
    turned_back = draft.add("Transpose", [mixed], (1, tokens, heads, each), perm=[0, 2, 1, 3])
    return _linear(draft, draft.add("Reshape", [turned_back, draft.constant([1, tokens, width])], x.shape), width)


def transformer(draft: Draft, x: Tensor) -> Tensor:
    """One or two transformer layers over the places of the map, or over patches of a large one."""
    heads, each = draft.pick(2, 3, 4, 6, 8, 12), draft.pick(16, 32, 32, 64, 64)
    width = min(heads * each, 512 // each * each)
    heads = width // each
    if min(x.shape[2:]) > 16:
        x = conv(draft, x, width, (2, 2), 2) if min(x.shape[2:]) <= 32 else conv(draft, x, width, (8, 8), 8)
    elif x.shape[1] != width:
        x = conv(draft, x, width)
    height, across = x.shape[2:]
    tokens = height * across
    flat = draft.add("Reshape", [x, draft.constant([1, width, tokens])], (1, width, tokens))
    y = draft.add("Transpose", [flat], (1, tokens, width), perm=[0, 2, 1])
    first = draft.chance(0.6)  # normalise before the sublayer, or behind its sum
    for _ in range(draft.pick(1, 1, 2)):
        for sublayer in (lambda d, t: _self_attention(d, t, heads), _perceptron):
            inner = sublayer(draft, _normalise_last(draft, y) if first else y)
            y = draft.add("Add", [inner, y], y.shape)
            y = y if first else _normalise_last(draft, y)
    back = draft.add("Transpose", [y], (1, width, tokens), perm=[0, 2, 1])
    return draft.add("Reshape", [back, draft.constant([1, width, height, across])], x.shape)


def channels_last(draft: Draft, x: Tensor) -> Tensor:
    """A depthwise convolution and a perceptron over channels that stand last (ConvNeXt)."""
    channels, height, width = x.shape[1:]
    y = conv(draft, x, channels, (7, 7) if draft.chance(0.7) else (3, 3), groups=channels)
    turned = draft.add("Transpose", [y], (1, height, width, channels), perm=[0, 2, 3, 1])
    y = _perceptron(draft, _normalise_last(draft, turned))
    if draft.chance(0.7):
        y = draft.add("Mul", [y, draft.weight(channels, scale=1.0)], y.shape)
    return residual(draft, x, draft.add("Transpose", [y], x.shape, perm=[0, 3, 1, 2]))


def windows(draft: Draft, x: Tensor) -> Tensor:
    """What moves numbers in windowed transformers and detectors: shifts, slices, windows and their merging."""
    channels, height, width = x.shape[1:]
    if height % 2 or width % 2:
        return channels_last(draft, x)
    y = draft.add("Transpose", [x], (1, height, width, channels), perm=[0, 2, 3, 1])
    if draft.chance(0.6):
        shift = draft.pick(1, 3) if height > 3 else 1
        parts = [
            draft.add("Slice", [y, *(draft.constant([one]) for one in (start, end, 1))], (1, end - start, width, channels))
            for start, end in ((shift, height), (0, shift))
        ]
        y = draft.add("Concat", parts, y.shape, axis=1)
    if draft.chance(0.6):
        side = 7 if height % 7 == width % 7 == 0 else 2
        windows = (1, height // side, side, width // side, side, channels)
        y = draft.add("Reshape", [y, draft.constant(list(windows))], windows)
        turned = (1, height // side, width // side, side, side, channels)
        y = draft.add("Transpose", [y], turned, perm=[0, 1, 3, 2, 4, 5])
        rows = (height * width // side**2, side**2, channels)
        y = _linear(draft, draft.add("Reshape", [y, draft.constant(list(rows))], rows), channels)
        y = draft.add("Reshape", [y, draft.constant(list(turned))], turned)
        y = draft.add("Transpose", [y], windows, perm=[0, 1, 3, 2, 4, 5])
        y = draft.add("Reshape", [y, draft.constant([1, height, width, channels])], (1, height, width, channels))
    if draft.chance(0.5):
        quarters = []
        for first in (0, 1):
            for second in (0, 1):
                bounds = [draft.constant(list(one)) for one in ((first, second), (height, width), (1, 2), (2, 2))]
                quarters.append(draft.add("Slice", [y, *bounds], (1, height // 2, width // 2, channels)))
        y = draft.add("Concat", quarters, (1, height // 2, width // 2, 4 * channels), axis=3)
        channels = draft.pick(channels, min(512, 2 * channels))
        y = _linear(draft, _normalise_last(draft, y), channels)
    return draft.add("Transpose", [y], (1, channels, *y.shape[1:3]), perm=[0, 3, 1, 2])


def sequence(draft: Draft, x: Tensor) -> Tensor:
    """Tokens with an extra one in front, embedded by a table, and convolved along their order."""
    channels, height, width = x.shape[1:]
    tokens = height * width
    flat = draft.add("Reshape", [x, draft.constant([1, channels, tokens])], (1, channels, tokens))
    if draft.chance(0.4):
        groups = draft.pick(1, 2, 4) if channels % 4 == 0 else 1
        out = channels
        draft.macs += channels * out // groups * tokens
        pointwise: list[Tensor | str] = [flat, draft.weight(out, channels // groups, 1), draft.weight(out, scale=0.1)]
        flat = draft.add("Conv", pointwise, (1, out, tokens), kernel_shape=[1], group=groups)
    y = draft.add("Transpose", [flat], (1, tokens, channels), perm=[0, 2, 1])
    if draft.chance(0.5):
        scores = draft.add("ArgMax", [y], (1, tokens), axis=2, keepdims=0)
        table = draft.weight(draft.pick(channels, 2 * channels, 1024), channels, scale=1.0)
        y = draft.add("Add", [y, draft.add("Gather", [table, scores], y.shape, axis=0)], y.shape)
    y = draft.add("Concat", [draft.weight(1, 1, channels, scale=1.0), y], (1, tokens + 1, channels), axis=1)
    y = draft.add("Add", [y, draft.weight(1, tokens + 1, channels, scale=0.1)], y.shape)
    y = _perceptron(draft, _normalise_last(draft, y))
    y = draft.add("Slice", [y, *(draft.constant([one]) for one in (1, tokens + 1, 1))], (1, tokens, channels))
    back = draft.add("Transpose", [y], (1, channels, tokens), perm=[0, 2, 1])
    return draft.add("Reshape", [back, draft.constant([1, channels, height, width])], x.shape)
