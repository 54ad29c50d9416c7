"""The static network of one MobileNetV3 genome, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.search.networks.depthwise import DepthwiseConv2d
from layerclock.search.spaces.inverted_bottleneck import ConvSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.inverted_bottleneck import BlockSpec
    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space

__all__ = ["ACTIVATIONS", "ConvUnit", "InvertedBottleneck", "MobileNetV3", "SqueezeExcite", "stage_modules"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish}


class ConvUnit(nn.Module):
    """Convolution, then normalisation and activation where the specification has them."""

    def __init__(self, spec: ConvSpec, depthwise: bool = False) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1) if spec.pooled else nn.Identity()
        self.conv: nn.Conv2d
        if depthwise:
            self.conv = DepthwiseConv2d(spec.out_channels, spec.kernel, spec.stride)
        else:
            self.conv = nn.Conv2d(spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(spec.out_channels) if spec.normalised else nn.Identity()
        self.act = ACTIVATIONS[spec.activation]() if spec.activation else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, in, H, W] to float32[B, out, H / stride, W / stride]; H and W become 1 where it is pooled."""
        out: torch.Tensor = self.act(self.norm(self.conv(self.pool(x))))
        return out


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., 2018) with MobileNetV3's hard sigmoid."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to the same shape."""
        gate: torch.Tensor = self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))
        return x * gate


class InvertedBottleneck(nn.Module):
    """MobileNetV3's block as :class:`BlockSpec` describes it."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        mid = spec.mid_channels
        self.spec = spec
        self.expand: nn.Module = nn.Identity()
        if mid != spec.in_channels:
            self.expand = ConvUnit(ConvSpec(spec.in_channels, mid, 1, 1, spec.activation))
        self.depthwise = ConvUnit(ConvSpec(mid, mid, spec.kernel, spec.stride, spec.activation), depthwise=True)
        self.excite = SqueezeExcite(mid, spec.squeezed_channels) if spec.squeeze_excite else nn.Identity()
        self.project = ConvUnit(ConvSpec(mid, spec.out_channels, 1, 1, ""))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, in, H, W] to float32[B, out, H / stride, W / stride]."""
        out: torch.Tensor = self.project(self.excite(self.depthwise(self.expand(x))))
        return out + x if self.spec.residual else out


def stage_modules(stages: tuple[tuple[BlockSpec, ...], ...]) -> dict[str, nn.Sequential]:
    """The blocks of each stage, by the names of their sites: ``stage1`` with ``block1``, ``block2``, ..."""
    return {
        f"stage{stage}": nn.Sequential(OrderedDict((f"block{number}", InvertedBottleneck(spec)) for number, spec in enumerate(specs, 1)))
        for stage, specs in enumerate(stages, 1)
    }


class MobileNetV3(nn.Module):
    """One sub-network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: MobileNetV3Space, genome: npt.ArrayLike) -> None:
        super().__init__()
        self.stem = ConvUnit(space.stem)
        self.first_block = InvertedBottleneck(space.first_block)
        self.stage_names = []
        for name, stage in stage_modules(space.blocks(genome)).items():
            self.stage_names.append(name)
            self.add_module(name, stage)
        final, mix = space.head
        self.final_expand = ConvUnit(final)
        self.feature_mix = ConvUnit(mix)
        self.classifier = nn.Linear(mix.out_channels, space.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, channels, side, side]."""
        x = self.first_block(self.stem(x))
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        x = self.feature_mix(self.final_expand(x))
        out: torch.Tensor = self.classifier(x.flatten(1))
        return out
