"""The end of an image network: global average pooling and a linear layer, as one module. Needs torch."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PooledClassifier"]


class PooledClassifier(nn.Module):
    """Class scores of the feature maps' averages."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(in_channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32[B, channels, H, W] to logits float32[B, classes]."""
        out: torch.Tensor = self.linear(self.pool(x).flatten(1))
        return out
