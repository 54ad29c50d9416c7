"""The modules of translation transformers: attention of three kinds, feed-forward parts, embeddings. Needs torch.

The decoder's modules compute in two ways: ``forward`` is one step with stored keys and values, as a translation runs;
``whole`` is a sequence at once, as training does. Stored keys and values are float32[B, qkv, tokens]: a head's share of
the channels is a view, so that a step reorders nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from layerclock.search.spaces import translation_layers as layers

__all__ = ["CachedAttention", "CrossAttention", "Embedding", "FeedForward", "Memory", "SelfAttention", "sinusoids"]


def sinusoids(tokens: int, dim: int, widest: int) -> torch.Tensor:
    """The first positions as float32[tokens, dim]: the leading columns of those for width ``widest``, as in HAT.

    Sines and cosines take turns (Vaswani et al., 2017, section 3.5).
    """
    frequencies = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / widest))
    angles = torch.arange(tokens)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :dim].contiguous()


class Embedding(nn.Module):
    """Vectors of ``spec.tokens`` tokens, with their positions added; ``longest`` is the longest sequence of ``whole``."""

    positions: torch.Tensor

    def __init__(self, spec: layers.Embedding, widest: int, longest: int) -> None:
        super().__init__()
        self.table = nn.Embedding(spec.vocabulary, spec.dim)
        nn.init.normal_(self.table.weight, std=spec.dim**-0.5)
        self.scale = math.sqrt(spec.dim)
        self.span = slice(spec.first, spec.first + spec.tokens)
        self.register_buffer("positions", sinusoids(max(longest, spec.first + spec.tokens), spec.dim, widest), persistent=False)
        self.register_buffer("own_positions", self.positions[self.span].clone(), persistent=False)

    own_positions: torch.Tensor

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Int64[B, tokens] to float32[B, tokens, dim]."""
        out: torch.Tensor = self.table(ids) * self.scale + self.own_positions
        return out

    def whole(self, ids: torch.Tensor) -> torch.Tensor:
        """Int64[B, N] from the first position on to float32[B, N, dim], N up to the longest."""
        out: torch.Tensor = self.table(ids) * self.scale + self.positions[: ids.shape[1]]
        return out


class SelfAttention(nn.Module):
    """Every token attends to every token of its sequence."""

    def __init__(self, spec: layers.SelfAttention) -> None:
        super().__init__()
        self.spec = spec
        self.project = nn.Linear(spec.dim, 3 * spec.qkv)
        self.out = nn.Linear(spec.qkv, spec.dim)
        self.norm = nn.LayerNorm(spec.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, tokens, dim] to the same shape."""
        spec = self.spec
        shape = (-1, spec.tokens, spec.heads, spec.qkv // spec.heads)
        queries, keys, values = (part.reshape(shape) for part in self.project(x).split(spec.qkv, 2))
        mixed = _attend(queries.transpose(1, 2), keys.permute(0, 2, 3, 1), values.transpose(1, 2), shape[3])
        out: torch.Tensor = self.norm(x + self.out(mixed.transpose(1, 2).reshape(-1, spec.tokens, spec.qkv)))
        return out


class CachedAttention(nn.Module):
    """A new token attends to itself and to the tokens before it."""

    def __init__(self, spec: layers.CachedAttention) -> None:
        super().__init__()
        self.spec = spec
        self.project = nn.Linear(spec.dim, 3 * spec.qkv)
        self.out = nn.Linear(spec.qkv, spec.dim)
        self.norm = nn.LayerNorm(spec.dim)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Float32[B, 1, dim] and the stored float32[B, qkv, cached], to which the token's own are appended, to float32[B, 1, dim]."""
        qkv = self.spec.qkv
        query, key, value = self.project(x).reshape(-1, 3 * qkv, 1).split(qkv, 1)
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        mixed = _look_up(query, keys, values, self.spec.heads, qkv, self.spec.cached + 1)
        out: torch.Tensor = self.norm(x + self.out(mixed))
        return out

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """A sequence float32[B, N, dim], every token of which attends to those up to itself, to the same shape."""
        queries, keys, values = (_heads(part, self.spec.heads) for part in self.project(x).split(self.spec.qkv, 2))
        later = torch.full((x.shape[1], x.shape[1]), -math.inf).triu(1)
        mixed = _attend(queries, keys.transpose(2, 3), values, queries.shape[3], later)
        out: torch.Tensor = self.norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return out


class Memory(nn.Module):
    """Keys and values of the encoder's last layers for one decoder layer."""

    def __init__(self, spec: layers.Memory) -> None:
        super().__init__()
        self.qkv = spec.qkv
        self.project = nn.Linear(spec.encoder_dim, 2 * spec.qkv)

    def forward(self, *attended: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last encoder layers' outputs, float32[B, S, dim] each, to keys and values float32[B, qkv, layers * S]."""
        sequence = torch.cat(attended, 1) if len(attended) > 1 else attended[0]
        keys, values = self.project(sequence).transpose(1, 2).split(self.qkv, 1)
        return keys, values


class CrossAttention(nn.Module):
    """A new token attends to what is remembered of the source."""

    def __init__(self, spec: layers.CrossAttention) -> None:
        super().__init__()
        self.spec = spec
        self.project = nn.Linear(spec.dim, spec.qkv)
        self.out = nn.Linear(spec.qkv, spec.dim)
        self.norm = nn.LayerNorm(spec.dim)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Float32[B, 1, dim] and the stored float32[B, qkv, remembered] to float32[B, 1, dim]."""
        spec = self.spec
        mixed = _look_up(self.project(x), keys, values, spec.heads, spec.qkv, spec.remembered)
        out: torch.Tensor = self.norm(x + self.out(mixed))
        return out

    def whole(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """A sequence float32[B, N, dim] and the stored float32[B, qkv, remembered] to float32[B, N, dim]."""
        heads = self.spec.heads
        share = (heads, self.spec.qkv // heads)
        mixed = _attend(_heads(self.project(x), heads), keys.unflatten(1, share), values.unflatten(1, share).transpose(2, 3), share[1])
        out: torch.Tensor = self.norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return out


class FeedForward(nn.Module):
    """Two linear layers on every token by itself."""

    def __init__(self, spec: layers.FeedForward) -> None:
        super().__init__()
        self.wide = nn.Linear(spec.dim, spec.mid)
        self.act = nn.ReLU()
        self.narrow = nn.Linear(spec.mid, spec.dim)
        self.norm = nn.LayerNorm(spec.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, N, dim] to the same shape."""
        out: torch.Tensor = self.norm(x + self.narrow(self.act(self.wide(x))))
        return out


def _heads(sequence: torch.Tensor, heads: int) -> torch.Tensor:
    """Float32[B, N, qkv] to float32[B, heads, N, qkv / heads]."""
    split: torch.Tensor = sequence.unflatten(2, (heads, -1))
    return split.transpose(1, 2)


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, share: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Queries float32[B, heads, N, share], keys float32[B, heads, share, M] and values float32[B, heads, M, share] to queries' shape."""
    scores = (queries * share**-0.5) @ keys
    mixed: torch.Tensor = (scores if mask is None else scores + mask).softmax(3) @ values
    return mixed


def _look_up(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int, qkv: int, tokens: int) -> torch.Tensor:
    """One query of ``qkv`` numbers and stores float32[B, qkv, tokens] to float32[B, 1, qkv], by views and two products alone."""
    share = qkv // heads
    scores = (query * share**-0.5).reshape(-1, heads, 1, share) @ keys.reshape(-1, heads, share, tokens)
    weights = scores.softmax(3).reshape(-1, heads, tokens, 1)
    mixed: torch.Tensor = values.reshape(-1, heads, share, tokens) @ weights
    return mixed.reshape(-1, 1, qkv)
