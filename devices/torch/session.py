"""One network in torch: run plainly, and operator by operator or kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from layerclock.devices.torch.operators import HostClock, operators, timed_run
from layerclock.errors import DeviceError
from layerclock.interfaces import KernelTimes, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.network import Kernel

__all__ = ["EagerOnHost", "Execution", "Loaded", "TorchSession"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network on its device with fixed inputs; ``reads`` and ``writes`` are the names that its file gives inputs and outputs."""

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    sites: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Execution(Protocol):
    """A way to run a network: eager or compiled, on the host or elsewhere."""

    kernels: tuple[Kernel, ...]

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Outputs for inputs that are on the device."""

    def finish(self) -> None:
        """Wait until the device has computed all that it was given."""

    def kernel_times(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """float64[runs, kernels] in ns, warm; ``mark`` as in :class:`~layerclock.interfaces.Session`."""


class EagerOnHost:
    """Operator after operator, as Python calls them."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.kernels = operators(loaded.module, loaded.inputs, loaded.sites)

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Outputs for inputs."""
        with torch.no_grad():
            return self._loaded.module(*inputs)

    def finish(self) -> None:
        """Nothing is left to do."""

    def kernel_times(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Times of every operator between two readings of the clock around it."""
        samples = []
        for number in range(runs + 1):
            clock = HostClock()
            if number:  # the first run is cold
                mark()
            timed_run(self._loaded.module, self._loaded.inputs, clock, self.kernels)
            samples.append(clock.durations_ns())
        mark()
        return np.array(samples[1:], dtype=np.float64)


class TorchSession:
    """One loaded network."""

    def __init__(self, loaded: Loaded, execution: Execution) -> None:
        self._loaded = loaded
        self._execution: Execution | None = execution

    def run(self) -> int:
        """Wall time of one inference in ns, until its last result is there."""
        execution = self._alive()
        start = perf_counter_ns()
        execution(self._loaded.inputs)
        execution.finish()
        return perf_counter_ns() - start

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Times of every operator or kernel inside whole runs."""
        execution = self._alive()
        return KernelTimes(execution.kernels, execution.kernel_times(runs, mark))

    def kernels(self) -> tuple[Kernel, ...]:
        """Eager: the operators that the shapes lead to; compiled: the compiler's kernels."""
        return self._alive().kernels

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name; those in half precision come back in float32."""
        execution = self._alive()
        if {name: np.shape(value) for name, value in inputs.items()} != dict(
            zip(self._loaded.reads, (tuple(tensor.shape) for tensor in self._loaded.inputs), strict=True)
        ):
            raise DeviceError("torch cannot run the network: the inputs have other names or shapes", f"it takes {self._loaded.reads}")
        pairs = zip(self._loaded.reads, self._loaded.inputs, strict=True)
        given = tuple(torch.as_tensor(inputs[name]).to(own.device, own.dtype) for name, own in pairs)
        try:
            made = execution(given)
        except RuntimeError as error:
            raise DeviceError(f"torch cannot run the network: {str(error).splitlines()[0]}", "check the inputs") from error
        outputs = made if isinstance(made, (tuple, list)) else (made,)
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy().copy()
            for name, tensor in zip(self._loaded.writes, outputs, strict=True)
        }

    def close(self) -> None:
        """Free the network."""
        self._execution = None

    def _alive(self) -> Execution:
        if self._execution is None:
            raise DeviceError("the session is closed", "load the model again")
        return self._execution
