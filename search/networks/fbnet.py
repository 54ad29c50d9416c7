"""The static network of one FBNet genome, with modules named after the space's sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.search.networks.depthwise import DepthwiseConv2d
from layerclock.search.spaces.fbnet import FBNetBlock

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.fbnet import FBNetSpace, PlainConv

__all__ = ["Block", "FBNet", "Shuffle"]


class Shuffle(nn.Module):
    """Deals the channels of the groups out in turn, so that the next grouped convolution sees all of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to the same shape."""
        number, channels, height, width = x.shape
        dealt = x.view(number, self.groups, channels // self.groups, height, width).transpose(1, 2)
        return dealt.reshape(number, channels, height, width)


class Block(nn.Module):
    """One candidate that is not skipped, as :class:`FBNetBlock` describes it."""

    def __init__(self, spec: FBNetBlock) -> None:
        super().__init__()
        mid = spec.mid_channels
        self.spec = spec
        self.expand = nn.Sequential(nn.Conv2d(spec.in_channels, mid, 1, groups=spec.groups, bias=False), nn.BatchNorm2d(mid), nn.ReLU())
        self.shuffle = Shuffle(spec.groups) if spec.groups > 1 else nn.Identity()
        self.depthwise = nn.Sequential(DepthwiseConv2d(mid, spec.kernel, spec.stride), nn.BatchNorm2d(mid), nn.ReLU())
        self.project = nn.Sequential(
            nn.Conv2d(mid, spec.out_channels, 1, groups=spec.groups, bias=False), nn.BatchNorm2d(spec.out_channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, in, H, W] to float32[B, out, H / stride, W / stride]."""
        out: torch.Tensor = self.project(self.depthwise(self.shuffle(self.expand(x))))
        return out + x if self.spec.residual else out


class FBNet(nn.Module):
    """One network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, space: FBNetSpace, genome: npt.ArrayLike) -> None:
        super().__init__()
        self.stem = _plain_conv(space.stem)
        self.stages: list[str] = []
        for name, spec in space.blocks(genome).items():
            stage, block = name.split(".")
            if stage not in self.stages:
                self.stages.append(stage)
                self.add_module(stage, nn.Sequential())
            self.get_submodule(stage).add_module(block, Block(spec) if isinstance(spec, FBNetBlock) else _plain_conv(spec))
        self.head = _plain_conv(space.head)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(space.head.out_channels, space.classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32[B, classes] of images float32[B, 3, side, side]."""
        x = self.stem(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        out: torch.Tensor = self.classifier(self.head(x))
        return out


def _plain_conv(spec: PlainConv) -> nn.Sequential:
    """Float32[B, in, H, W] to float32[B, out, H / stride, W / stride]."""
    return nn.Sequential(
        nn.Conv2d(spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.kernel // 2, bias=False),
        nn.BatchNorm2d(spec.out_channels),
        nn.ReLU(),
    )
