"""Pickles that hold plain containers, numbers and numpy arrays, read without running what they say.

A pickle may call whatever it names. Here it may name a fixed few things, and what stands behind those names is ours: nothing of
numpy is called but ``frombuffer``, and a stream can neither call anything else nor change what it is given.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np

from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

__all__ = ["MALFORMED", "PLAIN", "PlainArray", "PlainUnpickler", "Stand", "read_plain_pickle", "refuse"]

# What reading a stream that is damaged, or not of the expected kind, may raise.
MALFORMED = (
    pickle.UnpicklingError, AttributeError, BufferError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError, OverflowError,
    RecursionError, TypeError, UnicodeDecodeError, ValueError,
)  # fmt: skip

_KINDS = re.compile(r"b1|[iu][1248]|f[248]|[SU][0-9]{1,4}|O8")


def refuse(what: str, needs: str) -> NoReturn:
    """Raise ``pickle.UnpicklingError``: ``needs`` is what an honest file holds."""
    raise pickle.UnpicklingError(f"{what}, which no {needs} needs")


class Stand:
    """Stands for a callable that a pickle names.

    The stream gets the object itself, so that it must not be able to change it: neither attributes nor ``__setstate__``.
    """

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: object) -> object:
        """What the stand-in makes of the stream's arguments."""
        return self._make(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it sets {name}, which no list of numbers needs")


class _Dtype:
    """Stands for a ``numpy.dtype`` of numbers, texts or objects."""

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, str) or not _KINDS.fullmatch(kind):
            refuse(f"it has elements of type {kind!r}", "list of numbers")
        self.kind, self.order = kind, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
            refuse("it has structured elements", "list of numbers")
        self.order = order

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.kind)


class PlainArray:
    """A numpy array in a pickle; ``numpy.asarray`` takes it."""

    def __init__(self) -> None:
        self._values: npt.NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self._values = _filled(content, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._values, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self._values)


def _filled(content: Any, dtype: object, shape: object, order: Any) -> npt.NDArray[Any]:
    """An array of its own numbers; raises where content and shape do not fit."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        refuse("it has an array of no known form", "list of numbers")
    if dtype.kind == "O8":
        flat = np.empty(len(content), dtype=object)
        for position, value in enumerate(content):  # one by one: numpy would spread lists over new axes
            flat[position] = value
    else:
        flat = np.frombuffer(content, dtype=dtype.numpy).copy()
    if len(flat) != math.prod(shape):
        raise ValueError(f"an array of shape {shape} has {len(flat)} numbers")
    return flat.reshape(shape, order=order)


def _frombuffer(content: Any, dtype: object, shape: object, order: object) -> npt.NDArray[Any]:
    return _filled(content, dtype, shape, order)


def _scalar(dtype: object, content: Any) -> object:
    value: object = _filled(content, dtype, (), "C").item()
    return value


def _reconstruct(*_: object) -> PlainArray:
    return PlainArray()


def _encode(text: str, encoding: str) -> bytes:
    """How protocols before 3 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        refuse(f"it encodes as {encoding!r}", "list of numbers")
    return text.encode("latin1")


def _bytes() -> bytes:
    """No bytes at all; from a number Python would make as many."""
    return b""


def _bytearray(content: object = b"", *encoding: str) -> bytearray:
    if isinstance(content, str):
        return bytearray(_encode(content, *encoding))
    if not isinstance(content, bytes):
        refuse(f"it makes bytes of a {type(content).__name__}", "list of numbers")
    return bytearray(content)


_NUMPY: dict[str, object] = {
    f"numpy.{core}.{name}": stand
    for core in ("core", "_core")
    for name, stand in (
        ("multiarray._reconstruct", Stand(_reconstruct)),
        ("multiarray.scalar", Stand(_scalar)),
        ("numeric._frombuffer", Stand(_frombuffer)),
    )
}
PLAIN: Mapping[str, object] = {
    "collections.OrderedDict": OrderedDict,
    **{
        f"{module}.{name}": stand
        for module in ("builtins", "__builtin__")  # as Python 2 called it, and protocols before 3 still do
        for name, stand in (
            ("set", Stand(set)),
            ("frozenset", Stand(frozenset)),
            ("bytes", Stand(_bytes)),
            ("bytearray", Stand(_bytearray)),
        )
    },
    "_codecs.encode": Stand(_encode),
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": Stand(_Dtype),
    **_NUMPY,
}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler to which nothing but ``known`` exists, names in full to what stands for them."""

    def __init__(self, stream: IO[bytes], known: Mapping[str, object] = PLAIN, needs: str = "list of numbers") -> None:
        super().__init__(stream)
        self._known = known
        self._needs = needs

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; raises ``pickle.UnpicklingError`` where nothing does."""
        known = self._known.get(f"{module}.{name}")
        if known is None:
            refuse(f"it names {module}.{name}", self._needs)
        return known

    def persistent_load(self, pid: Any) -> Any:
        """Refused: a plain pickle refers to nothing outside itself."""
        refuse(f"it refers to {pid!r}", self._needs)


def read_plain_pickle(path: Path | str) -> Any:
    """What a pickle at ``path`` holds: containers, numbers, texts and :class:`PlainArray`.

    Raises :class:`TableError` if the file cannot be read, is truncated, or names anything else.
    """
    try:
        with Path(path).open("rb") as stream:
            return PlainUnpickler(stream).load()
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}", "give the path of a pickle of numbers") from error
    except MALFORMED as error:
        raise TableError(
            f"{path} is no pickle of plain numbers: {error}", "it may be truncated, or of another kind: give the published file"
        ) from error
