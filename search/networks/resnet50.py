"""The static network of one ResNet-50 genome, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.search.networks.classifier import PooledClassifier
from layerclock.search.networks.mobilenetv3 import ConvUnit
from layerclock.search.spaces.inverted_bottleneck import ConvSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.resnet50 import BottleneckSpec, ResNet50Space

__all__ = ["Bottleneck", "ResNet50", "ResidualConv"]


class ResidualConv(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.unit = ConvUnit(spec)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to the same shape."""
        out: torch.Tensor = self.unit(x) + x
        return out


class Bottleneck(nn.Module):
    """ResNet-D's block as :class:`BottleneckSpec` describes it."""

    def __init__(self, spec: BottleneckSpec) -> None:
        super().__init__()
        mid = spec.mid_channels
        self.reduce = ConvUnit(ConvSpec(spec.in_channels, mid, 1, 1, "relu"))
        self.spatial = ConvUnit(ConvSpec(mid, mid, 3, spec.stride, "relu"))
        self.expand = ConvUnit(ConvSpec(mid, spec.out_channels, 1, 1, ""))
        # Pooling over one pixel would be an operator that does nothing. What lies beyond an odd edge counts for no average,
        # as in once-for-all, whatever a runtime takes for granted: hence count_include_pad.
        pooled = nn.AvgPool2d(spec.stride, ceil_mode=True, count_include_pad=False) if spec.stride > 1 else nn.Identity()
        self.pool = pooled if spec.projected else nn.Identity()
        self.project = ConvUnit(ConvSpec(spec.in_channels, spec.out_channels, 1, 1, "")) if spec.projected else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, in, H, W] to float32[B, out, ceil(H / stride), ceil(W / stride)]."""
        out: torch.Tensor = self.act(self.expand(self.spatial(self.reduce(x))) + self.project(self.pool(x)))
        return out


class ResNet50(nn.Module):
    """One sub-network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: ResNet50Space, genome: npt.ArrayLike) -> None:
        super().__init__()
        specs = space.specs(genome)
        residual = {"residual": ResidualConv(specs.residual)} if specs.residual else {}
        self.stem = nn.Sequential(
            OrderedDict[str, nn.Module](
                first=ConvUnit(specs.first), **residual, last=ConvUnit(specs.last), pool=nn.MaxPool2d(3, stride=2, padding=1)
            )
        )
        self.stage_names = [f"stage{number}" for number in range(1, len(specs.stages) + 1)]
        for name, blocks in zip(self.stage_names, specs.stages, strict=True):
            stage = OrderedDict[str, nn.Module]((f"block{number}", Bottleneck(spec)) for number, spec in enumerate(blocks, 1))
            self.add_module(name, nn.Sequential(stage))
        self.classifier = PooledClassifier(specs.stages[-1][-1].out_channels, space.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, channels, side, side]."""
        x = self.stem(x)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        out: torch.Tensor = self.classifier(x)
        return out
