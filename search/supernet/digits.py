"""The data: scikit-learn's 1797 handwritten digits, enlarged to the space's resolution and split once and for all.

Digits that lie as they were scanned are too easy to tell sub-networks apart: all of them read 98 % or more. The sets that
sub-networks are compared on are therefore *distorted*: every image is turned, moved, scaled and blotted by a random draw
that a seed fixes, once. Training batches are distorted in the same way, with a new draw each time. ``distortion=0`` gives
the digits as they are.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from layerclock.errors import ArgumentError
from layerclock.search.supernet.image_data import ImageData, LabelledImages, distort

__all__ = ["load_digits_data"]

_SPLIT_SEED = 0
_DISTORTION_SEED = 1
_HELD_OUT = 350


def load_digits_data(resolution: int, distortion: float = 0.7) -> ImageData:
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

    return ImageData(part(train, 0.0), part(validation, distortion), part(test, distortion), distortion)
