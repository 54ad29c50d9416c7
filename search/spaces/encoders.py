"""Elastic encoder transformers: BERT for sentences and ViT for images, as genes and sites.

The choices are those of Intel's DyNAS-T (``bert_base_sst2``: 6 to 12 layers; ``vit_base_imagenet``: 10 to 12), layer by
layer 6, 8, 10 or 12 heads and a feed-forward width of 1024, 2048 or 3072. The largest networks are BERT-base (Devlin et
al., NAACL 2019, arXiv:1810.04805) and ViT-B/16 (Dosovitskiy et al., ICLR 2021, arXiv:2010.11929).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerclock.errors import ArgumentError
from layerclock.network import Layer, TensorSpec
from layerclock.search.spaces.encoder_layer import EncoderSizes
from layerclock.search.spaces.naming import named
from layerclock.space import Gene, Site

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.networks.encoders import Bert, Vit
    from layerclock.search.supernet.elastic_encoder import ElasticEncoder

__all__ = ["BertSpace", "VitSpace", "bert", "digits_vit", "vit"]

TOKEN_TYPES = 2


@dataclass(frozen=True, slots=True)
class BertSpace:
    """Sub-networks of a BERT classifier for one sentence of ``length`` tokens, without padding.

    The table of positions has ``positions`` rows, of which the first ``length`` are read; the token type is always the
    first. Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    length: int
    classes: int
    vocabulary: int
    positions: int
    sizes: EncoderSizes

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.length, self.classes, self.vocabulary, self.positions))
        if not (whole and 1 <= self.length <= self.positions and self.classes >= 2 and self.vocabulary >= 2):
            raise ArgumentError(
                f"space {self.name!r}: length={self.length}, classes={self.classes}, vocabulary={self.vocabulary} is not a network",
                f"whole numbers: length 1 to {self.positions}, classes >= 2, vocabulary >= 2",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The one input, for batch 1: numbers of tokens, int64[1, length]."""
        return (TensorSpec((1, self.length), "int64"),)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The depth, then for each layer its heads and its feed-forward width."""
        return self.sizes.genes

    @property
    def sites(self) -> tuple[Site, ...]:
        """Embeddings, the layers, and the pooler of the first token with the classifier, in order of execution.

        Pooler and classifier are one site: OpenVINO runs them as one kernel where they are small.
        """
        hidden = self.sizes.hidden
        tokens = TensorSpec((1, self.length, hidden))
        rows = self.vocabulary + self.positions + TOKEN_TYPES
        embeddings = Layer(
            op="token_embeddings",
            inputs=self.inputs,
            outputs=(tokens,),
            attributes=(("positions", self.positions), ("vocabulary", self.vocabulary)),
            macs=0,
            params=rows * hidden + 2 * hidden,
        )
        head = Layer(
            op="pooled_classifier",
            inputs=(tokens,),
            outputs=(TensorSpec((1, self.classes)),),
            attributes=(("act", "tanh"),),
            macs=hidden**2 + hidden * self.classes,
            params=hidden**2 + hidden + (hidden + 1) * self.classes,
        )
        return Site("embeddings", (), (embeddings,)), *self.sizes.sites, Site("classifier", (), (head,))

    def build(self, genome: npt.ArrayLike) -> Bert:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.encoders import Bert

        return Bert(self, genome)

    def super_network(self) -> ElasticEncoder:
        """All sub-networks in one module that shares their weights. Needs torch."""
        from layerclock.search.supernet.elastic_encoder import ElasticEncoder

        return ElasticEncoder(self)


@dataclass(frozen=True, slots=True)
class VitSpace:
    """Sub-networks of a vision transformer with a class token, for square images.

    Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    resolution: int
    patch: int
    classes: int
    in_channels: int
    sizes: EncoderSizes

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.resolution, self.patch, self.classes, self.in_channels))
        if not (whole and self.patch >= 1 and self.resolution >= self.patch and self.classes >= 2 and self.in_channels >= 1):
            raise ArgumentError(
                f"space {self.name!r}: resolution={self.resolution}, patch={self.patch}, classes={self.classes}, "
                f"in_channels={self.in_channels} is not a network",
                "whole numbers: patch >= 1, resolution >= patch, classes >= 2, in_channels >= 1",
            )
        if self.resolution % self.patch or self.sizes.tokens != (self.resolution // self.patch) ** 2 + 1:
            raise ArgumentError(
                f"space {self.name!r}: {self.resolution} pixels are not a whole number of patches of {self.patch}",
                "resolution: a multiple of patch",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The one input, for batch 1."""
        return (TensorSpec((1, self.in_channels, self.resolution, self.resolution)),)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The depth, then for each layer its heads and its feed-forward width."""
        return self.sizes.genes

    @property
    def sites(self) -> tuple[Site, ...]:
        """Embeddings of the patches, the layers, and the normalised class token with the classifier, in order of execution."""
        hidden, length = self.sizes.hidden, self.sizes.tokens
        tokens = TensorSpec((1, length, hidden))
        weights = self.in_channels * self.patch**2 * hidden
        embeddings = Layer(
            op="patch_embeddings",
            inputs=self.inputs,
            outputs=(tokens,),
            attributes=(("patch", self.patch),),
            macs=weights * (length - 1),
            params=weights + hidden + hidden + length * hidden,
        )
        head = Layer(
            op="normed_classifier",
            inputs=(tokens,),
            outputs=(TensorSpec((1, self.classes)),),
            attributes=(),
            macs=hidden * self.classes,
            params=2 * hidden + (hidden + 1) * self.classes,
        )
        return Site("embeddings", (), (embeddings,)), *self.sizes.sites, Site("classifier", (), (head,))

    def build(self, genome: npt.ArrayLike) -> Vit:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.encoders import Vit

        return Vit(self, genome)

    def super_network(self) -> ElasticEncoder:
        """All sub-networks in one module that shares their weights. Needs torch."""
        from layerclock.search.supernet.elastic_encoder import ElasticEncoder

        return ElasticEncoder(self)


def bert(
    length: int = 128,
    classes: int = 2,
    vocabulary: int = 30522,
    hidden: int = 768,
    layers: int = 12,
    heads: int = 12,
    ffn: int = 3072,
) -> BertSpace:
    """BERT classifiers of half of ``layers`` to all of them (``bert``); the usual sizes are BERT-base's.

    Raises :class:`ArgumentError` if a parameter cannot be.
    """
    given = {
        "length": (length, 128),
        "classes": (classes, 2),
        "vocabulary": (vocabulary, 30522),
        "hidden": (hidden, 768),
        "layers": (layers, 12),
        "heads": (heads, 12),
        "ffn": (ffn, 3072),
    }
    sizes = EncoderSizes(length, hidden, layers, heads, ffn, -(-layers // 2), pre_norm=False)
    return BertSpace(named("bert", given), length, classes, vocabulary, 512, sizes)


def vit(
    resolution: int = 224,
    patch: int = 16,
    classes: int = 1000,
    in_channels: int = 3,
    hidden: int = 768,
    layers: int = 12,
    heads: int = 12,
    ffn: int = 3072,
) -> VitSpace:
    """Vision transformers that leave out up to two of their ``layers`` (``vit``); the usual sizes are ViT-B/16's.

    Raises :class:`ArgumentError` if a parameter cannot be.
    """
    given = {
        "resolution": (resolution, 224),
        "patch": (patch, 16),
        "classes": (classes, 1000),
        "in_channels": (in_channels, 3),
        "hidden": (hidden, 768),
        "layers": (layers, 12),
        "heads": (heads, 12),
        "ffn": (ffn, 3072),
    }
    if not (isinstance(patch, int) and patch >= 1):
        raise ArgumentError(f"space 'vit': patch={patch} is not a network", "a whole number from 1 on")
    sizes = EncoderSizes((resolution // patch) ** 2 + 1, hidden, layers, heads, ffn, max(1, layers - 2), pre_norm=True)
    return VitSpace(named("vit", given), resolution, patch, classes, in_channels, sizes)


def digits_vit() -> VitSpace:
    """Vision transformers that are small enough to train on scikit-learn's digits in a minute or two."""
    return vit(resolution=32, patch=8, classes=10, in_channels=1, hidden=64, layers=4, heads=4, ffn=192)
