"""Blocks of composite networks that work on tokens, or on maps with the channels last."""

from __future__ import annotations

from math import prod

import numpy as np

from layerclock.profiler.drafting import Draft, Tensor, conv, gelu, residual

__all__ = ["channels_last", "sequence", "transformer", "windows"]


_WIDE_HIDDEN, _WIDEST_HIDDEN = 1536, 3072
# Widths as in large language models, where there are so few tokens that their products stay affordable.
_FEW_TOKENS, _WIDEST, _CHANCE_OF_WIDEST = 100, 768, 0.15
# Maps whose places all attend, as far as they are this wide; windows with a bias for each pair of places, as far as it has few numbers.
_LARGEST_REDUCED, _LARGEST_BIAS = 64, 50_000
_LARGEST_TABLE = 6_000_000
_VOCABULARY = 30_522


def _linear(draft: Draft, x: Tensor, out: int) -> Tensor:
    draft.macs += prod(x.shape) * out
    product = draft.add("MatMul", [x, draft.weight(x.shape[-1], out, scale=x.shape[-1] ** -0.5)], (*x.shape[:-1], out))
    return draft.add("Add", [draft.weight(out, scale=0.1), product], product.shape)


def _normalise_last(draft: Draft, x: Tensor) -> Tensor:
    width = x.shape[-1]
    parts = [draft.constant(np.ones(width, dtype=np.float32)), draft.constant(np.full(width, 0.1, dtype=np.float32))]
    return draft.add("LayerNormalization", [x, *parts], x.shape, axis=-1, epsilon=1e-5)


def _perceptron(draft: Draft, x: Tensor) -> Tensor:
    most = _WIDEST_HIDDEN if prod(x.shape[:-1]) <= _FEW_TOKENS else _WIDE_HIDDEN
    hidden = _linear(draft, x, min(most, x.shape[-1] * draft.pick(1, 2, 3, 4)))
    return _linear(draft, gelu(draft, hidden) if draft.chance(0.7) else draft.add("Relu", [hidden], hidden.shape), x.shape[-1])


def _self_attention(draft: Draft, x: Tensor, heads: int, context: Tensor | None = None) -> Tensor:
    """Attention of tokens [N, T, C] to each other, or to the fewer tokens of ``context`` (PVT)."""
    number, tokens, width = x.shape
    each = width // heads
    others = x if context is None else context
    if context is None and draft.chance(0.4):
        joint = _linear(draft, x, 3 * width)
        first = draft.add("Split", [joint, draft.constant([width] * 3)], x.shape, outputs=3, axis=2)
        projected = [first, Tensor(f"{first.name}.1", x.shape), Tensor(f"{first.name}.2", x.shape)]
    else:
        projected = [_linear(draft, part, width) for part in (x, others, others)]
    query, key, value = (_heads(draft, part, heads, turned) for part, turned in zip(projected, (False, True, False), strict=True))
    scale = each**-0.5
    form = draft.pick(0, 0, 1, 2)
    if form == 2:
        query = draft.add("Mul", [query, draft.scalar(scale)], query.shape)
    scores = _product(draft, query, key)
    if form < 2:
        scores = draft.add("Mul", [scores, draft.scalar(scale)], scores.shape) if form == 0 else _divided(draft, scores, 1 / scale)
    if prod(scores.shape[1:]) <= _LARGEST_BIAS and draft.chance(0.3):
        scores = draft.add("Add", [scores, draft.weight(1, *scores.shape[1:], scale=0.1)], scores.shape)
    mixed = _product(draft, draft.add("Softmax", [scores], scores.shape, axis=-1), value)
    turned_back = draft.add("Transpose", [mixed], (number, tokens, heads, each), perm=[0, 2, 1, 3])
    return _linear(draft, draft.add("Reshape", [turned_back, draft.constant([number, tokens, width])], x.shape), width)


def _heads(draft: Draft, x: Tensor, heads: int, turned: bool) -> Tensor:
    """From tokens [N, T, C] to [N, heads, T, C / heads], or with the last two axes turned."""
    number, tokens, width = x.shape
    apart = (number, tokens, heads, width // heads)
    split = draft.add("Reshape", [x, draft.constant(list(apart))], apart)
    order = [0, 2, 3, 1] if turned else [0, 2, 1, 3]
    return draft.add("Transpose", [split], [apart[axis] for axis in order], perm=order)


def _product(draft: Draft, left: Tensor, right: Tensor) -> Tensor:
    draft.macs += prod(left.shape) * right.shape[-1]
    return draft.add("MatMul", [left, right], (*left.shape[:-1], right.shape[-1]))


def _divided(draft: Draft, x: Tensor, divisor: float) -> Tensor:
    return draft.add("Div", [x, draft.scalar(divisor)], x.shape)


def _reduced_transformer(draft: Draft, x: Tensor) -> Tensor:
    """A layer over all places of a large map, which attend to a smaller map (PVT, SegFormer)."""
    heads, each = draft.pick(1, 1, 2, 3), draft.pick(32, 32, 64)
    width = min(heads * each, 96 // each * each)
    heads = width // each
    x = x if x.shape[1] == width else conv(draft, x, width)
    step = draft.pick(4, 8)
    y, small = (_tokens(draft, one) for one in (x, conv(draft, x, width, (step, step), step)))
    y = draft.add("Add", [_self_attention(draft, _normalise_last(draft, y), heads, _normalise_last(draft, small)), y], y.shape)
    y = draft.add("Add", [_perceptron(draft, _normalise_last(draft, y)), y], y.shape)
    return _map(draft, y, x.shape)


def _tokens(draft: Draft, x: Tensor) -> Tensor:
    """From a map [1, C, H, W] to tokens [1, H * W, C]."""
    channels, height, width = x.shape[1:]
    flat = draft.add("Reshape", [x, draft.constant([1, channels, height * width])], (1, channels, height * width))
    return draft.add("Transpose", [flat], (1, height * width, channels), perm=[0, 2, 1])


def _map(draft: Draft, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """From tokens [1, H * W, C] to a map of this shape."""
    back = draft.add("Transpose", [x], (1, x.shape[2], x.shape[1]), perm=[0, 2, 1])
    return draft.add("Reshape", [back, draft.constant(list(shape))], shape)


def transformer(draft: Draft, x: Tensor) -> Tensor:
    """One or two transformer layers over the places of the map, or over patches of a large one."""
    if 16 < min(x.shape[2:]) <= _LARGEST_REDUCED and draft.chance(0.35):
        return _reduced_transformer(draft, x)
    heads, each = draft.pick(2, 3, 4, 6, 8, 12), draft.pick(16, 32, 32, 64, 64)
    width = min(heads * each, 512 // each * each)
    widest = prod(x.shape[2:]) <= _FEW_TOKENS and draft.chance(_CHANCE_OF_WIDEST)
    width, each = (_WIDEST, 64) if widest else (width, each)
    heads = width // each
    if min(x.shape[2:]) > 16:
        x = conv(draft, x, width, (2, 2), 2) if min(x.shape[2:]) <= 32 else conv(draft, x, width, (8, 8), 8)
    elif x.shape[1] != width:
        x = conv(draft, x, width)
    y = _tokens(draft, x)
    first = draft.chance(0.6)  # normalise before the sublayer, or behind its sum
    for _ in range(1 if widest else draft.pick(1, 1, 2)):
        for sublayer in (lambda d, t: _self_attention(d, t, heads), _perceptron):
            inner = sublayer(draft, _normalise_last(draft, y) if first else y)
            y = draft.add("Add", [inner, y], y.shape)
            y = y if first else _normalise_last(draft, y)
    return _map(draft, y, x.shape)


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
        y = draft.add("Reshape", [y, draft.constant(list(rows))], rows)
        each = next((one for one in (32, 24, 16, 8) if channels % one == 0 and channels // one <= 12), 0)
        y = _self_attention(draft, y, channels // each) if each and draft.chance(0.5) else _linear(draft, y, channels)
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
    if channels % 32 == 0 and tokens <= 256 and draft.chance(0.5):
        flat = _channels_first_attention(draft, flat)
    y = draft.add("Transpose", [flat], (1, tokens, channels), perm=[0, 2, 1])
    if draft.chance(0.5):
        scores = draft.add("ArgMax", [y], (1, tokens), axis=2, keepdims=0)
        table = draft.weight(draft.pick(channels, 2 * channels, 1024, min(_VOCABULARY, _LARGEST_TABLE // channels)), channels, scale=1.0)
        y = draft.add("Add", [y, draft.add("Gather", [table, scores], y.shape, axis=0)], y.shape)
    y = draft.add("Concat", [draft.weight(1, 1, channels, scale=1.0), y], (1, tokens + 1, channels), axis=1)
    y = draft.add("Add", [y, draft.weight(1, tokens + 1, channels, scale=0.1)], y.shape)
    y = _perceptron(draft, _normalise_last(draft, y))
    y = draft.add("Slice", [y, *(draft.constant([one]) for one in (1, tokens + 1, 1))], (1, tokens, channels))
    back = draft.add("Transpose", [y], (1, channels, tokens), perm=[0, 2, 1])
    return draft.add("Reshape", [back, draft.constant([1, channels, height, width])], x.shape)


def _channels_first_attention(draft: Draft, x: Tensor) -> Tensor:
    """Attention with the tokens last, [1, C, T], whose projections are convolutions (SqueezeBERT)."""
    channels, tokens = x.shape[1:]
    each = 64 if channels % 64 == 0 and draft.chance(0.7) else 32
    apart = (1, channels // each, each, tokens)
    groups = draft.pick(1, 4)
    parts = []
    for _ in range(3):
        draft.macs += channels * channels // groups * tokens
        inputs: list[Tensor | str] = [x, draft.weight(channels, channels // groups, 1), draft.weight(channels, scale=0.1)]
        projected = draft.add("Conv", inputs, x.shape, kernel_shape=[1], group=groups)
        parts.append(draft.add("Reshape", [projected, draft.constant(list(apart))], apart))
    turned = (1, apart[1], tokens, each)
    query, value = (draft.add("Transpose", [part], turned, perm=[0, 1, 3, 2]) for part in (parts[0], parts[2]))
    scores = _divided(draft, _product(draft, query, parts[1]), each**0.5)
    mixed = _product(draft, draft.add("Softmax", [scores], scores.shape, axis=-1), value)
    back = draft.add("Transpose", [mixed], apart, perm=[0, 1, 3, 2])
    return draft.add("Reshape", [back, draft.constant([1, channels, tokens])], x.shape)
