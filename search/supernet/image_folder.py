"""Images in folders, one folder a class, as ImageNet is kept: found, cut to size and made into tensors. Needs torch and Pillow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from layerclock.errors import ArgumentError

__all__ = ["ImageFolder", "LabelledFile", "central_view", "find_images", "normalised", "random_view"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# Of ImageNet's training images, as everybody takes them.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The central view is this share of the resized image's side (once-for-all, as Krizhevsky et al., 2012: 224 of 256).
_CENTRE = 0.875


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """An image and the number of its class: the position of its folder's name in the order of all names."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """``judged`` are the images that networks are judged on, ``training`` those that their normalisation may be fitted to."""

    training: tuple[LabelledFile, ...]
    judged: tuple[LabelledFile, ...]


def find_images(root: Path | str, classes: int) -> ImageFolder:
    """The images of ``root/train/<class>/`` and ``root/val/<class>/``.

    Without a ``root/val`` the classes are those of ``root/<class>/``. Where there is no ``train``, the images that are judged
    are also the ones for training: their labels are not used then. Raises :class:`ArgumentError` unless there are images, and
    ``classes`` folders, of the same names in both parts.
    """
    folder = Path(root)
    judged = folder / "val" if (folder / "val").is_dir() else folder
    training = folder / "train" if judged != folder and (folder / "train").is_dir() else judged
    names = _class_names(judged)
    if len(names) != classes:
        raise ArgumentError(
            f"{judged} has {len(names)} folders of images, the networks know {classes} classes",
            "a folder for each class, in the order of the classes by name; those without images may be empty",
        )
    if _class_names(training) != names:
        raise ArgumentError(f"{training} and {judged} have folders of other names", "the same folder names in both")
    found = ImageFolder(_files(training, names), _files(judged, names))
    for part, where in ((found.training, training), (found.judged, judged)):
        if not part:
            raise ArgumentError(f"no images in the folders of {where}", f"files that end with {', '.join(_SUFFIXES)}")
    return found


def central_view(path: Path, side: int) -> torch.Tensor:
    """The centre of the whole image, uint8[3, side, side]: the shorter side is first resized to ``side / 0.875``.

    Raises :class:`ArgumentError` if the file is no image that Pillow can read.
    """
    image = _opened(path)
    short = math.ceil(side / _CENTRE)
    width, height = image.size
    factor = short / min(width, height)
    resized = image.resize((max(short, int(width * factor)), max(short, int(height * factor))), Image.Resampling.BILINEAR)
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    return _tensor(resized.crop((left, top, left + side, top + side)))


def random_view(path: Path, side: int, rng: np.random.Generator) -> torch.Tensor:
    """A random part of the image, uint8[3, side, side]: 8 to 100 % of its area, sides of 3:4 to 4:3, mirrored half the time.

    So networks see images in training (Szegedy et al., CVPR 2015, section 6). Raises as :func:`central_view` does.
    """
    image = _opened(path)
    area = image.width * image.height
    for _ in range(10):
        wanted, ratio = area * rng.uniform(0.08, 1.0), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = math.sqrt(wanted * ratio), math.sqrt(wanted / ratio)
        if 1 <= width <= image.width and 1 <= height <= image.height:
            break
    else:
        width = height = float(min(image.size))
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    part = image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    view = _tensor(part)
    return view.flip(2) if rng.random() < 0.5 else view


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Float32[B, 3, H, W] of zero mean and unit variance over ImageNet, in channels-last memory, from uint8[B, 3, H, W]."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
    return ((images.float() / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)


def _class_names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise ArgumentError(
            f"cannot read the images in {folder}: {error}", "give a folder with a folder of images for each class"
        ) from error


def _files(folder: Path, names: list[str]) -> tuple[LabelledFile, ...]:
    return tuple(
        LabelledFile(path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in _SUFFIXES
    )


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ArgumentError(f"cannot read the image {path}: {error}", "remove it or replace it") from error


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)
