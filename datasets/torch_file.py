"""What ``torch.save`` wrote, without torch and without running what the file says.

Such a file is a pickle with the numbers beside it: in a zip archive, or (before torch 1.6) one behind the other. A pickle
may call whatever it names; here it may name what a tensor needs, and what the caller allows besides.
"""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.plain_pickle import MALFORMED, PLAIN, PlainUnpickler, Stand, refuse
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

__all__ = ["MALFORMED_TORCH", "TENSORS", "TensorView", "TorchContent", "load_torch", "read_torch"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_NEEDS = "tensor of numbers"
MALFORMED_TORCH = (*MALFORMED, zipfile.BadZipFile)

_ELEMENTS = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "?",
}


@dataclass(frozen=True, slots=True)
class _Storage:
    elements: str
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """Stands for a tensor: where its numbers lie in a storage, counted in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TorchContent:
    """What a file holds, its tensors as :class:`TensorView`, and the bytes of each storage."""

    value: Any
    bytes_of: Callable[[_Storage], bytes]

    def array(self, view: object) -> npt.NDArray[Any]:
        """The numbers of a tensor. Raises ``TypeError`` if it is none, ``ValueError`` where it does not lie within its storage."""
        if not isinstance(view, TensorView):
            raise TypeError(f"an entry is a {type(view).__name__}")
        if view.storage.elements not in _ELEMENTS.values():
            refuse(f"it has elements of type {view.storage.elements!r}", _NEEDS)
        numbers = np.frombuffer(self.bytes_of(view.storage), dtype=view.storage.elements)
        last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
        sound = len(numbers) == view.storage.number and view.offset >= 0 and all(part >= 0 for part in (*view.shape, *view.strides))
        if not sound or (0 not in view.shape and last >= len(numbers)):
            raise ValueError(f"a tensor of shape {view.shape} does not lie within its {len(numbers)} numbers")
        strides = [stride * numbers.itemsize for stride in view.strides]
        # A copy: the array owns its numbers, and equal numbers do not share them.
        return np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, strides).copy()


def _view(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> TensorView:
    if not isinstance(storage, _Storage):
        refuse("it makes a tensor of something else", _NEEDS)
    return TensorView(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(view: object, *_: object) -> object:
    return view


# What a mapping of tensors needs.
TENSORS: Mapping[str, object] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": Stand(_view),
    "torch._utils._rebuild_parameter": Stand(_parameter),
    **_ELEMENTS,
}


class _Tensors(PlainUnpickler):
    """An unpickler of containers with tensors in them."""

    def __init__(self, stream: io.BytesIO, known: Mapping[str, object]) -> None:
        super().__init__(stream, known, _NEEDS)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        kind, elements, key, _, number, *view = pid
        if kind != "storage" or elements not in _ELEMENTS.values() or any(part is not None for part in view):
            refuse(f"it refers to {kind!r}", _NEEDS)
        storage = _Storage(elements, str(key), int(number))
        self.storages[storage.key] = storage
        return storage


def load_torch(content: bytes, known: Mapping[str, object] = TENSORS) -> TorchContent:
    """What the bytes of such a file hold; ``known`` as in :class:`PlainUnpickler`. Raises one of :data:`MALFORMED_TORCH`."""
    return _load_zip(content, known) if content[:2] == b"PK" else _load_legacy(content, known)


def _load_zip(content: bytes, known: Mapping[str, object]) -> TorchContent:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"the archive has {len(names)} data.pkl")
    folder = names[0].removesuffix("data.pkl")

    def member(name: str) -> bytes:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return archive.read(name)

    if f"{folder}byteorder" in archive.namelist() and member(f"{folder}byteorder") != b"little":
        raise ValueError("it is big-endian")
    value = _Tensors(io.BytesIO(member(names[0])), known).load()
    return TorchContent(value, lambda storage: member(f"{folder}data/{storage.key}"))


def _load_legacy(content: bytes, known: Mapping[str, object]) -> TorchContent:
    stream = io.BytesIO(content)
    if _Tensors(stream, known).load() != _LEGACY_MAGIC or _Tensors(stream, known).load() != _LEGACY_PROTOCOL:
        raise ValueError("it does not begin as such files do")
    if not _Tensors(stream, known).load()["little_endian"]:
        raise ValueError("it is big-endian")
    tensors = _Tensors(stream, known)
    value = tensors.load()
    found: dict[str, bytes] = {}
    for key in _Tensors(stream, known).load():
        number = int.from_bytes(stream.read(8), "little", signed=True)
        found[key] = stream.read(number * np.dtype(tensors.storages[key].elements).itemsize)
    return TorchContent(value, lambda storage: found[storage.key])


def read_torch(path: Path | str) -> Any:
    """Containers, numbers and numpy arrays that ``torch.save`` wrote to ``path``; a tensor that is the whole comes as an array.

    Raises :class:`TableError` if the file cannot be read, is truncated, or names anything else.
    """
    try:
        held = load_torch(Path(path).read_bytes(), {**PLAIN, **TENSORS})
        return held.array(held.value) if isinstance(held.value, TensorView) else held.value
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}", "give the path of a file that torch.save wrote") from error
    except MALFORMED_TORCH as error:
        raise TableError(
            f"{path} does not hold plain numbers as torch.save writes them: {error}", "it may be truncated: give the published file"
        ) from error
