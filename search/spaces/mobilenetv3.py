"""The elastic MobileNetV3 space of once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791): genes and sites.

Five stages, each with two to four inverted-bottleneck blocks; each block chooses its depthwise kernel (3, 5, 7) and its
expansion (3, 4, 6). Stem, first block and head are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerclock.search.spaces.inverted_bottleneck import BlockSpec, ConvSpec, StageSpec, classifier_layer
from layerclock.search.spaces.naming import named
from layerclock.search.spaces.staged import StagedSpace
from layerclock.space import Site

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from layerclock.search.supernet.elastic import ElasticMobileNetV3

__all__ = ["DigitsSpace", "MobileNetV3Space", "digits_mobilenetv3", "ofa_mobilenetv3"]


@dataclass(frozen=True)
class MobileNetV3Space(StagedSpace):
    """A MobileNetV3 super-network's sub-networks as genes and sites; see :class:`StagedSpace` for the parameters."""

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

    @property
    def stem(self) -> ConvSpec:
        """The first convolution."""
        return ConvSpec(self.in_channels, self.scaled(self.stem_channels), 3, 2, "hswish")

    @property
    def first_block(self) -> BlockSpec:
        """The fixed block before the stages."""
        stem, out = self.scaled(self.stem_channels), self.scaled(self.first_channels)
        return BlockSpec(stem, stem, out, 3, 1, "relu", False)

    @property
    def elastic_stages(self) -> tuple[StageSpec, ...]:
        """The stages, with channels as they are at width 1."""
        return self.stages

    @property
    def head(self) -> tuple[ConvSpec, ConvSpec]:
        """The convolutions between the last stage and the classifier."""
        final = self.scaled(self.final_channels)
        last = self.scaled(self.stages[-1].out_channels)
        return (
            ConvSpec(last, final, 1, 1, "hswish"),
            ConvSpec(final, self.scaled(self.mix_channels), 1, 1, "hswish", normalised=False, pooled=True),
        )

    def head_sites(self, size: int) -> tuple[Site, ...]:
        """The two convolutions and the classifier, after stages that end with ``size`` x ``size`` pixels."""
        final, mix = self.head
        return (
            Site("final_expand", (), (final.layer(size),)),
            Site("feature_mix", (), (mix.layer(size),)),
            Site("classifier", (), (classifier_layer(mix.out_channels, self.classes),)),
        )

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.mobilenetv3 import MobileNetV3

        return MobileNetV3(self, genome)

    def super_network(self) -> ElasticMobileNetV3:
        """All sub-networks in one module that shares their weights. Needs torch."""
        from layerclock.search.supernet.elastic import ElasticMobileNetV3

        return ElasticMobileNetV3(self)


@dataclass(frozen=True)
class DigitsSpace(MobileNetV3Space):
    """The space whose networks read scikit-learn's digits."""

    def real_inputs(self, count: int) -> tuple[npt.NDArray[Any], ...]:
        """Training digits as a training batch sees them, float32[n, channels, side, side]. Needs torch and scikit-learn."""
        import torch

        from layerclock.search.supernet.digits import load_digits_data

        digits = load_digits_data(self.resolution).distorted(slice(0, count), torch.Generator().manual_seed(0))
        return (digits.expand(-1, self.in_channels, -1, -1).numpy().copy(),)


def ofa_mobilenetv3(width: float = 1.0, resolution: int = 224, in_channels: int = 3, classes: int = 1000) -> MobileNetV3Space:
    """Once-for-all's MobileNetV3 space (``ofa-mobilenetv3``)."""
    usual = {"width": (width, 1.0), "resolution": (resolution, 224), "in_channels": (in_channels, 3), "classes": (classes, 1000)}
    return MobileNetV3Space(named("ofa-mobilenetv3", usual), width, resolution, in_channels, classes)


def digits_mobilenetv3(width: float = 0.5, resolution: int = 64, in_channels: int = 1, classes: int = 10) -> DigitsSpace:
    """The same space, small enough to train on scikit-learn's digits in about a minute (``digits-mobilenetv3``)."""
    usual = {"width": (width, 0.5), "resolution": (resolution, 64), "in_channels": (in_channels, 1), "classes": (classes, 10)}
    return DigitsSpace(
        named("digits-mobilenetv3", usual),
        width,
        resolution,
        in_channels,
        classes,
        final_channels=320,
        mix_channels=320,
    )
