"""What elastic encoder transformers share: a layer with a choice of attention heads and of feed-forward width, and depth.

A layer is two sites, ``layers.N.attention`` and ``layers.N.ffn``. A head that is left out takes its columns of the query,
key and value projections and its rows of the output projection with it, while the size of a head stays; the hidden size
between the layers stays as well (Hou et al., DynaBERT, NeurIPS 2020, arXiv:2004.04037, section 2.1). A shallower network
leaves out its last layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, Site, SiteIndex

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AttentionSpec", "EncoderSizes", "FeedForwardSpec"]


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Self-attention with its residual and its normalisation, which comes first (``pre_norm``) or after the addition."""

    tokens: int
    hidden: int
    heads: int
    head_dim: int
    pre_norm: bool

    @property
    def inner(self) -> int:
        """Width of queries, keys and values, all heads together."""
        return self.heads * self.head_dim

    @property
    def layer(self) -> Layer:
        """The layer; its multiply-accumulates include both products of tokens with tokens."""
        weights = 4 * self.hidden * self.inner
        shape = (TensorSpec((1, self.tokens, self.hidden)),)
        return Layer(
            op="attention",
            inputs=shape,
            outputs=shape,
            attributes=(("head_dim", self.head_dim), ("heads", self.heads), ("pre_norm", self.pre_norm)),
            macs=self.tokens * weights + 2 * self.tokens**2 * self.inner,
            params=weights + 3 * self.inner + self.hidden + 2 * self.hidden,
        )


@dataclass(frozen=True, slots=True)
class FeedForwardSpec:
    """Two linear layers with GELU between them, the residual and the normalisation, which is placed as for attention."""

    tokens: int
    hidden: int
    width: int
    pre_norm: bool

    @property
    def layer(self) -> Layer:
        """The layer."""
        shape = (TensorSpec((1, self.tokens, self.hidden)),)
        return Layer(
            op="feed_forward",
            inputs=shape,
            outputs=shape,
            attributes=(("act", "gelu"), ("pre_norm", self.pre_norm), ("width", self.width)),
            macs=2 * self.tokens * self.hidden * self.width,
            params=2 * self.hidden * self.width + self.width + self.hidden + 2 * self.hidden,
        )


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """The largest encoder, and from it the choices of its sub-networks.

    ``shallowest`` is the least number of layers. Heads are a half, two thirds, five sixths or all of ``heads``; the
    feed-forward width is a third, two thirds or all of ``ffn``: for the base size 6, 8, 10, 12 and 1024, 2048, 3072.
    Raises :class:`ArgumentError` unless all are whole numbers from 1 on that fit together.
    """

    tokens: int
    hidden: int
    layers: int
    heads: int
    ffn: int
    shallowest: int
    pre_norm: bool

    def __post_init__(self) -> None:
        numbers = (self.tokens, self.hidden, self.layers, self.heads, self.ffn, self.shallowest)
        possible = all(isinstance(number, int) and number > 0 for number in numbers) and self.ffn >= 3
        if not possible or self.hidden % self.heads or self.shallowest > self.layers:
            raise ArgumentError(
                f"hidden={self.hidden}, layers={self.layers}, heads={self.heads}, ffn={self.ffn} is not an encoder",
                "whole numbers from 1 on (ffn from 3 on), and hidden a multiple of heads",
            )

    @property
    def head_dim(self) -> int:
        """Width of one head: the same in every sub-network."""
        return self.hidden // self.heads

    @property
    def head_choices(self) -> tuple[int, ...]:
        """How many heads a layer may have, ascending."""
        return tuple(sorted({max(1, (self.heads * sixths + 3) // 6) for sixths in (3, 4, 5, 6)}))

    @property
    def ffn_choices(self) -> tuple[int, ...]:
        """How wide a feed-forward network may be, ascending."""
        return tuple(self.ffn * thirds // 3 for thirds in (1, 2, 3))

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The depth, then for each layer its heads and its feed-forward width."""
        by_layer = [gene for number in range(self.layers) for gene in (self._heads(number), self._ffn(number))]
        return (self._depth, *by_layer)

    @property
    def _depth(self) -> Gene:
        return Gene("depth", tuple(range(self.shallowest, self.layers + 1)))

    def _heads(self, number: int) -> Gene:
        return Gene(f"layers.{number}.heads", self.head_choices)

    def _ffn(self, number: int) -> Gene:
        return Gene(f"layers.{number}.ffn", self.ffn_choices)

    def attention(self, heads: int) -> AttentionSpec:
        """Self-attention with this number of heads."""
        return AttentionSpec(self.tokens, self.hidden, heads, self.head_dim, self.pre_norm)

    def feed_forward(self, width: int) -> FeedForwardSpec:
        """The feed-forward network of this width."""
        return FeedForwardSpec(self.tokens, self.hidden, width, self.pre_norm)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Attention and feed-forward network of each layer, in order of execution."""
        return tuple(site for number in range(self.layers) for site in self._sites_of(number))

    def _sites_of(self, number: int) -> tuple[Site, Site]:
        names = f"layers.{number}.attention", f"layers.{number}.ffn"
        if number < self.shallowest:
            return (
                Site.of(names[0], [self._heads(number)], lambda heads: self.attention(heads).layer),
                Site.of(names[1], [self._ffn(number)], lambda width: self.feed_forward(width).layer),
            )
        return (
            Site.of(names[0], [self._depth, self._heads(number)], lambda d, h: self.attention(h).layer if number < d else None),
            Site.of(names[1], [self._depth, self._ffn(number)], lambda d, w: self.feed_forward(w).layer if number < d else None),
        )

    def chosen(self, genome: npt.ArrayLike) -> tuple[tuple[AttentionSpec, FeedForwardSpec], ...]:
        """The layers of one genome int64[G]. Raises :class:`~layerclock.errors.GenomeError` if it is of another space."""
        depth, *rest = (int(value) for value in SiteIndex(self.genes, ()).check(np.asarray(genome)[None])[0])
        pairs = zip(rest[0::2], rest[1::2], strict=True)
        layers = [(self.attention(self.head_choices[heads]), self.feed_forward(self.ffn_choices[ffn])) for heads, ffn in pairs]
        return tuple(layers[: depth + self.shallowest])
