"""The elastic ProxylessNAS space of once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791): genes and sites.

Five stages of two to four inverted bottlenecks and a last one of a single block, all without squeeze-excite and with ReLU6,
as wide as the networks of ProxylessNAS (Cai et al., ICLR 2019, arXiv:1812.00332) times ``width``. Each of the 21 blocks
chooses its depthwise kernel (3, 5, 7) and its expansion (3, 4, 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerclock.search.spaces.inverted_bottleneck import BlockSpec, ConvSpec, StageSpec, classifier_layer
from layerclock.search.spaces.naming import named
from layerclock.search.spaces.staged import StagedSpace
from layerclock.space import Site

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

__all__ = ["ProxylessSpace", "ofa_proxyless"]


@dataclass(frozen=True)
class ProxylessSpace(StagedSpace):
    """A ProxylessNAS super-network's sub-networks as genes and sites; see :class:`StagedSpace` for the parameters."""

    stem_channels: int = 32
    first_channels: int = 16
    mix_channels: int = 1280
    stages: tuple[StageSpec, ...] = (
        StageSpec(24, 2, "relu6", False),
        StageSpec(40, 2, "relu6", False),
        StageSpec(80, 2, "relu6", False),
        StageSpec(96, 1, "relu6", False),
        StageSpec(192, 2, "relu6", False),
        StageSpec(320, 1, "relu6", False, depths=(1,)),
    )

    @property
    def stem(self) -> ConvSpec:
        """The first convolution."""
        return ConvSpec(self.in_channels, self.scaled(self.stem_channels), 3, 2, "relu6")

    @property
    def first_block(self) -> BlockSpec:
        """The fixed block before the stages; it never has a shortcut, be it as wide as the stem."""
        stem, out = self.scaled(self.stem_channels), self.scaled(self.first_channels)
        return BlockSpec(stem, stem, out, 3, 1, "relu6", False, shortcut=False)

    @property
    def elastic_stages(self) -> tuple[StageSpec, ...]:
        """The stages, with channels as they are at width 1."""
        return self.stages

    @property
    def feature_mix(self) -> ConvSpec:
        """The convolution between the last stage and the classifier."""
        return ConvSpec(self.scaled(self.stages[-1].out_channels), self.scaled(self.mix_channels), 1, 1, "relu6")

    def head_sites(self, size: int) -> tuple[Site, ...]:
        """The convolution and the pooling classifier, after stages that end with ``size`` x ``size`` pixels."""
        mix = self.feature_mix
        return (
            Site("feature_mix", (), (mix.layer(size),)),
            Site("classifier", (), (classifier_layer(mix.out_channels, self.classes, size),)),
        )

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.proxyless import Proxyless

        return Proxyless(self, genome)


def ofa_proxyless(width: float = 1.3, resolution: int = 224, in_channels: int = 3, classes: int = 1000) -> ProxylessSpace:
    """Once-for-all's ProxylessNAS space (``ofa-proxyless``)."""
    usual = {"width": (width, 1.3), "resolution": (resolution, 224), "in_channels": (in_channels, 3), "classes": (classes, 1000)}
    return ProxylessSpace(named("ofa-proxyless", usual), width, resolution, in_channels, classes)
