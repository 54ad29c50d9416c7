"""OpenVINO's devices: which there are, how the others are had, and the settings that a target records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openvino

from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.openvino.session import OpenVinoSession
from layerclock.devices.quantisation import in_precision, quantised_by_nncf
from layerclock.errors import DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, ModelFile
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OpenVinoAdapter", "OpenVinoDevice"]

# The kinds of device that OpenVINO's package brings plug-ins for, and what each needs of the machine.
_HOW_TO_GET = {
    "CPU": "install the package openvino for this processor",
    "GPU": "an Intel GPU, its driver (intel-opencl-icd) and the right to open /dev/dri/renderD*",
    "NPU": "an Intel Core Ultra, its driver (linux-npu-driver) and the right to open /dev/accel/accel0",
}
# By precision: the hint, and the capability that a device must claim for it. Quantised networks compute the rest in float32.
_PRECISIONS = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16"), "int8": ("f32", "INT8")}
# What tells one device from another of its kind, where it is told.
_IDENTITY = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "GPU_UARCH_VERSION", "NPU_DRIVER_VERSION")


class OpenVinoAdapter:
    """Finds and opens OpenVINO's devices."""

    def discover(self) -> list[DeviceEntry]:
        """Every device that OpenVINO lists, and the kinds of which it finds none."""
        core = openvino.Core()
        version = _version()
        found = list(core.available_devices)
        entries = [
            DeviceEntry(f"openvino:{device}", f"OpenVINO {version} on {core.get_property(device, 'FULL_DEVICE_NAME').strip()}", True)
            for device in found
        ]
        absent = [kind for kind in _HOW_TO_GET if not any(device.split(".")[0] == kind for device in found)]
        return [*entries, *(DeviceEntry(f"openvino:{kind}", "", False, "OpenVINO finds none here", _HOW_TO_GET[kind]) for kind in absent)]

    def open(self, name: str, options: DeviceOptions) -> OpenVinoDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for one that is not there, or a precision that it lacks."""
        return OpenVinoDevice(name, options)


class OpenVinoDevice:
    """One of OpenVINO's devices with the latency hint and one stream; ``extra`` overrides (``PERFORMANCE_HINT=THROUGHPUT``)."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        self.core = openvino.Core()
        self._plugin = name.partition(":")[2]
        if self._plugin not in self.core.available_devices:
            kind = self._plugin.split(".")[0]
            raise DeviceUnavailableError(f"OpenVINO finds no {self._plugin} here", _HOW_TO_GET.get(kind, "see: layerclock devices"))
        capabilities = self.core.get_property(self._plugin, "OPTIMIZATION_CAPABILITIES")
        able = [precision for precision, (_, capability) in _PRECISIONS.items() if capability in capabilities]
        if options.precision not in able:
            raise DeviceUnavailableError(
                f"{name} cannot run networks in {options.precision}: OpenVINO's capabilities of it are {', '.join(sorted(capabilities))}",
                f"use --precision {' or '.join(able)}",
            )
        self.options = options
        self.on_host = self._plugin == "CPU"
        self.config = self._configuration()
        self.target = Target(
            device=name,
            runtime="openvino",
            runtime_version=_version(),
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=tuple(sorted(self.config.items())),
            fingerprint=cpu_fingerprint() if self.on_host else (*self._identity(), *cpu_fingerprint()),
        )

    def _configuration(self) -> dict[str, str]:
        usual = {
            "CPU_DENORMALS_OPTIMIZATION": "NO",
            "INFERENCE_NUM_THREADS": str(self.options.threads),
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.options.precision][0],
            "PERFORMANCE_HINT": "LATENCY",
        }
        # Another hint than ours decides itself on streams.
        usual |= {} if "PERFORMANCE_HINT" in self.options.extra else {"NUM_STREAMS": "1"}
        known: Mapping[str, str] = self.core.get_property(self._plugin, "SUPPORTED_PROPERTIES")
        return {key: value for key, value in usual.items() if key in known} | dict(self.options.extra)

    def _identity(self) -> tuple[tuple[str, str], ...]:
        known = self.core.get_property(self._plugin, "SUPPORTED_PROPERTIES")
        return tuple((key.lower(), str(self.core.get_property(self._plugin, key)).strip()) for key in _IDENTITY if key in known)

    def prepare(self, model: ModelFile) -> ModelFile:
        """The network as it is loaded: for int8 a copy that NNCF quantised, from the cache if it is there."""
        return in_precision(model, self.options.precision, {"int8": quantised_by_nncf})

    def load(self, model: ModelFile) -> OpenVinoSession:
        """The network compiled; it never ran. Raises :class:`DeviceUnavailableError` where it would run in another precision."""
        return OpenVinoSession(self.core, self._plugin, self.config, self.options.precision, self.prepare(model))


def _version() -> str:
    return str(openvino.__version__).split("-")[0]
