"""One network on LiteRT: plain runs on one compilation, operators' times on a second one with the profiler on."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.litert.graph import described, read_operators
from layerclock.devices.litert.library import CompiledModel
from layerclock.errors import DeviceError
from layerclock.interfaces import KernelTimes, ModelFile, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from layerclock.devices.litert.library import Event
    from layerclock.network import Kernel

__all__ = ["LiteRtSession"]

_COLD_RUNS = 2
# XNNPACK cuts each time to whole microseconds: half of one is lost on average. Outside it, a time is the difference of two cut ones
# (tensorflow/lite/profiling/profile_buffer.cc): it may be 0, and is right on average.
_CUT_OFF_US = 0.5


class LiteRtSession:
    """One loaded network: the ``.tflite`` file at ``path``, made of ``model``.

    LiteRT tells what it executes only in a run with the profiler on: one is made for :meth:`kernels`.
    """

    def __init__(self, path: Path, threads: int, model: ModelFile) -> None:
        self._path, self._threads, self._model = path, threads, model
        source = SourceGraph(model.path)
        self._reads, self._writes = source.inputs, {name: source.shapes[name] for name in source.outputs}
        self._inputs = list(source.example_inputs().values())
        self._plain: CompiledModel | None = CompiledModel(self._path, threads)
        self._plain.write(self._inputs)
        self._counting: CompiledModel | None = None
        self._kernels: tuple[Kernel, ...] = ()
        self._events: list[str] = []

    def _alive(self) -> CompiledModel:
        if self._plain is None:
            raise DeviceError("the session is closed", "load the model again")
        return self._plain

    def run(self) -> int:
        """Wall time of one inference in ns, without the profiler."""
        compiled = self._alive()
        start = perf_counter_ns()
        compiled.run()
        return perf_counter_ns() - start

    def kernels(self) -> tuple[Kernel, ...]:
        """The operators of one run with the profiler on."""
        self._alive()
        if not self._kernels:
            events = self._profiled(1, unmarked)
            self._events = [event.name for event in events]
            self._kernels = described(events, read_operators(self._path, self._model.sites))
        return self._kernels

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Operators' times as LiteRT's profiler tells them, cold runs left out."""
        kernels = self.kernels()
        events = self._profiled(runs, mark)
        if [event.name for event in events] != self._events * runs:
            raise DeviceError("LiteRT executed other operators than before", "measure this network again")
        times_us = [event.elapsed_us + _CUT_OFF_US * event.delegated for event in events]
        return KernelTimes(kernels, np.array(times_us, dtype=np.float64).reshape(runs, len(kernels)) * 1e3)

    def _profiled(self, runs: int, mark: Callable[[], None]) -> list[Event]:
        if self._counting is None:
            self._counting = CompiledModel(self._path, self._threads, profiled=True)
            self._counting.write(self._inputs)
        for _ in range(_COLD_RUNS):
            self._counting.run()
        self._counting.start_profiling()
        for _ in range(runs):
            mark()
            self._counting.run()
        mark()
        return self._counting.stop_profiling()

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name; the fixed inputs are put back."""
        compiled = self._alive()
        shapes = {name: value.shape for name, value in zip(self._reads, self._inputs, strict=True)}
        if {name: np.shape(value) for name, value in inputs.items()} != shapes:
            raise DeviceError("LiteRT cannot run the network: the inputs have other names or shapes", f"it takes {shapes}")
        given = [np.asarray(inputs[name], dtype=own.dtype) for name, own in zip(self._reads, self._inputs, strict=True)]
        try:
            compiled.write(given)
            compiled.run()
            contents = compiled.read()
        finally:
            compiled.write(self._inputs)
        return {
            name: np.frombuffer(content, dtype=spec.dtype).reshape(spec.shape)
            for (name, spec), content in zip(self._writes.items(), contents, strict=True)
        }

    def close(self) -> None:
        """Free both compiled models."""
        for compiled in (self._plain, self._counting):
            if compiled is not None:
                compiled.close()
        self._plain = self._counting = None
