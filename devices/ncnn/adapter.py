"""ncnn's device: the processor, with the settings that a target records."""

from __future__ import annotations

import ncnn

from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.ncnn.conversion import converted
from layerclock.devices.ncnn.session import NcnnSession
from layerclock.devices.quantisation import in_precision
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, ModelFile
from layerclock.target import Target

__all__ = ["NcnnAdapter", "NcnnDevice"]

NAME = "ncnn:cpu"
# ncnn computes in half precision wherever it may, unless it is told not to.
_HALF = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
)  # fmt: skip
_SWITCHES = ("use_winograd_convolution", "use_sgemm_convolution", "use_packing_layout", "lightmode")


class NcnnAdapter:
    """Finds and opens ncnn's device."""

    def discover(self) -> list[DeviceEntry]:
        """The processor."""
        return [DeviceEntry(NAME, f"ncnn {ncnn.__version__} on {dict(cpu_fingerprint()).get('cpu', 'CPU')}", True)]

    def open(self, name: str, options: DeviceOptions) -> NcnnDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for a precision or batch that ncnn cannot run."""
        return NcnnDevice(name, options)


class NcnnDevice:
    """ncnn on the processor. Its options are the switches of ``ncnn.Option``, as 0 or 1: ``use_winograd_convolution=0``."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        if options.batch != 1:
            raise DeviceUnavailableError(f"{name} cannot run batches of {options.batch}: ncnn's tensors have no batch", "use --batch 1")
        able = ["float32", *(["float16"] if ncnn.cpu_support_arm_asimdhp() else [])]
        if options.precision not in able:
            raise DeviceUnavailableError(
                f"{name} cannot run networks in {options.precision}: the processor has no instructions for it, or ncnn's package no tool",
                f"use --precision {' or '.join(able)}",
            )
        unknown = sorted(key for key, value in options.extra.items() if key not in _SWITCHES or value not in ("0", "1"))
        if unknown:
            raise DeviceError(f"{name} has no option {unknown[0]}={options.extra[unknown[0]]}", f"0 or 1 for {', '.join(_SWITCHES)}")
        switches = {key: value == "1" for key, value in options.extra.items()}
        half = options.precision == "float16"
        self._settings = {key: half and "fp16" in key for key in _HALF} | switches | {"num_threads": options.threads}
        self.options = options
        self.on_host = True
        self.target = Target(
            device=name,
            runtime="ncnn",
            runtime_version=ncnn.__version__,
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=tuple(sorted(options.extra.items())),
            fingerprint=cpu_fingerprint(),
        )

    def prepare(self, model: ModelFile) -> ModelFile:
        """The same network, once pnnx has converted it into the cache."""
        model = in_precision(model, "float32", {})
        converted(model)
        return model

    def load(self, model: ModelFile) -> NcnnSession:
        """The network as ncnn's layers."""
        return NcnnSession(self._settings, self.prepare(model))
