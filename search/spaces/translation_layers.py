"""The layers that an encoder-decoder transformer is made of, with their exact sizes.

All are post-norm: a residual sum and a layer normalisation end every attention and every feed-forward part (Vaswani et
al., NIPS 2017, arXiv:1706.03762). ``dim`` is the width of what a layer reads and writes, ``qkv`` that of all its queries
together, and the heads share ``qkv`` among them, so that their number changes no size. Counts of multiply-accumulates
hold the linear layers and the two matrix products of attention; biases, softmax, normalisation and look-ups count none.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerclock.network import Layer, TensorSpec

__all__ = ["CachedAttention", "CrossAttention", "Embedding", "FeedForward", "Memory", "Projection", "SelfAttention", "cache"]


def cache(qkv: int, tokens: int) -> TensorSpec:
    """Stored keys, or values, of ``tokens`` positions: channels first, so that any number of heads is a view of it."""
    return TensorSpec((1, qkv, tokens))


def _linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with biases."""
    return (inputs + 1) * outputs


@dataclass(frozen=True, slots=True)
class Embedding:
    """Token ids to vectors: a look-up, scaled by the root of ``dim``, plus sinusoidal positions, which are no weights.

    ``first`` is the position of the first token.
    """

    vocabulary: int
    dim: int
    tokens: int
    first: int = 0

    def layer(self) -> Layer:
        """The layer on ``tokens`` ids."""
        return Layer(
            op="embedding",
            inputs=(TensorSpec((1, self.tokens), "int64"),),
            outputs=(TensorSpec((1, self.tokens, self.dim)),),
            attributes=(("vocabulary", self.vocabulary),),
            macs=0,
            params=self.vocabulary * self.dim,
        )


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Attention of every token to every token of the same sequence."""

    dim: int
    qkv: int
    heads: int
    tokens: int

    def layer(self) -> Layer:
        """The layer on ``tokens`` vectors."""
        sequence = TensorSpec((1, self.tokens, self.dim))
        return Layer(
            op="self_attention",
            inputs=(sequence,),
            outputs=(sequence,),
            attributes=(("heads", self.heads), ("qkv", self.qkv)),
            macs=4 * self.tokens * self.dim * self.qkv + 2 * self.tokens**2 * self.qkv,
            params=_linear(self.dim, 3 * self.qkv) + _linear(self.qkv, self.dim) + 2 * self.dim,
        )


@dataclass(frozen=True, slots=True)
class CachedAttention:
    """Attention of one new token to itself and to the ``cached`` tokens before it, whose keys and values are stored."""

    dim: int
    qkv: int
    heads: int
    cached: int

    def layer(self) -> Layer:
        """The layer on one vector and two caches."""
        token, stored = TensorSpec((1, 1, self.dim)), cache(self.qkv, self.cached)
        return Layer(
            op="cached_attention",
            inputs=(token, stored, stored),
            outputs=(token,),
            attributes=(("heads", self.heads), ("qkv", self.qkv)),
            macs=4 * self.dim * self.qkv + 2 * (self.cached + 1) * self.qkv,
            params=_linear(self.dim, 3 * self.qkv) + _linear(self.qkv, self.dim) + 2 * self.dim,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of what a decoder layer attends to: ``attended`` encoder layers' outputs, one after the other."""

    encoder_dim: int
    qkv: int
    attended: int
    tokens: int

    def layer(self) -> Layer:
        """The layer on ``attended`` sequences of ``tokens`` vectors; it makes the keys and the values."""
        stored = cache(self.qkv, self.attended * self.tokens)
        return Layer(
            op="memory",
            inputs=(TensorSpec((1, self.tokens, self.encoder_dim)),) * self.attended,
            outputs=(stored, stored),
            attributes=(),
            macs=2 * self.attended * self.tokens * self.encoder_dim * self.qkv,
            params=_linear(self.encoder_dim, 2 * self.qkv),
        )


@dataclass(frozen=True, slots=True)
class CrossAttention:
    """Attention of one new token to the stored keys and values of ``remembered`` encoder outputs."""

    dim: int
    qkv: int
    heads: int
    remembered: int

    def layer(self) -> Layer:
        """The layer on one vector and two stores."""
        token, stored = TensorSpec((1, 1, self.dim)), cache(self.qkv, self.remembered)
        return Layer(
            op="cross_attention",
            inputs=(token, stored, stored),
            outputs=(token,),
            attributes=(("heads", self.heads), ("qkv", self.qkv)),
            macs=2 * self.dim * self.qkv + 2 * self.remembered * self.qkv,
            params=_linear(self.dim, self.qkv) + _linear(self.qkv, self.dim) + 2 * self.dim,
        )


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Two linear layers with ``mid`` channels and a ReLU between them."""

    dim: int
    mid: int
    tokens: int

    def layer(self) -> Layer:
        """The layer on ``tokens`` vectors."""
        sequence = TensorSpec((1, self.tokens, self.dim))
        return Layer(
            op="feed_forward",
            inputs=(sequence,),
            outputs=(sequence,),
            attributes=(("act", "relu"), ("mid", self.mid), ("norm", "after")),
            macs=2 * self.tokens * self.dim * self.mid,
            params=_linear(self.dim, self.mid) + _linear(self.mid, self.dim) + 2 * self.dim,
        )


@dataclass(frozen=True, slots=True)
class Projection:
    """One vector to a score for each word of the vocabulary, without biases."""

    dim: int
    vocabulary: int

    def layer(self) -> Layer:
        """The layer on one vector."""
        return Layer(
            op="projection",
            inputs=(TensorSpec((1, 1, self.dim)),),
            outputs=(TensorSpec((1, 1, self.vocabulary)),),
            attributes=(),
            macs=self.dim * self.vocabulary,
            params=self.dim * self.vocabulary,
        )
