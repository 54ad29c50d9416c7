"""What the spaces of once-for-all's MobileNets share (Cai et al., ICLR 2020, arXiv:1908.09791): stages of elastic blocks.

Each stage chooses its depth, and each of its blocks its depthwise kernel (3, 5, 7) and its expansion (3, 4, 6). What stands
before and after the stages is fixed; a subclass says what.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.search.spaces.inverted_bottleneck import EXPANSIONS, KERNELS, BlockSpec, ConvSpec, StageSpec, round_channels
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

__all__ = ["StagedSpace"]


@dataclass(frozen=True)
class StagedSpace(ABC):
    """Sub-networks of a super-network of elastic inverted bottlenecks, as genes and sites.

    ``width`` multiplies all channels (rounded to multiples of 8); ``resolution`` is the side of the square input.
    Raises :class:`ArgumentError` if a parameter cannot be.
    """

    name: str
    width: float = 1.0
    resolution: int = 224
    in_channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.resolution, self.in_channels, self.classes))
        if not (whole and 0 < self.width <= 8 and self.resolution >= 32 and self.in_channels > 0 and self.classes > 1):
            raise ArgumentError(
                f"space {self.name!r}: width={self.width}, resolution={self.resolution}, in_channels={self.in_channels}, "
                f"classes={self.classes} is not a network",
                "width in (0, 8]; whole numbers: resolution >= 32, in_channels >= 1, classes >= 2",
            )

    @property
    @abstractmethod
    def stem(self) -> ConvSpec:
        """The first convolution."""

    @property
    @abstractmethod
    def first_block(self) -> BlockSpec:
        """The fixed block before the stages."""

    @property
    @abstractmethod
    def elastic_stages(self) -> tuple[StageSpec, ...]:
        """The stages, with channels as they are at width 1."""

    @abstractmethod
    def head_sites(self, size: int) -> tuple[Site, ...]:
        """What follows the stages, whose last output has ``size`` x ``size`` pixels."""

    @abstractmethod
    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""

    def scaled(self, channels: int) -> int:
        """Channels at this width."""
        return round_channels(channels * self.width)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Shape and type of the one input, for batch 1."""
        return (TensorSpec((1, self.in_channels, self.resolution, self.resolution)),)

    def block(self, stage: int, block: int, kernel: int, expand: int) -> BlockSpec:
        """The block at position ``block`` (from 0) of ``stage`` (from 0)."""
        spec = self.elastic_stages[stage]
        before = self.scaled(self.elastic_stages[stage - 1].out_channels) if stage else self.first_block.out_channels
        incoming = before if block == 0 else self.scaled(spec.out_channels)
        return BlockSpec(
            in_channels=incoming,
            mid_channels=round_channels(round(incoming * expand)),
            out_channels=self.scaled(spec.out_channels),
            kernel=kernel,
            stride=spec.stride if block == 0 else 1,
            activation=spec.activation,
            squeeze_excite=spec.squeeze_excite,
        )

    @property
    def genes(self) -> tuple[Gene, ...]:
        """For each stage its depth (unless it has one only), then kernel and expansion of each of its blocks."""
        genes: list[Gene] = []
        for stage, spec in enumerate(self.elastic_stages):
            genes.extend(self._depth_genes(stage))
            for block in range(max(spec.depths)):
                genes.extend(self._block_genes(stage, block))
        return tuple(genes)

    def _depth_genes(self, stage: int) -> tuple[Gene, ...]:
        depths = self.elastic_stages[stage].depths
        return (Gene(f"stage{stage + 1}.depth", depths),) if len(depths) > 1 else ()

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
        for stage, spec in enumerate(self.elastic_stages):
            for block in range(max(spec.depths)):
                sites.append(self._block_site(stage, block, size))
                size = -(-size // spec.stride) if block == 0 else size
        return (*sites, *self.head_sites(size))

    def _block_site(self, stage: int, block: int, size: int) -> Site:
        name = f"stage{stage + 1}.block{block + 1}"
        genes = self._block_genes(stage, block)

        def always(kernel: int, expand: int) -> Layer:
            return self.block(stage, block, kernel, expand).layer(size)

        def from_depth(depth: int, kernel: int, expand: int) -> Layer | None:
            return always(kernel, expand) if block < depth else None

        if block < min(self.elastic_stages[stage].depths):
            return Site.of(name, genes, always)
        return Site.of(name, (*self._depth_genes(stage), *genes), from_depth)

    def blocks(self, genome: npt.ArrayLike) -> tuple[tuple[BlockSpec, ...], ...]:
        """The blocks of one genome, stage by stage. Raises :class:`GenomeError` for a genome of another space."""
        checked = iter(int(value) for value in SiteIndex(self.genes, ()).check(np.asarray(genome)[None])[0])
        stages: list[tuple[BlockSpec, ...]] = []
        for stage, spec in enumerate(self.elastic_stages):
            depth = spec.depths[next(checked) if len(spec.depths) > 1 else 0]
            chosen = [(KERNELS[next(checked)], EXPANSIONS[next(checked)]) for _ in range(max(spec.depths))]
            stages.append(tuple(self.block(stage, number, *chosen[number]) for number in range(depth)))
        return tuple(stages)

    def from_ofa(self, config: Mapping[str, Sequence[int]]) -> GenomeArray:
        """Genome int64[G] of a once-for-all configuration: ``{"ks": kernels, "e": expansions, "d": depths}``.

        A kernel and an expansion for every block of the deepest network, a depth for every stage. Raises
        :class:`GenomeError` if a list has another length or a value is none of the space's.
        """
        stages = self.elastic_stages
        blocks = sum(max(spec.depths) for spec in stages)
        if (len(config["ks"]), len(config["e"]), len(config["d"])) != (blocks, blocks, len(stages)):
            raise GenomeError(f"an OFA configuration needs {blocks} ks, {blocks} e and {len(stages)} d")
        values: list[int] = []
        chosen = iter(zip(config["ks"], config["e"], strict=True))
        try:
            for spec, depth in zip(stages, config["d"], strict=True):
                position = spec.depths.index(depth)
                values += [position] if len(spec.depths) > 1 else []
                for kernel, expand in (next(chosen) for _ in range(max(spec.depths))):
                    values += [KERNELS.index(kernel), EXPANSIONS.index(expand)]
        except ValueError as error:
            raise GenomeError(f"not an OFA configuration of {self.name!r}: {error}") from None
        return np.array(values, dtype=np.int64)
