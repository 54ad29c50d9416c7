"""LiteRT's C interface, as far as it is needed: compile, run, and read the profile, which its Python interface does not offer.

See ``litert/c/litert_compiled_model.h`` and ``litert_profiler.h``; the library exports them under a version of its own.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ai_edge_litert
import numpy as np
import numpy.typing as npt

from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CompiledModel", "Event"]

_CPU = 1
_READ, _WRITE = 0, 1
# Tags of environment options, and what they are set to: no GPU or NPU is looked for, only errors are printed.
_ENVIRONMENT = {24: _CPU, 25: 3}
_INTEGER = 2
# Events of the interpreter's own operators, and of those that a delegate ran.
_OPERATOR, _DELEGATED = 2, 8
# More than LiteRtRankedTensorType takes: an element type, a rank, flags, 8 dimensions and strides.
_TENSOR_TYPE_BYTES = 256


class _Option(ctypes.Structure):
    """``LiteRtEnvOption`` with a whole number in it."""

    _fields_ = (("tag", c_int), ("type", c_int64), ("value", c_int64))


class _EventData(ctypes.Structure):
    """``ProfiledEventData``."""

    _fields_ = (
        ("tag", c_char_p), ("kind", c_int), ("start_us", c_uint64), ("elapsed_us", c_uint64), ("memory", c_size_t * 6),
        ("index", c_uint64), ("subgraph", c_uint64), ("source", c_int),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One operator in one run: its name, whether a delegate ran it, its number in the delegate or the file, and whole microseconds."""

    name: str
    delegated: bool
    index: int
    elapsed_us: int


@cache
def _library() -> Any:
    return ctypes.CDLL(str(Path(ai_edge_litert.__file__).with_name("libLiteRt.so")))


@cache
def _system() -> Any:
    system = ctypes.CDLL(None)
    system.strdup.restype = c_void_p
    return system


def _call(function: str, *arguments: object) -> None:
    status = getattr(_library(), function)(*arguments)
    if status:
        raise DeviceError(f"LiteRT's {function} failed with status {status}", "check the model and the options")


def _made(function: str, *arguments: object) -> c_void_p:
    handle = c_void_p()
    _call(function, *arguments, byref(handle))
    return handle


class CompiledModel:
    """A ``.tflite`` file compiled for the processor, with buffers for what its first signature reads and writes."""

    def __init__(self, path: Path, threads: int, profiled: bool = False) -> None:
        options = [_Option(tag, _INTEGER, value) for tag, value in _ENVIRONMENT.items()]
        self._environment = _made("LiteRtCreateEnvironment", len(options), (_Option * len(options))(*options))
        self._model = _made("LiteRtCreateModelFromFile", self._environment, str(path).encode())
        self._options = _made("LiteRtCreateOptions")
        _call("LiteRtSetOptionsHardwareAccelerators", self._options, _CPU)
        self._set("xnnpack", f"num_threads = {threads}\n")
        self._set("runtime_options_string", f"enable_profiling = {str(profiled).lower()}\n")
        self._compiled = _made("LiteRtCreateCompiledModel", self._environment, self._model, self._options)
        self._signature = _made("LiteRtGetModelSignature", self._model, c_size_t(0))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")
        sides = [(c_size_t(len(side)), (c_void_p * len(side))(*side)) for side in (self._inputs, self._outputs)]
        self._run = (self._compiled, c_size_t(0), *sides[0], *sides[1])

    def _set(self, group: str, settings: str) -> None:
        """Add options written as TOML; LiteRT frees the text."""
        free = ctypes.cast(_system().free, c_void_p)
        text = c_void_p(_system().strdup(settings.encode()))
        _call("LiteRtAddOpaqueOptions", self._options, _made("LiteRtCreateOpaqueOptions", group.encode(), text, free))

    def _buffers(self, side: str) -> list[c_void_p]:
        count = c_size_t()
        _call(f"LiteRtGetNumSignature{side}s", self._signature, byref(count))
        buffers = []
        for position in map(c_size_t, range(count.value)):
            needs = _made(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, c_size_t(0), position)
            kind = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
            _call("LiteRtGetRankedTensorType", _made(f"LiteRtGetSignature{side}TensorByIndex", self._signature, position), byref(kind))
            buffers.append(_made("LiteRtCreateManagedTensorBufferFromRequirements", self._environment, byref(kind), needs))
        return buffers

    def write(self, values: Sequence[npt.NDArray[Any]]) -> None:
        """Fill the inputs; raises :class:`DeviceError` for another number or size of them."""
        sizes = [self._size(buffer) for buffer in self._inputs]
        # litert-torch makes int32 of int64.
        given = [value.astype(np.int32) if value.dtype == np.int64 else value for value in values]
        if [value.nbytes for value in given] != sizes:
            raise DeviceError(f"LiteRT cannot run the network: inputs of {[v.nbytes for v in given]} bytes", f"it takes {sizes} bytes")
        for buffer, value in zip(self._inputs, given, strict=True):
            ctypes.memmove(_locked(buffer, _WRITE), np.ascontiguousarray(value).ctypes.data, value.nbytes)
            _call("LiteRtUnlockTensorBuffer", buffer)

    def read(self) -> list[bytes]:
        """The outputs' contents."""
        contents = []
        for buffer in self._outputs:
            contents.append(ctypes.string_at(_locked(buffer, _READ), self._size(buffer)))
            _call("LiteRtUnlockTensorBuffer", buffer)
        return contents

    @staticmethod
    def _size(buffer: c_void_p) -> int:
        size = c_size_t()
        _call("LiteRtGetTensorBufferPackedSize", buffer, byref(size))
        return size.value

    def run(self) -> None:
        """One inference."""
        _call("LiteRtRunCompiledModel", *self._run)

    def start_profiling(self) -> None:
        """Keep events from now on, and none of earlier ones."""
        self._profiler = _made("LiteRtCompiledModelGetProfiler", self._compiled)
        _call("LiteRtResetProfiler", self._profiler)
        _call("LiteRtStartProfiler", self._profiler)

    def stop_profiling(self) -> list[Event]:
        """The operators that ran since, in order."""
        _call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        _call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        events = (_EventData * count.value)()
        _call("LiteRtGetProfilerEvents", self._profiler, count, ctypes.cast(events, POINTER(_EventData)))
        return [
            Event(event.tag.decode(errors="replace"), event.kind == _DELEGATED, event.index, event.elapsed_us)
            for event in events
            if event.kind in (_OPERATOR, _DELEGATED)
        ]

    def close(self) -> None:
        """Free everything; nothing else may be called afterwards."""
        library = _library()
        for buffer in (*self._inputs, *self._outputs):
            library.LiteRtDestroyTensorBuffer(buffer)
        library.LiteRtDestroyCompiledModel(self._compiled)
        library.LiteRtDestroyOptions(self._options)
        library.LiteRtDestroyModel(self._model)
        library.LiteRtDestroyEnvironment(self._environment)


def _locked(buffer: c_void_p, mode: int) -> c_void_p:
    address = c_void_p()
    _call("LiteRtLockTensorBuffer", buffer, byref(address), mode)
    return address
