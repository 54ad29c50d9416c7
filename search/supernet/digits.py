"""The data: scikit-learn's 1797 handwritten digits, enlarged to the space's resolution and split once and for all.

Digits that lie as they were scanned are too easy to tell sub-networks apart: all of them read 98 % or more. The sets that
sub-networks are compared on are therefore *distorted*: every image is turned, moved, scaled and blotted by a random draw
that a seed fixes, once. Training batches are distorted in the same way, with a new draw each time. ``distortion=0`` gives
the digits as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from layerclock.errors import ArgumentError

__all__ = ["DigitsData", "LabelledImages", "channels_last", "distort", "load_digits_data"]

_SPLIT_SEED = 0
_DISTORTION_SEED = 1
_HELD_OUT = 350


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """``images`` float32[N, channels, side, side], 0 is the background; ``labels`` int64[N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class DigitsData:
    """``train`` is not distorted (each training batch is, anew, by ``distortion``); ``validation`` is for the search,
    ``test`` only for the final report."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    distortion: float


def load_digits_data(resolution: int, distortion: float = 0.7) -> DigitsData:
    """1097 / 350 / 350 digits, stratified by class; the split and the distortions are the same in every call.

    Pixels are scaled by one constant to unit variance, bilinearly enlarged to ``resolution`` pixels a side. Raises
    :class:`ArgumentError` unless ``resolution >= 8`` and ``distortion >= 0``.
    """
    if resolution < 8 or not 0 <= distortion < math.inf:
        raise ArgumentError(f"resolution={resolution}, distortion={distortion}: no digits are like that", "at least 8 pixels, at least 0")
    pixels, labels = load_digits(return_X_y=True)
    rest, test = train_test_split(np.arange(len(labels)), test_size=_HELD_OUT, random_state=_SPLIT_SEED, stratify=labels)
    train, validation = train_test_split(rest, test_size=_HELD_OUT, random_state=_SPLIT_SEED, stratify=labels[rest])
    small = torch.as_tensor(pixels / pixels[train].std(), dtype=torch.float32).view(-1, 1, 8, 8)
    images = functional.interpolate(small, size=resolution, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(_DISTORTION_SEED)

    def part(rows: np.ndarray[tuple[int], np.dtype[np.int64]], strength: float) -> LabelledImages:
        chosen = images[torch.from_numpy(rows)]
        return LabelledImages(
            distort(chosen, strength, generator) if strength else chosen, torch.as_tensor(labels[rows], dtype=torch.int64)
        )

    return DigitsData(part(train, 0.0), part(validation, distortion), part(test, distortion), distortion)


def distort(images: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Every image turned, scaled, moved, blotted and made noisy by its own random draw; shape and scale stay.

    At ``strength`` 1 an image is turned by up to 25 degrees, scaled by up to 20 % and moved by up to 15 % of its side
    (uniform); a square of 30 % of its side is blotted out anywhere; noise has a deviation of 0.3 of the pixels' own.
    """
    number, _, side, _ = images.shape

    def draw() -> torch.Tensor:
        return (torch.rand(number, generator=generator) * 2 - 1) * strength

    angle, scale = draw() * math.radians(25), 1 + 0.2 * draw()
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cosine, -sine, 0.3 * draw()], 1), torch.stack([sine, cosine, 0.3 * draw()], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    corner = torch.rand(number, 2, 1, generator=generator) * side
    within = (torch.arange(side) - corner).abs() < 0.15 * strength * side
    blot = within[:, 0, :, None] & within[:, 1, None, :]
    noise = torch.randn(images.shape, generator=generator) * 0.3 * strength
    return moved.masked_fill(blot[:, None], 0.0) + noise


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """The same images in the memory layout in which oneDNN's depthwise convolutions are two to five times faster."""
    return images.to(memory_format=torch.channels_last)
