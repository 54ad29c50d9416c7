"""LiteRT's device: the processor, by way of XNNPACK."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from layerclock.devices.litert.conversion import converted
from layerclock.devices.litert.session import LiteRtSession
from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.quantisation import in_precision
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, ModelFile
from layerclock.target import Target

__all__ = ["LiteRtAdapter", "LiteRtDevice"]

NAME = "litert:cpu"
_NO_CONVERTER = "litert-torch, which converts networks, is not installed", "pip install 'layerclock[litert]'"


class LiteRtAdapter:
    """Finds and opens LiteRT's device."""

    def discover(self) -> list[DeviceEntry]:
        """The processor, where networks can be converted, too."""
        if find_spec("litert_torch") is None:
            return [DeviceEntry(NAME, "", False, *_NO_CONVERTER)]
        return [DeviceEntry(NAME, f"LiteRT {version('ai-edge-litert')} on {dict(cpu_fingerprint()).get('cpu', 'CPU')}", True)]

    def open(self, name: str, options: DeviceOptions) -> LiteRtDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` without litert-torch, and for any but float32."""
        if find_spec("litert_torch") is None:
            raise DeviceUnavailableError(f"{name} cannot be used: {_NO_CONVERTER[0]}", _NO_CONVERTER[1])
        return LiteRtDevice(name, options)


class LiteRtDevice:
    """LiteRT on the processor; it has no options beside threads and batch."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        if options.precision != "float32":
            raise DeviceUnavailableError(
                f"{name} cannot run networks in {options.precision}: litert-torch converts them in float32", "use --precision float32"
            )
        if options.extra:
            raise DeviceError(f"{name} has no options {dict(options.extra)}", "leave --option out")
        self.options = options
        self.on_host = True
        self.target = Target(
            device=name,
            runtime="litert",
            runtime_version=version("ai-edge-litert"),
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=(("delegate", "xnnpack"),),
            fingerprint=cpu_fingerprint(),
        )

    def prepare(self, model: ModelFile) -> ModelFile:
        """The same network, once litert-torch has converted it into the cache."""
        model = in_precision(model, "float32", {})
        converted(model)
        return model

    def load(self, model: ModelFile) -> LiteRtSession:
        """The network, compiled."""
        prepared = self.prepare(model)
        return LiteRtSession(converted(prepared), self.options.threads, prepared)
