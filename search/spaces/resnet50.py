"""The elastic ResNet-50 space of once-for-all (OFA-ResNet50; Cai et al., ICLR 2020, arXiv:1908.09791): genes and sites.

A ResNet-D (He et al., CVPR 2019, arXiv:1812.01187): three convolutions as the stem, the middle one a residual that may be
left out, and average pooling before the projections of the shortcuts. Four stages of bottlenecks choose how many blocks they
have beyond 2, 2, 4 and 2 (none, one, two) and how wide they are (0.65, 0.8, 1); so do both widths of the stem; each of the 18
blocks chooses the share of its width that it computes inside (0.2, 0.25, 0.35).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.search.spaces.inverted_bottleneck import ConvSpec, classifier_layer, round_channels
from layerclock.search.spaces.naming import named
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

__all__ = ["BottleneckSpec", "ResNet50Space", "ResNetSpecs", "ofa_resnet50"]

EXTRA_BLOCKS = (0, 1, 2)
EXPANSIONS = (0.2, 0.25, 0.35)
WIDTHS = (0.65, 0.8, 1.0)
# As once-for-all writes the depth of the stem: below the largest depth, its residual is skipped.
STEM_DEPTHS = (0, 2)
STRIDES = (1, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class BottleneckSpec:
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, which is ``projected`` where a stage begins."""

    in_channels: int
    mid_channels: int
    out_channels: int
    stride: int
    projected: bool

    def layer(self, size: int) -> Layer:
        """The layer on an input of ``size`` x ``size`` pixels."""
        out_size = -(-size // self.stride)
        reduce, expand = self.in_channels * self.mid_channels, self.mid_channels * self.out_channels
        spatial = 9 * self.mid_channels**2
        project = self.in_channels * self.out_channels if self.projected else 0
        normalisation = 2 * (2 * self.mid_channels + self.out_channels * (2 if self.projected else 1))
        return Layer(
            op="bottleneck",
            inputs=(TensorSpec((1, self.in_channels, size, size)),),
            outputs=(TensorSpec((1, self.out_channels, out_size, out_size)),),
            attributes=(("mid", self.mid_channels), ("projected", self.projected), ("s", self.stride)),
            macs=reduce * size**2 + (spatial + expand + project) * out_size**2,
            params=reduce + spatial + expand + project + normalisation,
        )


@dataclass(frozen=True, slots=True)
class ResNetSpecs:
    """What one genome stands for: the stem's convolutions (``residual`` is None where it is skipped) and the stages' blocks."""

    first: ConvSpec
    residual: ConvSpec | None
    last: ConvSpec
    stages: tuple[tuple[BottleneckSpec, ...], ...]


@dataclass(frozen=True)
class ResNet50Space:
    """OFA-ResNet50's sub-networks as genes and sites.

    ``resolution`` is the side of the square input; ``stem_channels``, ``stage_channels`` and ``base_blocks`` are those of the
    widest and of the shallowest network. Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    resolution: int = 224
    in_channels: int = 3
    classes: int = 1000
    stem_channels: int = 64
    stage_channels: tuple[int, ...] = (256, 512, 1024, 2048)
    base_blocks: tuple[int, ...] = (2, 2, 4, 2)

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.resolution, self.in_channels, self.classes))
        if not (whole and self.resolution >= 32 and self.in_channels > 0 and self.classes > 1):
            raise ArgumentError(
                f"space {self.name!r}: resolution={self.resolution}, in_channels={self.in_channels}, classes={self.classes} "
                "is not a network",
                "whole numbers: resolution >= 32, in_channels >= 1, classes >= 2",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Shape and type of the one input, for batch 1."""
        return (TensorSpec((1, self.in_channels, self.resolution, self.resolution)),)

    def blocks_of(self, stage: int) -> int:
        """How many blocks ``stage`` (from 0) has at most."""
        return self.base_blocks[stage] + max(EXTRA_BLOCKS)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The stem's depth and widths; for each stage its depth, its width, and the expansion of each of its blocks."""
        genes = [self._stem_depth, *self._stem_widths]
        for stage in range(len(self.stage_channels)):
            genes += [self._depth(stage), self._width(stage)]
            genes += [self._expand(stage, block) for block in range(self.blocks_of(stage))]
        return tuple(genes)

    @property
    def _stem_depth(self) -> Gene:
        return Gene("stem.depth", STEM_DEPTHS)

    @property
    def _stem_widths(self) -> tuple[Gene, Gene]:
        return Gene("stem.inner_width", WIDTHS), Gene("stem.width", WIDTHS)

    @staticmethod
    def _depth(stage: int) -> Gene:
        return Gene(f"stage{stage + 1}.extra", EXTRA_BLOCKS)

    @staticmethod
    def _width(stage: int) -> Gene:
        return Gene(f"stage{stage + 1}.width", WIDTHS)

    @staticmethod
    def _expand(stage: int, block: int) -> Gene:
        return Gene(f"stage{stage + 1}.block{block + 1}.expand", EXPANSIONS)

    def stem_specs(self, inner_width: float, width: float) -> tuple[ConvSpec, ConvSpec, ConvSpec]:
        """The stem's convolutions: the first, the residual, the last."""
        inner = round_channels(round_channels(self.stem_channels * inner_width) // 2)
        return (
            ConvSpec(self.in_channels, inner, 3, 2, "relu"),
            ConvSpec(inner, inner, 3, 1, "relu"),
            ConvSpec(inner, round_channels(self.stem_channels * width), 3, 1, "relu"),
        )

    def block(self, stage: int, block: int, before: float, width: float, expand: float) -> BottleneckSpec:
        """The block at position ``block`` of ``stage`` (both from 0); ``before`` is the width of the stage or stem before."""
        out = round_channels(self.stage_channels[stage] * width)
        earlier = self.stage_channels[stage - 1] if stage else self.stem_channels
        return BottleneckSpec(
            in_channels=round_channels(earlier * before) if block == 0 else out,
            mid_channels=round_channels(round(out * expand)),
            out_channels=out,
            stride=STRIDES[stage] if block == 0 else 1,
            projected=block == 0,
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        """The stem with its pooling, the blocks of the stages, and the classifier, in order of execution."""
        half = -(-self.resolution // 2)
        depth, (inner, outer) = self._stem_depth, self._stem_widths

        def residual(kept: int, width: float) -> Layer | None:
            return _residual_conv(self.stem_specs(width, 1.0)[1], half) if kept == max(STEM_DEPTHS) else None

        sites = [
            Site.of("stem.first", (inner,), lambda width: self.stem_specs(width, 1.0)[0].layer(self.resolution)),
            Site.of("stem.residual", (depth, inner), residual),
            Site.of("stem.last", (inner, outer), lambda width, last: self.stem_specs(width, last)[2].layer(half)),
            Site.of("stem.pool", (outer,), lambda width: _max_pool(round_channels(self.stem_channels * width), half)),
        ]
        size = -(-half // 2)
        before = outer
        for stage, stride in enumerate(STRIDES):
            for block in range(self.blocks_of(stage)):
                sites.append(self._block_site(stage, block, before, size))
                size = -(-size // stride) if block == 0 else size
            before = self._width(stage)
        last = self.stage_channels[-1]
        sites.append(Site.of("classifier", (before,), lambda width: classifier_layer(round_channels(last * width), self.classes, size)))
        return tuple(sites)

    def _block_site(self, stage: int, block: int, before: Gene, size: int) -> Site:
        name = f"stage{stage + 1}.block{block + 1}"
        width, expand = self._width(stage), self._expand(stage, block)

        def first(*values: float) -> Layer:
            return self.block(stage, block, *values).layer(size)

        def later(wide: float, share: float) -> Layer:
            return self.block(stage, block, 1.0, wide, share).layer(size)

        def extra(more: int, wide: float, share: float) -> Layer | None:
            return later(wide, share) if block < self.base_blocks[stage] + more else None

        if block == 0:
            return Site.of(name, (before, width, expand), first)
        if block < self.base_blocks[stage]:
            return Site.of(name, (width, expand), later)
        return Site.of(name, (self._depth(stage), width, expand), extra)

    def specs(self, genome: npt.ArrayLike) -> ResNetSpecs:
        """What stands in the network of one genome. Raises :class:`GenomeError` for a genome of another space."""
        row = SiteIndex(self.genes, ()).check(np.asarray(genome)[None])[0]
        chosen = {gene.name: gene.choices[int(value)] for gene, value in zip(self.genes, row, strict=True)}

        def share(gene: Gene) -> float:
            return float(chosen[gene.name])

        inner, before = map(share, self._stem_widths)
        first, residual, last = self.stem_specs(inner, before)
        stages = []
        for stage, base in enumerate(self.base_blocks):
            width = share(self._width(stage))
            number = base + int(share(self._depth(stage)))
            stages.append(tuple(self.block(stage, block, before, width, share(self._expand(stage, block))) for block in range(number)))
            before = width
        return ResNetSpecs(first, residual if share(self._stem_depth) == max(STEM_DEPTHS) else None, last, tuple(stages))

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.resnet50 import ResNet50

        return ResNet50(self, genome)

    def from_ofa(self, config: Mapping[str, Sequence[float]]) -> GenomeArray:
        """Genome int64[G] of a once-for-all configuration: ``{"d": 5 depths, "e": 18 expansions, "w": 6 widths}``.

        The first depth is the stem's; the widths are positions in (0.65, 0.8, 1), those of the stem first. Raises
        :class:`GenomeError` if a list has another length or a value is none of the space's.
        """
        stages = len(self.base_blocks)
        blocks = sum(self.blocks_of(stage) for stage in range(stages))
        if (len(config["d"]), len(config["e"]), len(config["w"])) != (stages + 1, blocks, stages + 2):
            raise GenomeError(f"an OFA configuration needs {stages + 1} d, {blocks} e and {stages + 2} w")
        places, shares = tuple(range(len(WIDTHS))), iter(config["e"])
        try:
            values = [STEM_DEPTHS.index(config["d"][0]), places.index(config["w"][0]), places.index(config["w"][1])]
            for stage in range(stages):
                values += [EXTRA_BLOCKS.index(config["d"][stage + 1]), places.index(config["w"][stage + 2])]
                values += [EXPANSIONS.index(next(shares)) for _ in range(self.blocks_of(stage))]
        except ValueError as error:
            raise GenomeError(f"not an OFA-ResNet50 configuration: {error}") from None
        return np.array(values, dtype=np.int64)


def _residual_conv(spec: ConvSpec, size: int) -> Layer:
    plain = spec.layer(size)
    return Layer("residual_conv", plain.inputs, plain.outputs, plain.attributes, plain.macs, plain.params)


def _max_pool(channels: int, size: int) -> Layer:
    shapes = [(TensorSpec((1, channels, side, side)),) for side in (size, -(-size // 2))]
    return Layer("max_pool", shapes[0], shapes[1], (("k", 3), ("s", 2)), 0, 0)


def ofa_resnet50(resolution: int = 224, in_channels: int = 3, classes: int = 1000) -> ResNet50Space:
    """Once-for-all's ResNet-50 space (``ofa-resnet50``)."""
    usual = {"resolution": (resolution, 224), "in_channels": (in_channels, 3), "classes": (classes, 1000)}
    return ResNet50Space(named("ofa-resnet50", usual), resolution, in_channels, classes)
