"""Energy that a device used, where the machine tells: RAPL for processors, NVML for NVIDIA GPUs. Absent is None, never zero."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from layerclock.devices.nvidia import gpus_meant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["EnergyMeter", "NvmlMeter", "RaplMeter", "energy_meter"]

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter(Protocol):
    """A counter that only grows."""

    def read_joules(self) -> float:
        """Joules since some moment in the past."""
        ...


class RaplMeter:
    """The processor packages of Intel and AMD through Linux powercap (``intel-rapl:<n>/energy_uj``); needs read access.

    The counters wrap at ``max_energy_range_uj``: what they show is unwrapped, if they are read once in a wrap (a minute).
    """

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = list(packages)
        self._last = [self._counter(package) for package in self._packages]
        self._total_uj = 0

    @classmethod
    def find(cls, folder: Path = _POWERCAP) -> RaplMeter | None:
        """The meter of this machine's packages, or None where there are none or they may not be read."""
        zones = sorted(zone for zone in folder.glob("*-rapl:*") if zone.name.count(":") == 1)
        try:
            # Beside the packages stands the whole platform (psys), which contains them.
            packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
            return cls(packages) if packages else None
        except (OSError, ValueError):
            return None

    def read_joules(self) -> float:
        """Joules of all packages since the meter was made."""
        for number, package in enumerate(self._packages):
            now = self._counter(package)
            grown = now - self._last[number]
            self._total_uj += grown if grown >= 0 else grown + int((package / "max_energy_range_uj").read_text())
            self._last[number] = now
        return self._total_uj / 1e6

    @staticmethod
    def _counter(package: Path) -> int:
        return int((package / "energy_uj").read_text())


class NvmlMeter:
    """One NVIDIA GPU through NVML (package ``nvidia-ml-py``)."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def find(cls, number: int = 0) -> NvmlMeter | None:
        """The meter of the GPU that CUDA means by ``number``.

        None where there is no NVML, no such GPU or one too old to count energy, and where several may be meant.
        """
        meant = gpus_meant(number)
        if len(meant) != 1:
            return None
        try:
            nvml = import_module("pynvml")
        except ModuleNotFoundError:
            return None
        try:
            nvml.nvmlInit()
            meter = cls(nvml, nvml.nvmlDeviceGetHandleByUUID(meant[0].uuid))
            meter.read_joules()
        except nvml.NVMLError:
            return None
        return meter

    def read_joules(self) -> float:
        """Joules since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


def energy_meter(device: str, options: Mapping[str, str], on_host: bool) -> EnergyMeter | None:
    """The meter of a device: NVML where its name is that of CUDA or TensorRT, RAPL for this machine's processors, else None.

    Of the ``options`` of its target, ``provider.device_id`` tells which GPU.
    """
    kind = device.partition(":")[2].lower()
    if kind.startswith(("cuda", "tensorrt", "nvtensorrt")):
        return NvmlMeter.find(int(options.get("provider.device_id", 0)))
    return RaplMeter.find() if on_host else None
