"""How a smaller layer takes its weights from a larger one (once-for-all, Cai et al., ICLR 2020, arXiv:1908.09791, section 3.3)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from layerclock.search.spaces.inverted_bottleneck import KERNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["DESCENDING_KERNELS", "leading", "smaller_kernel"]

DESCENDING_KERNELS = tuple(sorted(KERNELS, reverse=True))


def leading(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The leading part of ``tensor`` along every axis: a view, or the tensor itself where it has the shape already."""
    return tensor if tensor.shape == tuple(shape) else tensor[tuple(slice(size) for size in shape)]


def smaller_kernel(weight: torch.Tensor, transforms: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    """The depthwise kernel of one size, float32[channels, 1, size, size], from the largest one, float32[channels, 1, 7, 7].

    A smaller kernel is the centre of the next larger one, flattened and times a matrix: ``transforms`` are the one of 25 x 25
    (from 7 to 5) and that of 9 x 9 (from 5 to 3).
    """
    for (larger, smaller), transform in zip(pairwise(DESCENDING_KERNELS), transforms, strict=True):
        if larger <= size:
            break
        margin = (larger - smaller) // 2
        crop = weight[:, :, margin : margin + smaller, margin : margin + smaller]
        weight = (crop.flatten(1) @ transform.T).view_as(crop)
    return weight
