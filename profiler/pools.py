"""The seam between a campaign and where it measures: worker processes on this machine, or on boards elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from layerclock.plugins import open_device
from layerclock.profiler.worker import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from layerclock.interfaces import Device, DeviceOptions, ModelFile
    from layerclock.profiler.measurement import Measurement, Order

__all__ = ["BringsPool", "NetworkWorker", "Pool", "in_float32", "open_pool"]


class NetworkWorker(Protocol):
    """Holds one network ready to be measured. Failures are :class:`~layerclock.errors.DeviceError`, as :class:`Worker`'s are."""

    def load(self, model: ModelFile) -> None:
        """Begin to load."""
        ...

    def wait(self) -> object:
        """Return once the network is loaded."""
        ...

    def announce(self, order: Order) -> bool:
        """:meth:`measure` is asked with this order once other networks have answered. True if it is under way now, and must be asked."""
        ...

    def measure(self, order: Order) -> Measurement:
        """Time the loaded network; network and round of the answer are the caller's to fill in."""
        ...

    def rest_readings(self) -> npt.NDArray[np.float64]:
        """The reference workload's times in ns over a second."""
        ...

    def close(self) -> None:
        """Let go of the network."""
        ...


class Pool(Protocol):
    """Makes workers for one device; a context, at whose end all of them are gone."""

    limit_s: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def start(self) -> NetworkWorker:
        """A worker in which nothing is loaded yet."""
        ...

    def available_memory_bytes(self) -> int | None:
        """Memory at hand for further networks where they are loaded; None where nobody tells."""
        ...

    def conditions(self) -> Mapping[str, str]:
        """Facts about the measuring machine that may change from one day to the next."""
        ...


@runtime_checkable
class BringsPool(Protocol):
    """What a device may offer that is not on this machine: the pool through which it is measured."""

    def pool(self, limit_s: float, log: Path, affinity: tuple[int, ...]) -> Pool:
        """As :class:`~layerclock.profiler.worker.WorkerPool` for the device."""
        ...

    def with_options(self, options: DeviceOptions) -> Device:
        """The same device opened with other options, as :func:`~layerclock.plugins.open_device` opens one that is here."""
        ...


def in_float32(device: Device) -> Device:
    """The device opened anew for float32, or itself where that is its precision.

    Raises :class:`~layerclock.errors.DeviceUnavailableError` if it has no float32.
    """
    if device.options.precision == "float32":
        return device
    options = replace(device.options, precision="float32")
    return device.with_options(options) if isinstance(device, BringsPool) else open_device(device.target.device, options)


def open_pool(device: Device, limit_s: float, log: Path, affinity: tuple[int, ...] = ()) -> Pool:
    """The device's own pool, or worker processes on this machine."""
    return device.pool(limit_s, log, affinity) if isinstance(device, BringsPool) else WorkerPool(device, limit_s, log, affinity)
