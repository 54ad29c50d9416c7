"""ONNX Runtime's execution providers as devices: which there are, how the others are had, and the settings that a target records."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import onnxruntime

from layerclock.devices.half_precision import in_half
from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.nvidia import nvidia_fingerprint
from layerclock.devices.onnxruntime.session import CPU, OnnxRuntimeSession, Runtime
from layerclock.devices.quantisation import in_precision, quantised_by_onnxruntime
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, ModelFile
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OnnxRuntimeAdapter", "OnnxRuntimeDevice"]

_ALIAS = "onnxruntime:cpu"
# The package whose build of ONNX Runtime has a provider, where one is published. It replaces the package onnxruntime.
_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "DmlExecutionProvider": "onnxruntime-directml",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "NvTensorRTRTXExecutionProvider": "onnxruntime-trt-rtx",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "VitisAIExecutionProvider": "onnxruntime-vitisai",
}
# Those that compute with this machine's own processors.
_ON_HOST = frozenset({CPU, "ACLExecutionProvider", "AzureExecutionProvider", "DnnlExecutionProvider", "XnnpackExecutionProvider"})
_NVIDIA = frozenset({"CUDAExecutionProvider", "NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider"})
# What ONNX Runtime does unless it is told otherwise, recorded because it matters for times.
_DEFAULTS = {"session.intra_op.allow_spinning": "1", "session.set_denormal_as_zero": "0"}
# Options with this beginning are the provider's own.
_OF_PROVIDER = "provider."


def _convert() -> dict[str, Callable[[ModelFile], ModelFile]]:
    halves = {precision: partial(in_half, precision=precision) for precision in ("float16", "bfloat16")}
    return {**halves, "int8": quantised_by_onnxruntime}


class OnnxRuntimeAdapter:
    """Finds and opens ONNX Runtime's devices: ``onnxruntime:cpu``, and others by the names that the runtime gives them."""

    def discover(self) -> list[DeviceEntry]:
        """Every provider that the installed runtime reports; those that it knows of and has not, with how to get them."""
        cpu = dict(cpu_fingerprint()).get("cpu", "CPU")
        version = f"ONNX Runtime {onnxruntime.__version__}"
        present = [name for name in onnxruntime.get_available_providers() if name != CPU]
        absent = [name for name in onnxruntime.get_all_providers() if name not in (CPU, *present)]
        return [
            DeviceEntry(_ALIAS, f"{version} on {cpu}", True),
            *(DeviceEntry(f"onnxruntime:{name}", f"{version} with {name}", True) for name in present),
            *(DeviceEntry(f"onnxruntime:{name}", "", False, "the installed ONNX Runtime has it not", _how_to_get(name)) for name in absent),
        ]

    def open(self, name: str, options: DeviceOptions) -> OnnxRuntimeDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for an absent provider or an unknown precision."""
        return OnnxRuntimeDevice(name, options)


class OnnxRuntimeDevice:
    """One execution provider with one inter-op thread and all graph optimisations; what it does not run is counted as the CPU's.

    Of ``extra``, keys that begin with ``provider.`` are the provider's options (``provider.device_id``), others the session's.
    """

    def __init__(self, name: str, options: DeviceOptions) -> None:
        self.provider = CPU if name == _ALIAS else name.partition(":")[2]
        if self.provider not in onnxruntime.get_available_providers():
            raise DeviceUnavailableError(f"the installed ONNX Runtime has no {self.provider}", _how_to_get(self.provider))
        able = ("float32", *_convert())
        if options.precision not in able:
            raise DeviceUnavailableError(f"{name} runs no networks in {options.precision}", f"use --precision {' or '.join(able)}")
        own = () if self.provider == CPU else (("provider", self.provider),)
        self.target = Target(
            device=name,
            runtime="onnxruntime",
            runtime_version=onnxruntime.__version__,
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=(
                ("execution_mode", "sequential"),
                ("graph_optimization_level", "all"),
                *own,
                *sorted({**_DEFAULTS, **options.extra}.items()),
            ),
            fingerprint=(*(nvidia_fingerprint(_gpu(options)) if self.provider in _NVIDIA else ()), *cpu_fingerprint()),
        )
        self.options = options
        self.on_host = self.provider in _ON_HOST

    def session_options(self) -> onnxruntime.SessionOptions:
        """The runtime's options for this target, fresh for each session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.target.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        for key, value in self.options.extra.items():
            if key.startswith(_OF_PROVIDER):
                continue
            try:
                options.add_session_config_entry(key, value)
            except RuntimeError as error:
                raise DeviceError(f"ONNX Runtime refuses the option {key!r}: {error}", "check the option") from error
        return options

    def prepare(self, model: ModelFile) -> ModelFile:
        """The network as it is loaded: a quantised or half-precision copy, from the cache if it is there."""
        return in_precision(model, self.options.precision, _convert())

    def load(self, model: ModelFile) -> OnnxRuntimeSession:
        """The network in a session that never ran. Raises :class:`DeviceUnavailableError` where it would run in float32 instead."""
        own = sorted((key.removeprefix(_OF_PROVIDER), value) for key, value in self.options.extra.items() if key.startswith(_OF_PROVIDER))
        return OnnxRuntimeSession(Runtime(self.provider, tuple(own), self.session_options, self.on_host), self.prepare(model))


def _gpu(options: DeviceOptions) -> int:
    number = options.extra.get(f"{_OF_PROVIDER}device_id", "0")
    if not number.isdigit():
        raise DeviceError(f"the option {_OF_PROVIDER}device_id={number!r} is no number", "0 is the first GPU")
    return int(number)


def _how_to_get(provider: str) -> str:
    package = _PACKAGES.get(provider)
    return f"pip install {package} in the place of onnxruntime" if package else "build ONNX Runtime with it: onnxruntime.ai/docs/build/eps"
