"""Networks on a CUDA device: eager with an event before and behind every operator, or the same captured once as a CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from layerclock.devices.torch.operators import operators, timed_run
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.devices.torch.session import Loaded

__all__ = ["CudaClock", "EagerOnCuda", "GraphOnCuda", "cuda_fingerprint", "fp32_on_cuda"]

_WARM_UPS = 3


def cuda_fingerprint() -> tuple[tuple[str, str], ...]:
    """What identifies the current CUDA device and the libraries that run on it."""
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    facts = {
        "gpu": device.name,
        "compute_capability": f"{device.major}.{device.minor}",
        "multiprocessors": str(device.multi_processor_count),
        "gpu_memory_mib": str(device.total_memory // 2**20),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }
    return tuple(facts.items())


def fp32_on_cuda() -> dict[str, str]:
    """What torch computes float32 in on CUDA: ``tf32``, of 10 bits, for convolutions unless it was told otherwise; ``none`` is float32."""
    convolutions: str = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]  # torch's own stubs leave it out
    return {"fp32_convolutions": convolutions, "fp32_products": str(torch.backends.cuda.matmul.fp32_precision)}


class CudaClock:
    """Events on the stream around each operator. Inside a graph they must be ``external``: replays then record them anew."""

    def __init__(self, external: bool = False) -> None:
        self._external = external
        self._starts: list[torch.cuda.Event] = []
        self._stops: list[torch.cuda.Event] = []

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True, external=self._external)
        event.record()
        return event

    def start(self) -> None:
        """Record an event."""
        self._starts.append(self._record())

    def stop(self) -> None:
        """Record another."""
        self._stops.append(self._record())

    def durations_ns(self) -> list[float]:
        """Of all operators of the run that ended last; waits for it."""
        torch.cuda.synchronize()
        return [start.elapsed_time(stop) * 1e6 for start, stop in zip(self._starts, self._stops, strict=True)]


class EagerOnCuda:
    """Operator after operator; a small network waits for Python to launch them."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.kernels = operators(loaded.module, loaded.inputs, loaded.sites)

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Outputs for inputs."""
        with torch.no_grad():
            return self._loaded.module(*inputs)

    def finish(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()

    def kernel_times(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Times between the events around every operator."""
        samples = []
        for number in range(runs + 1):
            clock = CudaClock()
            if number:  # the first run is cold
                mark()
            timed_run(self._loaded.module, self._loaded.inputs, clock, self.kernels)
            samples.append(clock.durations_ns())
        mark()
        return np.array(samples[1:], dtype=np.float64)


class GraphOnCuda:
    """Captured once and replayed as a whole: no launch waits for Python. A second capture holds the events."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.kernels = operators(loaded.module, loaded.inputs, loaded.sites)
        self._clock = CudaClock(external=True)
        self._timed: torch.cuda.CUDAGraph | None = None
        self._inputs = tuple(tensor.clone() for tensor in loaded.inputs)
        with torch.no_grad():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # libraries choose and allocate before the capture
                for _ in range(_WARM_UPS):
                    loaded.module(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self._graph):
                    self._outputs = loaded.module(*self._inputs)
            except RuntimeError as error:
                first = str(error).splitlines()[0]
                raise DeviceError(f"the network cannot be captured as a CUDA graph: {first}", "use torch:cuda") from error

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Outputs for inputs; valid until the next call."""
        if inputs is not self._loaded.inputs:
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
        self._graph.replay()
        if inputs is not self._loaded.inputs:
            self.finish()
            for own, fixed in zip(self._inputs, self._loaded.inputs, strict=True):
                own.copy_(fixed)
        return self._outputs

    def finish(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()

    def kernel_times(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Times between the events that every replay records."""
        if self._timed is None:
            timed = torch.cuda.CUDAGraph()
            with torch.cuda.graph(timed):
                timed_run(self._loaded.module, self._inputs, self._clock, self.kernels)
            self._timed = timed
        samples = []
        for number in range(runs + 1):
            if number:
                mark()
            self._timed.replay()
            samples.append(self._clock.durations_ns())
        mark()
        return np.array(samples[1:], dtype=np.float64)
