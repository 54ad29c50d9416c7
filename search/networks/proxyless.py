"""The static network of one ProxylessNAS genome, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from layerclock.search.networks.classifier import PooledClassifier
from layerclock.search.networks.mobilenetv3 import ConvUnit, InvertedBottleneck, stage_modules

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from layerclock.search.spaces.proxyless import ProxylessSpace

__all__ = ["Proxyless"]

# That of once-for-all's weights for this space: with torch's usual 1e-5 they would mean another network.
_NORMALISATION_EPS = 1e-3


class Proxyless(nn.Module):
    """One sub-network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: ProxylessSpace, genome: npt.ArrayLike) -> None:
        super().__init__()
        self.stem = ConvUnit(space.stem)
        self.first_block = InvertedBottleneck(space.first_block)
        self.stage_names = []
        for name, stage in stage_modules(space.blocks(genome)).items():
            self.stage_names.append(name)
            self.add_module(name, stage)
        self.feature_mix = ConvUnit(space.feature_mix)
        self.classifier = PooledClassifier(space.feature_mix.out_channels, space.classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = _NORMALISATION_EPS

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, channels, side, side]."""
        x = self.first_block(self.stem(x))
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        out: torch.Tensor = self.classifier(self.feature_mix(x))
        return out
