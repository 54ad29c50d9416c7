"""Depthwise convolution whose gradients are quick on CPUs.

oneDNN has a fast weight gradient for depthwise kernels up to 3 wide; from 5 on it falls back to a reference that takes ten
times as long as the forward pass, and half of a training step. The weight gradient of a depthwise convolution is itself a
depthwise convolution, of every image's every channel with its own output gradient as the kernel, and forward convolutions
are fast for kernels of any size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["DepthwiseConv2d"]

_FAST_KERNEL = 3


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one group a channel, a square odd kernel, "same" padding and no bias; in training, faster."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in the base class
        """Float32[B, C, H, W] to float32[B, C, ceil(H / stride), ceil(W / stride)]."""
        if self.training and torch.is_grad_enabled() and self.kernel_size[0] > _FAST_KERNEL and min(input.shape[2:]) > 1:
            out: torch.Tensor = _Depthwise.apply(input, self.weight, self.stride[0])
            return out
        return super().forward(input)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, weight.shape[2] // 2
        by_input: torch.Tensor = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), [True, False, False]
        )[0]
        return by_input, _weight_gradient(x, gradients[0], weight.shape[2], stride), None


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Float32[C, 1, kernel, kernel] from inputs [B, C, H, W] and the gradient by outputs [B, C, H / stride, W / stride]."""
    images, channels, padding = len(x), x.shape[1], kernel // 2
    if stride > 1 and padding > stride * (min(gradient.shape[2:]) - 1):  # dilated and padded beyond its extent: slow in oneDNN
        x, padding = functional.pad(x, [padding] * 4), 0
    # Channels last, with every image's channels side by side: [1, B * C, H, W] and kernels [B * C, 1, h, w].
    planes = x.permute(2, 3, 0, 1).reshape(1, *x.shape[2:], images * channels).permute(0, 3, 1, 2)
    kernels = gradient.permute(2, 3, 0, 1).reshape(*gradient.shape[2:], images * channels).permute(2, 0, 1).unsqueeze(1)
    taps = functional.conv2d(planes, kernels, None, 1, padding, stride, groups=images * channels)[0, :, :kernel, :kernel]
    return taps.permute(1, 2, 0).reshape(kernel, kernel, images, channels).sum(2).permute(2, 0, 1).unsqueeze(1)
