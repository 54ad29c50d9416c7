"""The tensors of a file that ``torch.save`` wrote, as numpy arrays: without torch, and without running what the file says.

Such a file is a pickle with the numbers beside it: in a zip archive, or (before torch 1.6) one behind the other. A pickle
may call whatever it names; here it may name what a mapping of tensors needs and nothing else.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["read_tensors"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MALFORMED = (
    pickle.UnpicklingError, zipfile.BadZipFile, AttributeError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError,
    OverflowError, RecursionError, TypeError, UnicodeDecodeError, ValueError,
)  # fmt: skip
_REMEDY = "give a file of tensors alone, as torch.save(network.state_dict(), path) writes it"


@dataclass(frozen=True, slots=True)
class _Elements:
    """Stands for a class of torch's storages."""

    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    elements: _Elements
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class _View:
    """Stands for a tensor: where its numbers lie in a storage, counted in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: Path | str) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name, of the mapping in the file, or of its ``state_dict`` where it holds one.

    Raises :class:`ArgumentError` if the file cannot be read, is not such a file, or holds anything but tensors of numbers.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"cannot read {path}: {error}", "give the path of a file that torch.save wrote") from error
    try:
        top, storages = _read_zip(content) if content[:2] == b"PK" else _read_legacy(content)
        mapping = top.get("state_dict", top)
        return {_name(name): _array(view, storages) for name, view in mapping.items()}
    except _MALFORMED as error:
        raise ArgumentError(f"{path} does not hold tensors as torch.save writes them: {error}", _REMEDY) from error


def _read_zip(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
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
    return _Tensors(io.BytesIO(member(names[0]))).load(), lambda storage: member(f"{folder}data/{storage.key}")


def _read_legacy(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    stream = io.BytesIO(content)
    if _Tensors(stream).load() != _LEGACY_MAGIC or _Tensors(stream).load() != _LEGACY_PROTOCOL:
        raise ValueError("it does not begin as such files do")
    if not _Tensors(stream).load()["little_endian"]:
        raise ValueError("it is big-endian")
    tensors = _Tensors(stream)
    top = tensors.load()
    found: dict[str, bytes] = {}
    for key in _Tensors(stream).load():
        number = int.from_bytes(stream.read(8), "little", signed=True)
        found[key] = stream.read(number * np.dtype(tensors.storages[key].elements.dtype).itemsize)
    return top, lambda storage: found[storage.key]


class _Tensors(pickle.Unpickler):
    """An unpickler to which nothing but the parts of a mapping of tensors exists."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module}.{name}")
        if known is None:
            _refuse(f"it names {module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        kind, elements, key, _, number, *view = pid
        if kind != "storage" or not isinstance(elements, _Elements) or any(part is not None for part in view):
            _refuse(f"it refers to {kind!r}")
        storage = _Storage(elements, str(key), int(number))
        self.storages[storage.key] = storage
        return storage


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(f"{what}, which no tensor of numbers needs")


def _view(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _View:
    if not isinstance(storage, _Storage):
        _refuse("it makes a tensor of something else")
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(view: object, *_: object) -> object:
    return view


_KNOWN: dict[str, object] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.DoubleStorage": _Elements("<f8"),
    "torch.FloatStorage": _Elements("<f4"),
    "torch.HalfStorage": _Elements("<f2"),
    "torch.LongStorage": _Elements("<i8"),
    "torch.IntStorage": _Elements("<i4"),
    "torch.ShortStorage": _Elements("<i2"),
    "torch.CharStorage": _Elements("<i1"),
    "torch.ByteStorage": _Elements("<u1"),
    "torch.BoolStorage": _Elements("?"),
}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a tensor is called {name!r}")
    return name


def _array(view: object, content: Callable[[_Storage], bytes]) -> npt.NDArray[Any]:
    if not isinstance(view, _View):
        raise TypeError(f"an entry is a {type(view).__name__}")
    numbers = np.frombuffer(content(view.storage), dtype=view.storage.elements.dtype)
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    sound = len(numbers) == view.storage.number and view.offset >= 0 and all(part >= 0 for part in (*view.shape, *view.strides))
    if not sound or (0 not in view.shape and last >= len(numbers)):
        raise ValueError(f"a tensor of shape {view.shape} does not lie within its {len(numbers)} numbers")
    strides = [stride * numbers.itemsize for stride in view.strides]
    # A copy: the array owns its numbers, and equal numbers do not share them.
    return np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, strides).copy()
