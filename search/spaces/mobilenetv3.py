"""The elastic MobileNetV3 space of once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791): genes and sites.

Five stages, each with two to four inverted-bottleneck blocks; each block chooses its depthwise kernel (3, 5, 7) and its
expansion (3, 4, 6). Stem, first block and head are fixed. Counts of multiply-accumulates follow the convention of
once-for-all's tools: convolutions and linear layers, without biases, normalisation, activations and pooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from layerclock.search.supernet.elastic import ElasticMobileNetV3

__all__ = ["BlockSpec", "ConvSpec", "MobileNetV3Space", "StageSpec", "digits_mobilenetv3", "ofa_mobilenetv3", "round_channels"]

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, but never below 90 % of ``channels`` (as in MobileNet's reference code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What the blocks of one stage share."""

    out_channels: int
    stride: int
    activation: str
    squeeze_excite: bool


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A convolution with its normalisation and activation; ``pooled`` means that global average pooling comes first."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    normalised: bool = True
    pooled: bool = False

    def layer(self, size: int) -> Layer:
        """The layer on an input of ``size`` x ``size`` pixels."""
        out_size = 1 if self.pooled else -(-size // self.stride)
        weights = self.in_channels * self.out_channels * self.kernel**2
        return Layer(
            op="pool_conv" if self.pooled else "conv",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(("act", self.activation), ("k", self.kernel), ("s", self.stride)),
            macs=weights * out_size**2,
            params=weights + (2 * self.out_channels if self.normalised else 0),
        )


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """An inverted bottleneck: expand (unless ``mid_channels == in_channels``), depthwise, squeeze-excite, project."""

    in_channels: int
    mid_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    squeeze_excite: bool

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def squeezed_channels(self) -> int:
        """Channels inside squeeze-excite, 0 without it."""
        return round_channels(self.mid_channels // 4) if self.squeeze_excite else 0

    def layer(self, size: int) -> Layer:
        """The layer on an input of ``size`` x ``size`` pixels."""
        out_size = -(-size // self.stride)
        mid, squeezed = self.mid_channels, self.squeezed_channels
        expand = self.in_channels * mid if mid != self.in_channels else 0
        depthwise, project = mid * self.kernel**2, mid * self.out_channels
        excite = 2 * mid * squeezed
        normalisation = 2 * (mid * (2 if expand else 1) + self.out_channels)
        return Layer(
            op="mbconv",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(
                ("act", self.activation),
                ("k", self.kernel),
                ("mid", mid),
                ("s", self.stride),
                ("se", squeezed),
            ),
            macs=expand * size**2 + (depthwise + project) * out_size**2 + excite,
            params=expand + depthwise + project + normalisation + excite + (squeezed + mid if squeezed else 0),
        )


@dataclass(frozen=True)
class MobileNetV3Space:
    """A MobileNetV3 super-network's sub-networks as genes and sites.

    ``width`` multiplies all channels (rounded to multiples of 8); ``resolution`` is the side of the square input.
    Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    width: float = 1.0
    resolution: int = 224
    in_channels: int = 3
    classes: int = 1000
    stem_channels: int = 16
    first_channels: int = 16
    final_channels: int = 960
    mix_channels: int = 1280
    stages: tuple[StageSpec, ...] = (
        StageSpec(24, 2, "relu", False),
        StageSpec(40, 2, "relu", True),
        StageSpec(80, 2, "hswish", False),
        StageSpec(112, 1, "hswish", True),
        StageSpec(160, 2, "hswish", True),
    )

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.resolution, self.in_channels, self.classes))
        if not (whole and 0 < self.width <= 8 and self.resolution >= 32 and self.in_channels > 0 and self.classes > 1):
            raise ArgumentError(
                f"space {self.name!r}: width={self.width}, resolution={self.resolution}, in_channels={self.in_channels}, "
                f"classes={self.classes} is not a network",
                "width in (0, 8]; whole numbers: resolution >= 32, in_channels >= 1, classes >= 2",
            )

    def _scaled(self, channels: int) -> int:
        return round_channels(channels * self.width)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Shape and type of the one input, for batch 1."""
        return (TensorSpec((1, self.in_channels, self.resolution, self.resolution)),)

    @property
    def stem(self) -> ConvSpec:
        """The first convolution."""
        return ConvSpec(self.in_channels, self._scaled(self.stem_channels), 3, 2, "hswish")

    @property
    def first_block(self) -> BlockSpec:
        """The fixed block before the stages."""
        stem, out = self._scaled(self.stem_channels), self._scaled(self.first_channels)
        return BlockSpec(stem, stem, out, 3, 1, "relu", False)

    @property
    def head(self) -> tuple[ConvSpec, ConvSpec]:
        """The convolutions between the last stage and the classifier."""
        final = self._scaled(self.final_channels)
        last = self._scaled(self.stages[-1].out_channels)
        return (
            ConvSpec(last, final, 1, 1, "hswish"),
            ConvSpec(final, self._scaled(self.mix_channels), 1, 1, "hswish", normalised=False, pooled=True),
        )

    def block(self, stage: int, block: int, kernel: int, expand: int) -> BlockSpec:
        """The block at position ``block`` (from 0) of ``stage`` (from 0)."""
        spec = self.stages[stage]
        before = self.stages[stage - 1].out_channels if stage else self.first_channels
        incoming = self._scaled(before if block == 0 else spec.out_channels)
        return BlockSpec(
            in_channels=incoming,
            mid_channels=round_channels(round(incoming * expand)),
            out_channels=self._scaled(spec.out_channels),
            kernel=kernel,
            stride=spec.stride if block == 0 else 1,
            activation=spec.activation,
            squeeze_excite=spec.squeeze_excite,
        )

    @property
    def genes(self) -> tuple[Gene, ...]:
        """For each stage its depth, then kernel and expansion of each of its blocks."""
        genes: list[Gene] = []
        for stage in range(len(self.stages)):
            genes.append(self._depth_gene(stage))
            for block in range(max(DEPTHS)):
                genes.extend(self._block_genes(stage, block))
        return tuple(genes)

    @staticmethod
    def _depth_gene(stage: int) -> Gene:
        return Gene(f"stage{stage + 1}.depth", DEPTHS)

    @staticmethod
    def _block_genes(stage: int, block: int) -> tuple[Gene, Gene]:
        place = f"stage{stage + 1}.block{block + 1}"
        return Gene(f"{place}.kernel", KERNELS), Gene(f"{place}.expand", EXPANSIONS)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Stem, first block, the blocks of the stages, and the head, in order of execution."""
        size = -(-self.resolution // self.stem.stride)
        sites = [
            Site("stem", (), (self.stem.layer(self.resolution),)),
            Site("first_block", (), (self.first_block.layer(size),)),
        ]
        for stage, spec in enumerate(self.stages):
            for block in range(max(DEPTHS)):
                sites.append(self._block_site(stage, block, size))
                size = -(-size // spec.stride) if block == 0 else size
        final, mix = self.head
        classifier = Layer(
            op="linear",
            inputs=(TensorSpec((1, mix.out_channels)),),
            outputs=(TensorSpec((1, self.classes)),),
            attributes=(),
            macs=mix.out_channels * self.classes,
            params=(mix.out_channels + 1) * self.classes,
        )
        return (
            *sites,
            Site("final_expand", (), (final.layer(size),)),
            Site("feature_mix", (), (mix.layer(size),)),
            Site("classifier", (), (classifier,)),
        )

    def _block_site(self, stage: int, block: int, size: int) -> Site:
        name = f"stage{stage + 1}.block{block + 1}"
        genes = self._block_genes(stage, block)

        def always(kernel: int, expand: int) -> Layer:
            return self.block(stage, block, kernel, expand).layer(size)

        def from_depth(depth: int, kernel: int, expand: int) -> Layer | None:
            return always(kernel, expand) if block < depth else None

        if block < min(DEPTHS):
            return Site.of(name, genes, always)
        return Site.of(name, (self._depth_gene(stage), *genes), from_depth)

    def blocks(self, genome: npt.ArrayLike) -> tuple[tuple[BlockSpec, ...], ...]:
        """The blocks of one genome, stage by stage."""
        checked = iter(int(value) for value in SiteIndex(self.genes, ()).check(np.asarray(genome)[None])[0])
        stages: list[tuple[BlockSpec, ...]] = []
        for stage in range(len(self.stages)):
            depth = DEPTHS[next(checked)]
            chosen = [(KERNELS[next(checked)], EXPANSIONS[next(checked)]) for _ in range(max(DEPTHS))]
            stages.append(tuple(self.block(stage, number, *chosen[number]) for number in range(depth)))
        return tuple(stages)

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.mobilenetv3 import MobileNetV3

        return MobileNetV3(self, genome)

    def super_network(self) -> ElasticMobileNetV3:
        """All sub-networks in one module that shares their weights. Needs torch."""
        from layerclock.search.supernet.elastic import ElasticMobileNetV3

        return ElasticMobileNetV3(self)

    def from_ofa(self, config: Mapping[str, Sequence[int]]) -> GenomeArray:
        """Genome int64[G] of a once-for-all configuration: ``{"ks": 20 kernels, "e": 20 expansions, "d": 5 depths}``.

        Raises :class:`GenomeError` if a list has another length or a value is none of the space's.
        """
        blocks = len(self.stages) * max(DEPTHS)
        if (len(config["ks"]), len(config["e"]), len(config["d"])) != (blocks, blocks, len(self.stages)):
            raise GenomeError(f"an OFA configuration needs {blocks} ks, {blocks} e and {len(self.stages)} d")
        values: list[int] = []
        try:
            for stage, depth in enumerate(config["d"]):
                values.append(DEPTHS.index(depth))
                for number in range(stage * max(DEPTHS), (stage + 1) * max(DEPTHS)):
                    values += [KERNELS.index(config["ks"][number]), EXPANSIONS.index(config["e"][number])]
        except ValueError as error:
            raise GenomeError(f"not an OFA-MobileNetV3 configuration: {error}") from None
        return np.array(values, dtype=np.int64)


def ofa_mobilenetv3(width: float = 1.0, resolution: int = 224, in_channels: int = 3, classes: int = 1000) -> MobileNetV3Space:
    """Once-for-all's MobileNetV3 space (``ofa-mobilenetv3``)."""
    usual = {"width": (width, 1.0), "resolution": (resolution, 224), "in_channels": (in_channels, 3), "classes": (classes, 1000)}
    return MobileNetV3Space(_named("ofa-mobilenetv3", usual), width, resolution, in_channels, classes)


def digits_mobilenetv3(width: float = 0.5, resolution: int = 64, in_channels: int = 1, classes: int = 10) -> MobileNetV3Space:
    """The same space, small enough to train on scikit-learn's digits in about a minute (``digits-mobilenetv3``)."""
    usual = {"width": (width, 0.5), "resolution": (resolution, 64), "in_channels": (in_channels, 1), "classes": (classes, 10)}
    return MobileNetV3Space(
        _named("digits-mobilenetv3", usual),
        width,
        resolution,
        in_channels,
        classes,
        final_channels=320,
        mix_channels=320,
    )


def _named(name: str, given: dict[str, tuple[float, float]]) -> str:
    """The name says every parameter that differs from the usual, so that tables of variants never share a name."""
    changed = [f"{key}={value:g}" for key, (value, usual) in given.items() if value != usual]
    return f"{name}:{','.join(changed)}" if changed else name
