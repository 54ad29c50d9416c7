"""The translation transformers of HAT (Wang et al., ACL 2020, arXiv:2005.14187, section 2.1): genes and sites.

The encoder chooses its width, and for every layer its feed-forward size and heads. The decoder chooses its width, its
depth, and for every layer its feed-forward size, the heads of both attentions, and how many of the encoder's last layers
it attends to. Queries, keys and values are as wide in every network, as in HAT.

A sentence is translated by one pass over the source and then by one step for each word. Both are timed as networks:

- ``part=encoder`` is what is done once: the encoder over ``source_length`` tokens, and from its layers the keys and values
  that each decoder layer attends to (HAT's data count these to the decoder, whose first step makes them);
- ``part=decoder`` is one step in the middle of a target of ``target_length`` tokens: the word before, attention to the
  stored keys and values of the ``target_length // 2`` words before that and of the source, and the scores of all words.
  What is stored comes in as inputs, whose shapes are the same for every genome;
- ``part=both`` is the one pass and one step in one graph.

The three have the same genes: one genome serves them all, and :mod:`layerclock.search.generation` adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.search.spaces.transformer_choices import (
    ATTENDED,
    PRESETS,
    DecoderLayerPlan,
    EncoderLayerPlan,
    TransformerPlan,
    TransformerSizes,
)
from layerclock.search.spaces.translation_layers import (
    CachedAttention,
    CrossAttention,
    Embedding,
    FeedForward,
    Memory,
    Projection,
    SelfAttention,
    cache,
)
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

__all__ = ["TransformerSpace", "transformer"]

_PARTS = {"encoder": (True, False), "decoder": (False, True), "both": (True, True)}


@dataclass(frozen=True)
class TransformerSpace:
    """A family of translation transformers as genes and sites; the module says what each ``part`` times.

    Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    sizes: TransformerSizes
    part: str = "both"

    def __post_init__(self) -> None:
        sizes = self.sizes
        if self.part not in _PARTS:
            raise ArgumentError(f"space {self.name!r}: part={self.part!r} is no part of a transformer", f"one of {', '.join(_PARTS)}")
        lengths = (sizes.source_length, sizes.target_length, sizes.vocabulary)
        if not all(isinstance(length, int) for length in lengths) or min(lengths) < 2:
            raise ArgumentError(
                f"space {self.name!r}: source_length={lengths[0]}, target_length={lengths[1]}, vocabulary={lengths[2]} is no translation",
                "whole numbers of at least 2",
            )

    @property
    def reads_source(self) -> bool:
        """Whether the networks do what is done once for a sentence."""
        return _PARTS[self.part][0]

    @property
    def steps(self) -> bool:
        """Whether the networks do what is done for each word."""
        return _PARTS[self.part][1]

    @property
    def cached(self) -> int:
        """Words whose keys and values are stored when the timed step begins: half of the target."""
        return self.sizes.target_length // 2

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Token ids of the source; the word before; stored keys and values of the words before; and for a step alone those
        of one, of two and of three encoder layers, of which each decoder layer takes the one that fits its choice."""
        sizes = self.sizes
        source = (TensorSpec((1, sizes.source_length), "int64"),)
        step = (TensorSpec((1, 1), "int64"), cache(sizes.qkv, self.cached), cache(sizes.qkv, self.cached))
        memories = tuple(cache(sizes.qkv, attended * sizes.source_length) for attended in ATTENDED.values() for _ in range(2))
        return (source if self.reads_source else ()) + (step if self.steps else ()) + (() if self.reads_source else memories)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Width of the encoder and its layers' choices, then width and depth of the decoder and its layers' choices."""
        encoder = [gene for number in range(self.sizes.encoder_layers) for gene in self._encoder_genes(number)]
        decoder = [gene for number in range(max(self.sizes.decoder_depths)) for gene in self._decoder_genes(number)]
        return self._encoder_dim, *encoder, self._decoder_dim, self._depth, *decoder

    @property
    def _encoder_dim(self) -> Gene:
        return Gene("encoder.dim", self.sizes.encoder_dims)

    @property
    def _decoder_dim(self) -> Gene:
        return Gene("decoder.dim", self.sizes.decoder_dims)

    @property
    def _depth(self) -> Gene:
        return Gene("decoder.depth", self.sizes.decoder_depths)

    def _encoder_genes(self, number: int) -> tuple[Gene, Gene]:
        place = f"encoder.layer{number + 1}"
        return Gene(f"{place}.ffn", self.sizes.ffns), Gene(f"{place}.heads", self.sizes.heads)

    def _decoder_genes(self, number: int) -> tuple[Gene, Gene, Gene, Gene]:
        place, sizes = f"decoder.layer{number + 1}", self.sizes
        return (
            Gene(f"{place}.ffn", sizes.ffns),
            Gene(f"{place}.self_heads", sizes.heads),
            Gene(f"{place}.cross_heads", sizes.heads),
            Gene(f"{place}.attended", tuple(ATTENDED)),
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        """In order of execution: what is done once, then what is done in a step, as far as the part has them."""
        return (self._source_sites() if self.reads_source else ()) + (self._step_sites() if self.steps else ())

    def _source_sites(self) -> tuple[Site, ...]:
        sizes, length = self.sizes, self.sizes.source_length
        sites = [Site.of("encoder.embed", [self._encoder_dim], lambda dim: Embedding(sizes.vocabulary, dim, length).layer())]
        for number in range(sizes.encoder_layers):
            place, (ffn, heads) = f"encoder.layer{number + 1}", self._encoder_genes(number)
            sites += [
                Site.of(
                    f"{place}.self_attention", [self._encoder_dim, heads], lambda dim, h: SelfAttention(dim, sizes.qkv, h, length).layer()
                ),
                Site.of(f"{place}.ffn", [self._encoder_dim, ffn], lambda dim, mid: FeedForward(dim, mid, length).layer()),
            ]
        for number in range(max(sizes.decoder_depths)):
            *_, attended = self._decoder_genes(number)

            def memory(depth: int, dim: int, chosen: int, number: int = number) -> Layer | None:
                return Memory(dim, sizes.qkv, ATTENDED[chosen], length).layer() if number < depth else None

            sites.append(Site.of(f"decoder.layer{number + 1}.memory", [self._depth, self._encoder_dim, attended], memory))
        return tuple(sites)

    def _step_sites(self) -> tuple[Site, ...]:
        sizes, dim = self.sizes, self._decoder_dim
        sites = [Site.of("decoder.embed", [dim], lambda dim: Embedding(sizes.vocabulary, dim, 1, self.cached).layer())]
        for number in range(max(sizes.decoder_depths)):
            place, (ffn, self_heads, cross_heads, attended) = f"decoder.layer{number + 1}", self._decoder_genes(number)

            def cached(depth: int, dim: int, heads: int, number: int = number) -> Layer | None:
                return CachedAttention(dim, sizes.qkv, heads, self.cached).layer() if number < depth else None

            def cross(depth: int, dim: int, heads: int, chosen: int, number: int = number) -> Layer | None:
                remembered = ATTENDED[chosen] * sizes.source_length
                return CrossAttention(dim, sizes.qkv, heads, remembered).layer() if number < depth else None

            def feed(depth: int, dim: int, mid: int, number: int = number) -> Layer | None:
                return FeedForward(dim, mid, 1).layer() if number < depth else None

            sites += [
                Site.of(f"{place}.self_attention", [self._depth, dim, self_heads], cached),
                Site.of(f"{place}.cross_attention", [self._depth, dim, cross_heads, attended], cross),
                Site.of(f"{place}.ffn", [self._depth, dim, ffn], feed),
            ]
        sites.append(Site.of("decoder.project", [dim], lambda dim: Projection(dim, sizes.vocabulary).layer()))
        return tuple(sites)

    def plan(self, genome: npt.ArrayLike) -> TransformerPlan:
        """The choices of one genome int64[G]. Raises :class:`GenomeError` for a genome of another space."""
        genes = self.genes
        positions = SiteIndex(genes, ()).check(np.asarray(genome)[None])[0]
        value = {gene.name: int(gene.choices[int(position)]) for gene, position in zip(genes, positions, strict=True)}
        encoder = [f"encoder.layer{number + 1}" for number in range(self.sizes.encoder_layers)]
        decoder = [f"decoder.layer{number + 1}" for number in range(value["decoder.depth"])]
        return TransformerPlan(
            value["encoder.dim"],
            tuple(EncoderLayerPlan(value[f"{place}.ffn"], value[f"{place}.heads"]) for place in encoder),
            value["decoder.dim"],
            tuple(
                DecoderLayerPlan(
                    value[f"{place}.ffn"],
                    value[f"{place}.self_heads"],
                    value[f"{place}.cross_heads"],
                    ATTENDED[value[f"{place}.attended"]],
                )
                for place in decoder
            ),
        )

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.transformer import build_transformer

        return build_transformer(self, genome)

    def from_hat(self, config: Mapping[str, int | Sequence[int]]) -> GenomeArray:
        """Genome int64[G] of a sub-transformer in HAT's configuration files: its keys that end with ``-subtransformer``.

        Lists may be longer than the network is deep. Raises :class:`GenomeError` if a key is missing, a list too short, the
        depth of the encoder another, or a value none of the space's.
        """
        genes = {
            "encoder.dim": _scalar(config, "encoder-embed-dim-subtransformer"),
            "decoder.dim": _scalar(config, "decoder-embed-dim-subtransformer"),
            "decoder.depth": _scalar(config, "decoder-layer-num-subtransformer"),
        }
        layers = {"encoder": _scalar(config, "encoder-layer-num-subtransformer"), "decoder": genes["decoder.depth"]}
        if layers["encoder"] != self.sizes.encoder_layers:
            raise GenomeError(f"an encoder of {layers['encoder']} layers is not of this space", f"it has {self.sizes.encoder_layers}")
        for key, (side, gene) in _HAT_LISTS.items():
            values = config.get(key)
            if values is None or isinstance(values, int) or len(values) < layers[side]:
                raise GenomeError(f"{key} is {values!r}", f"it is a list with a value for each of {layers[side]} layers")
            genes |= {f"{side}.layer{number + 1}.{gene}": values[number] for number in range(layers[side])}
        return SiteIndex(self.genes, ()).encode(dict(genes))


_HAT_LISTS = {
    "encoder-ffn-embed-dim-all-subtransformer": ("encoder", "ffn"),
    "encoder-self-attention-heads-all-subtransformer": ("encoder", "heads"),
    "decoder-ffn-embed-dim-all-subtransformer": ("decoder", "ffn"),
    "decoder-self-attention-heads-all-subtransformer": ("decoder", "self_heads"),
    "decoder-ende-attention-heads-all-subtransformer": ("decoder", "cross_heads"),
    "decoder-arbitrary-ende-attn-all-subtransformer": ("decoder", "attended"),
}


def _scalar(config: Mapping[str, int | Sequence[int]], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise GenomeError(f"{key} is {value!r}", "a HAT configuration holds one number there")
    return value


def transformer(
    part: str = "both", preset: str = "wmt14ende", source_length: int = 0, target_length: int = 0, vocabulary: int = 0
) -> TransformerSpace:
    """HAT's transformers (``transformer``): sizes by ``preset``; a length or vocabulary of 0 is the preset's.

    Presets are ``wmt14ende`` (30 tokens each way, 32,768 words), ``wmt14ende-latency`` (with the smaller feed-forward size
    and head number that HAT's latency data hold besides) and ``tiny`` (small enough to train in about a minute).
    Raises :class:`ArgumentError` for another preset or part, or a length or vocabulary below 2.
    """
    if preset not in PRESETS:
        raise ArgumentError(f"preset={preset!r} is no size of transformer", f"one of {', '.join(PRESETS)}")
    usual = PRESETS[preset]
    sizes = replace(
        usual,
        source_length=source_length or usual.source_length,
        target_length=target_length or usual.target_length,
        vocabulary=vocabulary or usual.vocabulary,
    )
    changed = [f"part={part}"] if part != "both" else []
    changed += [f"preset={preset}"] if preset != "wmt14ende" else []
    lengths = ("source_length", "target_length", "vocabulary")
    changed += [f"{name}={getattr(sizes, name)}" for name in lengths if getattr(sizes, name) != getattr(usual, name)]
    return TransformerSpace(f"transformer:{','.join(changed)}" if changed else "transformer", sizes, part)
