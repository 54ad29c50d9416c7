"""The space of FBNet (Wu et al., CVPR 2019, arXiv:1812.03443): genes and sites.

22 blocks, each of which chooses one of nine candidates (table 2): kernel 3 or 5, expansion 1, 3 or 6, grouped 1x1 convolutions
with a channel shuffle, or to be skipped. Channels and strides are those of the macro-architecture in table 1. Where the paper
leaves a detail open, it is as in HW-NAS-Bench (Li et al., ICLR 2021, arXiv:2103.10584), whose networks were measured on many
devices: a skipped block that has to change the shape is a 1x1 convolution with normalisation and activation, an expansion of
1 keeps its first convolution, and the CIFAR layout halves the side three times only. Counts of multiply-accumulates cover
convolutions and the linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError, UnknownNameError
from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    import torch

__all__ = ["CANDIDATES", "LAYOUTS", "FBNetBlock", "FBNetSpace", "Layout", "PlainConv", "fbnet"]

# Kernel, expansion and groups of each candidate; a skipped block has none.
CANDIDATES: dict[str, tuple[int, int, int] | None] = {
    "k3_e1": (3, 1, 1),
    "k3_e1_g2": (3, 1, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1),
    "k5_e1_g2": (5, 1, 2),
    "k5_e3": (5, 3, 1),
    "k5_e6": (5, 6, 1),
    "skip": None,
}

_STEM_CHANNELS = 16
_STAGES = ((1, 16), (4, 24), (4, 32), (4, 64), (4, 112), (4, 184), (1, 352))  # blocks, channels


@dataclass(frozen=True, slots=True)
class Layout:
    """Strides of the stem and of each stage's first block, and the channels before the classifier."""

    stem_stride: int
    strides: tuple[int, ...]
    head_channels: int


LAYOUTS = {
    "imagenet": Layout(2, (1, 2, 2, 2, 1, 2, 1), 1984),
    "cifar": Layout(1, (1, 1, 2, 2, 1, 2, 1), 1504),
}


@dataclass(frozen=True, slots=True)
class PlainConv:
    """A convolution with normalisation and activation: the stem, the head, and a skipped block that changes the shape."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int

    def layer(self, size: int) -> Layer:
        """The layer on ``size`` x ``size`` pixels."""
        out_size = -(-size // self.stride)
        weights = self.in_channels * self.out_channels * self.kernel**2
        return Layer(
            op="conv",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(("act", "relu"), ("k", self.kernel), ("s", self.stride)),
            macs=weights * out_size**2,
            params=weights + 2 * self.out_channels,
        )


@dataclass(frozen=True, slots=True)
class FBNetBlock:
    """1x1 convolution (in groups, then shuffled), depthwise convolution, 1x1 convolution; figure 3 of the paper."""

    in_channels: int
    out_channels: int
    kernel: int
    expansion: int
    groups: int
    stride: int

    @property
    def mid_channels(self) -> int:
        """Channels of the depthwise convolution."""
        return self.in_channels * self.expansion

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def layer(self, size: int) -> Layer:
        """The layer on ``size`` x ``size`` pixels."""
        out_size, mid = -(-size // self.stride), self.mid_channels
        expand, project = self.in_channels * mid // self.groups, mid * self.out_channels // self.groups
        depthwise = mid * self.kernel**2
        return Layer(
            op="fbnet_block",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(("e", self.expansion), ("g", self.groups), ("k", self.kernel), ("s", self.stride)),
            macs=expand * size**2 + (depthwise + project) * out_size**2,
            params=expand + depthwise + project + 4 * mid + 2 * self.out_channels,
        )


@dataclass(frozen=True, slots=True)
class FBNetSpace:
    """All networks of one layout and resolution: a :class:`~layerclock.interfaces.SearchSpace`.

    Raises :class:`ArgumentError` for parameters of which no network can be made, and :class:`UnknownNameError` for an
    unknown layout.
    """

    name: str
    resolution: int = 224
    classes: int = 1000
    layout: str = "imagenet"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UnknownNameError("layout", str(self.layout), LAYOUTS)
        whole = all(isinstance(number, int) for number in (self.resolution, self.classes))
        if not (whole and self.resolution >= 8 and self.classes > 1):
            raise ArgumentError(
                f"space {self.name!r}: resolution={self.resolution}, classes={self.classes} is not a network",
                "whole numbers: resolution >= 8, classes >= 2",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Shape and type of the one input, for batch 1."""
        return (TensorSpec((1, 3, self.resolution, self.resolution)),)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The candidate of each block, from the first to the last."""
        names = [name for name, *_ in self._places()]
        return tuple(Gene(name, tuple(CANDIDATES)) for name in names)

    @property
    def stem(self) -> PlainConv:
        """The first convolution."""
        return PlainConv(3, _STEM_CHANNELS, 3, LAYOUTS[self.layout].stem_stride)

    @property
    def head(self) -> PlainConv:
        """The convolution before pooling and the classifier."""
        return PlainConv(_STAGES[-1][1], LAYOUTS[self.layout].head_channels, 1, 1)

    def _places(self) -> list[tuple[str, int, int, int]]:
        """Name, input channels, output channels and stride of each block."""
        places, incoming = [], _STEM_CHANNELS
        for stage, ((blocks, channels), stride) in enumerate(zip(_STAGES, LAYOUTS[self.layout].strides, strict=True), start=1):
            for block in range(1, blocks + 1):
                places.append((f"stage{stage}.block{block}", incoming, channels, stride if block == 1 else 1))
                incoming = channels
        return places

    @staticmethod
    def _block(candidate: str, incoming: int, channels: int, stride: int) -> FBNetBlock | PlainConv | None:
        chosen = CANDIDATES[candidate]
        if chosen is not None:
            kernel, expansion, groups = chosen
            return FBNetBlock(incoming, channels, kernel, expansion, groups, stride)
        return PlainConv(incoming, channels, 1, stride) if stride > 1 or incoming != channels else None

    @property
    def sites(self) -> tuple[Site, ...]:
        """Stem, blocks, head and classifier, in order of execution; a block that is skipped without a change of shape is nothing."""
        size = -(-self.resolution // self.stem.stride)
        sites = [Site("stem", (), (self.stem.layer(self.resolution),))]
        for gene, (name, incoming, channels, stride) in zip(self.genes, self._places(), strict=True):
            specs = [self._block(candidate, incoming, channels, stride) for candidate in CANDIDATES]
            sites.append(Site(name, (gene,), tuple(None if spec is None else spec.layer(size) for spec in specs)))
            size = -(-size // stride)
        last = self.head.out_channels
        classifier = Layer(
            op="pool_linear",
            inputs=(TensorSpec((1, last, size, size)),),
            outputs=(TensorSpec((1, self.classes)),),
            attributes=(),
            macs=last * self.classes,
            params=(last + 1) * self.classes,
        )
        return (*sites, Site("head", (), (self.head.layer(size),)), Site("classifier", (), (classifier,)))

    def blocks(self, genome: npt.ArrayLike) -> dict[str, FBNetBlock | PlainConv]:
        """The blocks that stand in the network of one genome, by the name of their site, in order of execution."""
        codes = self.from_op_codes(genome)
        candidates = list(CANDIDATES)
        specs = {place[0]: self._block(candidates[code], *place[1:]) for code, place in zip(codes, self._places(), strict=True)}
        return {name: spec for name, spec in specs.items() if spec is not None}

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.fbnet import FBNet

        return FBNet(self, genome)

    def from_op_codes(self, codes: npt.ArrayLike) -> GenomeArray:
        """Genome int64[22] of HW-NAS-Bench's operation indices, which number :data:`CANDIDATES` in their order.

        Raises :class:`GenomeError` for another length or an index that is none of theirs.
        """
        array = np.asarray(codes)
        if array.ndim != 1:
            raise GenomeError(f"operation indices of shape {array.shape} are not one network", "give 22 of them")
        genome: GenomeArray = SiteIndex(self.genes, ()).check(array[None])[0]
        return genome


def fbnet(resolution: int = 224, classes: int = 1000, layout: str = "imagenet") -> FBNetSpace:
    """FBNet's space (``fbnet``). HW-NAS-Bench's CIFAR-100 networks are ``fbnet:layout=cifar,resolution=32,classes=100``."""
    given = {"layout": (layout, "imagenet"), "resolution": (resolution, 224), "classes": (classes, 1000)}
    # The name says every parameter that differs from the usual, so that tables of variants never share a name.
    changed = ",".join(f"{key}={value}" for key, (value, usual) in given.items() if value != usual)
    return FBNetSpace(f"fbnet:{changed}" if changed else "fbnet", resolution, classes, layout)
