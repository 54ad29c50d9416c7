"""Reading the files of Fashion-MNIST and CIFAR-10 as their authors publish them, from a folder of the user's.

Fashion-MNIST (Xiao et al., 2017, arXiv:1708.07747) comes as four gzipped IDX files, which MNIST's are as well; CIFAR-10
(Krizhevsky, 2009) as the "binary version": records of a label and 3 x 32 x 32 bytes. CIFAR-10's Python version consists of
pickles, which run code when they are loaded: it is refused.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["CLASSES", "KINDS", "ImageFiles", "detect_kind", "read_cifar10", "read_fashion_mnist"]

CLASSES = 10
Bytes = npt.NDArray[np.uint8]

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FASHION_SIDE = 28
_CIFAR_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_CIFAR_SHAPE = (3, 32, 32)
_SOURCES = (
    "Fashion-MNIST's four .gz files are at https://github.com/zalandoresearch/fashion-mnist, "
    "CIFAR-10's binary version (cifar-10-binary.tar.gz) at https://www.cs.toronto.edu/~kriz/cifar.html"
)


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """What the published files hold: images uint8[N, channels, height, width], labels uint8[N] from 0 to 9."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def detect_kind(folder: Path) -> str:
    """``fashion-mnist`` or ``cifar-10``, by the names of the files.

    Raises :class:`ArgumentError` if neither or both are there, or CIFAR-10's Python version, or if it is no folder.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is no folder", f"give the folder with the files; {_SOURCES}")
    found = [kind for kind, (first, _) in KINDS.items() if any((folder / name).exists() for name in (first, f"{first}.gz"))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArgumentError(f"{folder} holds files of {' and of '.join(found)}", f"say which: kind={found[0]} or kind={found[1]}")
    if (folder / "data_batch_1").exists():
        _refuse_pickles(folder)
    raise ArgumentError(f"{folder} holds neither {_IDX_FILES[0]}.gz nor {_CIFAR_BATCHES[0]}", _SOURCES)


def read_fashion_mnist(folder: Path) -> ImageFiles:
    """The four IDX files, gzipped or unpacked.

    Raises :class:`ArgumentError` naming the file that is missing, damaged, too short or of another form.
    """
    train_images, train_labels, test_images, test_labels = (_read_idx(folder, name) for name in _IDX_FILES)
    for kind, images, labels in (("train", train_images, train_labels), ("t10k", test_images, test_labels)):
        if len(images) != len(labels):
            raise ArgumentError(
                f"{folder}: {len(images)} images of {kind!r} but {len(labels)} labels", f"take all files from one place; {_SOURCES}"
            )
    return ImageFiles(train_images, train_labels, test_images, test_labels)


def read_cifar10(folder: Path) -> ImageFiles:
    """The five ``data_batch_N.bin`` and ``test_batch.bin``.

    Raises :class:`ArgumentError` naming the file that is missing, damaged or too short, and for the Python version.
    """
    if not (folder / _CIFAR_BATCHES[0]).exists() and (folder / "data_batch_1").exists():
        _refuse_pickles(folder)
    batches = [_read_records(folder / name) for name in _CIFAR_BATCHES]
    test_images, test_labels = _read_records(folder / _CIFAR_TEST)
    return ImageFiles(
        np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches]), test_images, test_labels
    )


# By kind: the file that tells it, and the reader.
KINDS: dict[str, tuple[str, Callable[[Path], ImageFiles]]] = {
    "cifar-10": (_CIFAR_BATCHES[0], read_cifar10),
    "fashion-mnist": (_IDX_FILES[0], read_fashion_mnist),
}


def _refuse_pickles(folder: Path) -> None:
    raise ArgumentError(
        f"{folder} holds CIFAR-10's Python version, whose files are pickles: loading one can run any code", f"take another; {_SOURCES}"
    )


def _read_idx(folder: Path, name: str) -> Bytes:
    """Images uint8[N, 1, 28, 28] or labels uint8[N]; which, says the name."""
    images = "idx3" in name
    path = folder / f"{name}.gz"
    if not path.exists() and (folder / name).exists():
        path = folder / name
    axes, magic = (3, 0x0803) if images else (1, 0x0801)
    expected = f"an IDX file of bytes with {axes} axes (magic number {magic})"
    content = _content(path, expected)
    header = np.frombuffer(content[: 4 * (1 + axes)], dtype=">u4") if len(content) >= 4 * (1 + axes) else np.zeros(1, dtype=">u4")
    if header[0] != magic:
        raise _not_that(path, expected, f"its first bytes are {content[:4].hex() or 'none'}")
    shape = tuple(int(length) for length in header[1:])
    if images and shape[1:] != (_FASHION_SIDE, _FASHION_SIDE):
        raise _not_that(path, expected, f"its images have {shape[1]} x {shape[2]} pixels, not {_FASHION_SIDE} x {_FASHION_SIDE}")
    body = np.frombuffer(content, dtype=np.uint8, offset=4 * (1 + axes))
    needed = int(np.prod(shape, dtype=object))
    if len(body) != needed or not needed:
        raise _not_that(path, expected, f"its header promises {needed} bytes of {shape[0]} items, and {len(body)} follow")
    return body.reshape(shape[0], 1, *shape[1:]) if images else _checked_labels(path, expected, body)


def _read_records(path: Path) -> tuple[Bytes, Bytes]:
    record = 1 + int(np.prod(_CIFAR_SHAPE))
    expected = f"a batch of CIFAR-10's binary version (records of {record} bytes, a label from 0 to 9 first)"
    content = np.frombuffer(_content(path, expected), dtype=np.uint8)
    if not len(content) or len(content) % record:
        raise _not_that(path, expected, f"its {len(content)} bytes are not a whole number of records")
    records = content.reshape(-1, record)
    return records[:, 1:].reshape(-1, *_CIFAR_SHAPE), _checked_labels(path, expected, records[:, 0])


def _content(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise ArgumentError(f"{path} is missing: expected {expected}", _SOURCES) from error
    except (OSError, EOFError, zlib.error) as error:
        raise _not_that(path, expected, str(error)) from error


def _checked_labels(path: Path, expected: str, labels: Bytes) -> Bytes:
    if labels.max() >= CLASSES:
        raise _not_that(path, expected, f"it has a label {labels.max()}, and the classes are 0 to {CLASSES - 1}")
    return labels


def _not_that(path: Path, expected: str, seen: str) -> ArgumentError:
    return ArgumentError(f"{path} is not {expected}: {seen}", f"get the file anew; {_SOURCES}")
