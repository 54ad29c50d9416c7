"""torch's devices: eager and compiled on the processor, eager and as CUDA graphs on a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import torch

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.export import build_network
from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.torch.compiled import CompiledOnHost, missing_compiler
from layerclock.devices.torch.cuda import EagerOnCuda, GraphOnCuda, cuda_fingerprint, fp32_on_cuda
from layerclock.devices.torch.session import EagerOnHost, Loaded, TorchSession
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, ModelFile
from layerclock.plugins import load_space
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.devices.torch.session import Execution

__all__ = ["TorchAdapter", "TorchDevice"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_NO_CUDA = "torch finds no CUDA device"
_GET_CUDA = "an NVIDIA GPU with its driver, and a torch with CUDA: pip install torch --index-url https://download.pytorch.org/whl/cu130"


@dataclass(frozen=True, slots=True)
class _Way:
    """A device's name to what runs networks there; ``settings`` are recorded in the target."""

    description: str
    execute: Callable[[Loaded], Execution]
    on_host: bool
    missing: Callable[[], tuple[str, str] | None]
    settings: tuple[tuple[str, str], ...]


def _missing_cuda() -> tuple[str, str] | None:
    return None if torch.cuda.is_available() else (_NO_CUDA, _GET_CUDA)


_WAYS = {
    "torch:cpu": _Way("eager", EagerOnHost, True, lambda: None, (("mode", "eager"),)),
    "torch:cpu-compiled": _Way(
        "torch.compile", CompiledOnHost, True, missing_compiler, (("freezing", "1"), ("inductor", "default"), ("mode", "compiled"))
    ),
    "torch:cuda": _Way("eager", EagerOnCuda, False, _missing_cuda, (("mode", "eager"),)),
    "torch:cuda-graph": _Way("CUDA graph", GraphOnCuda, False, _missing_cuda, (("mode", "graph"),)),
}


class TorchAdapter:
    """Finds and opens torch's devices."""

    def discover(self) -> list[DeviceEntry]:
        """All ways to run networks in torch; those that cannot be used here with what they lack."""
        entries = []
        for name, way in _WAYS.items():
            missing = way.missing()
            description = "" if missing else f"torch {torch.__version__}, {way.description}, on {_processor(way.on_host)}"
            entries.append(DeviceEntry(name, description, missing is None, *(missing or ())))
        return entries

    def open(self, name: str, options: DeviceOptions) -> TorchDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for what is absent, or a precision that it lacks."""
        return TorchDevice(name, options)


class TorchDevice:
    """Runs the torch modules that spaces build. Its one option is ``memory_format``: ``contiguous`` or ``channels_last``."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        self._way = _WAYS[name]
        if missing := self._way.missing():
            raise DeviceUnavailableError(f"{name} cannot be used: {missing[0]}", missing[1])
        unable = _unable(options.precision, self._way.on_host)
        if unable:
            raise DeviceUnavailableError(f"{name} cannot run networks in {options.precision}: {unable}", "use --precision float32")
        settings = {"memory_format": "contiguous", **options.extra}
        if set(settings) != {"memory_format"} or settings["memory_format"] not in _FORMATS:
            raise DeviceError(f"{name} has no options {dict(options.extra)}", f"memory_format={' or '.join(_FORMATS)}")
        self._format = _FORMATS[settings["memory_format"]]
        self.options = options
        self.on_host = self._way.on_host
        self.target = Target(
            device=name,
            runtime="torch",
            runtime_version=torch.__version__,
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=tuple(sorted({**dict(self._way.settings), **settings, **({} if self.on_host else fp32_on_cuda())}.items())),
            fingerprint=cpu_fingerprint() if self.on_host else (*cuda_fingerprint(), *cpu_fingerprint()),
        )

    def load(self, model: ModelFile) -> TorchSession:
        """The module that the file was exported from, built anew with the same weights.

        Raises :class:`DeviceError` for a model that no registered space built.
        """
        if not model.space:
            raise DeviceError(
                f"{model.path.name} is a model without a torch module behind it",
                "torch runs networks of a space: --space; other models run on onnxruntime or openvino",
            )
        torch.set_num_threads(self.options.threads)
        dtype, place = _DTYPES[self.options.precision], "cpu" if self.on_host else "cuda"
        source = SourceGraph(model.path)
        module = build_network(load_space(model.space), model.genome, model.digest).to(place, dtype)
        module = module.to(memory_format=self._format)  # type: ignore[call-overload]  # torch's own stubs leave it out
        given = (torch.as_tensor(value) for value in source.example_inputs().values())
        inputs = tuple(self._formed(tensor.to(place, dtype) if tensor.is_floating_point() else tensor.to(place)) for tensor in given)
        outputs = tuple(value.name for value in onnx.load(str(model.path), load_external_data=False).graph.output)
        loaded = Loaded(module, inputs, model.sites, tuple(source.inputs), outputs)
        return TorchSession(loaded, self._way.execute(loaded))

    def _formed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=self._format) if tensor.dim() == 4 else tensor


def _unable(precision: str, on_host: bool) -> str:
    """Why networks cannot be run in a precision; empty if they can."""
    if precision not in _DTYPES:
        return f"torch's own networks run in {', '.join(_DTYPES)}; quantised ones run on onnxruntime and openvino"
    asked: dict[tuple[str, bool], Callable[[], bool]] = {
        ("bfloat16", True): torch.ops.mkldnn._is_mkldnn_bf16_supported,
        ("float16", True): torch.ops.mkldnn._is_mkldnn_fp16_supported,
        ("bfloat16", False): torch.cuda.is_bf16_supported,
    }
    able = asked.get((precision, on_host), lambda: True)()
    return "" if able else "the processor has no instructions for it, and float32 would be computed instead"


def _processor(on_host: bool) -> str:
    return dict(cpu_fingerprint()).get("cpu", "CPU") if on_host else torch.cuda.get_device_name()
