"""Accuracy on a user's own Fashion-MNIST or CIFAR-10: the data, and a super-network that is trained on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from layerclock.errors import ArgumentError
from layerclock.search.spaces.mobilenetv3 import digits_mobilenetv3
from layerclock.search.supernet.checkpoint import load_supernet
from layerclock.search.supernet.evaluator import SupernetEvaluator
from layerclock.search.supernet.image_data import Distortion, ImageData, LabelledImages, Scaling
from layerclock.search.supernet.image_files import CLASSES, KINDS, detect_kind
from layerclock.search.supernet.to_be_trained import ToBeTrained
from layerclock.search.supernet.training import TrainingOptions, train_supernet

__all__ = ["images_supernet", "load_image_data"]

_SPLIT_SEED = 0
_HELD_OUT = 2000

# Photographs are mirrored and moved by an eighth of their side (He et al., 2016, arXiv:1512.03385, section 4.2), clothes lie
# straight and fill their pictures; a small part of both is hidden (DeVries & Taylor, 2017, arXiv:1708.04552).
_DISTORTIONS = {
    "cifar-10": Distortion(turn_degrees=0.0, scale=0.1, shift=0.125, blot=0.25, noise=0.0, mirrored=True),
    "fashion-mnist": Distortion(turn_degrees=5.0, scale=0.1, shift=0.08, blot=0.2, noise=0.0, mirrored=True),
}


def load_image_data(folder: Path | str, kind: str = "", resolution: int = 64, limit: int = 0, distortion: float = 1.0) -> ImageData:
    """The images in ``folder``, of the ``kind`` ``fashion-mnist`` or ``cifar-10`` (told by the files if it is empty).

    A sixth of the published training images, but no more than 2000, become the validation part; the published test images
    are the test part. With ``limit`` only so many training images, and so many test images, are taken. Which ones is the
    same in every call. Pixels are scaled to unit variance by constants of the training part, and photographs centred.

    Raises :class:`ArgumentError` for files that are missing or damaged, an unknown kind, ``resolution < 8``, a ``limit``
    below 0 or under 12, or a negative ``distortion``.
    """
    if not isinstance(resolution, int) or resolution < 8 or limit < 0 or 0 < limit < 12 or not 0 <= distortion < np.inf:
        raise ArgumentError(
            f"resolution={resolution}, limit={limit}, distortion={distortion}: no images are like that",
            "a resolution of at least 8 pixels, a limit of 0 (none) or at least 12, a distortion from 0 on",
        )
    place = Path(folder)
    name = kind or detect_kind(place)
    if name not in KINDS:
        raise ArgumentError(f"kind={name!r} is no kind of images", f"one of {', '.join(KINDS)}, or none to go by the files")
    files = KINDS[name][1](place)
    chosen = _drawn(len(files.train_labels), limit)
    held_out = min(_HELD_OUT, len(chosen) // 6)
    if not held_out:
        raise ArgumentError(f"{place} holds {len(chosen)} training images: too few to set some aside", "at least 6 are needed")
    train, validation = chosen[held_out:], chosen[:held_out]
    scaling = _scaling(files.train_images[train], resolution)

    def part(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
             rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> LabelledImages:  # fmt: skip
        return LabelledImages(torch.from_numpy(images[rows]), torch.as_tensor(labels[rows], dtype=torch.int64), scaling)

    return ImageData(
        part(files.train_images, files.train_labels, train),
        part(files.train_images, files.train_labels, validation),
        part(files.test_images, files.test_labels, _drawn(len(files.test_labels), limit)),
        distortion,
        _DISTORTIONS[name],
    )


def images_supernet(
    folder: str,
    kind: str = "",
    checkpoint: str = "",
    steps: int = 0,
    seconds: float = 600.0,
    width: float = 0.5,
    resolution: int = 64,
    limit: int = 0,
) -> SupernetEvaluator:
    """The evaluator ``images-supernet``: accuracy of ``digits-mobilenetv3`` networks on the images in ``folder``.

    The space is ``digits-mobilenetv3`` with this ``width`` and ``resolution``, and ``in_channels=3`` for CIFAR-10. The
    super-network comes from a ``checkpoint`` file of that space, else it is trained for ``steps`` or ``seconds`` when it is first asked.
    Raises :class:`ArgumentError` as :func:`load_image_data` does, and for an unreadable checkpoint or one of another space.
    """
    data = load_image_data(str(folder), kind, resolution, limit)
    space = digits_mobilenetv3(width, resolution, data.train.shape[0], CLASSES)
    if checkpoint:
        return SupernetEvaluator(load_supernet(checkpoint, space), data)
    training = partial(train_supernet, space, data, options=TrainingOptions(batch=64))
    return SupernetEvaluator(ToBeTrained(space, training, steps, seconds), data)


def _drawn(number: int, limit: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The numbers of the images in a fixed random order, at most ``limit`` of them unless it is 0."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(number)
    return order[: limit or number]


def _scaling(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], resolution: int) -> Scaling:
    """Grey pictures lie on black, which stays 0; the channels of photographs are centred one by one."""
    channels, pixels = images.shape[1], images[:, 0].size
    mean = images.sum((0, 2, 3), dtype=np.float64) / pixels
    squares = np.einsum("nchw,nchw->c", images, images, dtype=np.float64) / pixels  # the pixels stay bytes: they may be many
    spread = np.sqrt(np.maximum(squares - mean**2, 1.0))  # pictures of one shade have no variance to scale by
    centre = mean if channels > 1 else np.zeros(1)
    return Scaling(resolution, tuple(centre.tolist()), tuple(spread.tolist()))
