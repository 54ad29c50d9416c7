"""One network on OpenVINO: plain runs on one compilation, kernel times on a second one with counters."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.openvino.compiled_graph import executed_kernels, lasting_names, product_types, to_run
from layerclock.devices.openvino.counters import MOST_COUNTED_RUNS, Counters, not_run, reason
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import KernelTimes, ModelFile, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.network import Kernel

__all__ = ["OpenVinoSession"]

# What a product's type is called that computes in each of our precisions.
_RUNS_AS = {"float32": ("f32",), "bfloat16": ("bf16",), "float16": ("f16",), "int8": ("i8", "u8")}


# Runs of a further compilation that are left out, while its weights settle in the last cache.
_COLD_RUNS = 24


class OpenVinoSession:
    """One loaded network; a second compilation with counters on exists only once :meth:`kernel_times` was asked."""

    def __init__(self, core: openvino.Core, name: str, config: Mapping[str, str], precision: str, model: ModelFile) -> None:
        self._core, self._name, self._config = core, name, config
        self._model = model
        try:
            self._network = core.read_model(str(model.path))
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot read {model.path.name}: {reason(error)}", "export the network again") from error
        compiled = self._compile({})
        _require(precision, product_types(compiled), name)
        self._request: openvino.InferRequest | None = compiled.create_infer_request()
        self._source = SourceGraph(model.path)
        examples = self._source.example_inputs()
        self._inputs = [openvino.Tensor(examples[port.get_any_name()]) for port in self._network.inputs]
        self._set_inputs(self._request)
        self._counting: Counters | None = None
        self._kernels: tuple[Kernel, ...] = ()

    def _compile(self, extra: Mapping[str, str]) -> openvino.CompiledModel:
        try:
            return self._core.compile_model(self._network, self._name, {**self._config, **extra})
        except RuntimeError as error:
            raise DeviceError(
                f"OpenVINO cannot compile {self._model.path.name}: {reason(error)}", "check the options and the model"
            ) from error

    def _set_inputs(self, request: openvino.InferRequest) -> None:
        for position, tensor in enumerate(self._inputs):
            request.set_input_tensor(position, tensor)

    def _alive(self) -> openvino.InferRequest:
        if self._request is None:
            raise DeviceError("the session is closed", "load the model again")
        return self._request

    def run(self) -> int:
        """Wall time of one inference in ns, without counters."""
        request = self._alive()
        start = perf_counter_ns()
        try:
            request.infer()
        except RuntimeError as error:
            raise not_run(error) from error
        return perf_counter_ns() - start

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name; the fixed inputs are put back."""
        request = self._alive()
        try:
            # As tensors: an array would be copied into the fixed inputs.
            result = request.infer({name: openvino.Tensor(np.ascontiguousarray(value)) for name, value in inputs.items()})
            return {port.get_any_name(): np.array(value) for port, value in result.items()}
        except RuntimeError as error:
            raise not_run(error) from error
        finally:
            self._set_inputs(request)

    def close(self) -> None:
        """Free both compiled networks."""
        self._request = self._counting = None

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Kernel times recovered from the running means of a second compilation."""
        self._alive()
        blocks: list[npt.NDArray[np.float64]] = []
        missing = runs
        while missing:
            now = min(missing, MOST_COUNTED_RUNS - 1 - (_COLD_RUNS if blocks else 0))
            # Runs that are asked for together stay in one compilation as far as that goes: a fresh one begins with cold caches.
            if self._counting is None or self._counting.runs + now > MOST_COUNTED_RUNS:
                self._counting = self._start_counting()
                if blocks:  # whoever asks expects only the first runs to be cold
                    self._counting.measure(_COLD_RUNS, unmarked)
            blocks.append(self._counting.measure(now, mark))
            missing -= now
        mark()
        return KernelTimes(self._kernels, np.concatenate(blocks))

    def kernels(self) -> tuple[Kernel, ...]:
        """The nodes of the compiled network that are neither folded away nor done in place."""
        self._alive()
        compiled = self._compile({})
        running = to_run(compiled)
        kernels = self._source.kernels(executed_kernels(compiled, list(running), list(running.values()), self._source))
        names = lasting_names(list(running), self._source)
        return tuple(replace(kernel, name=name) for kernel, name in zip(kernels, names, strict=True))

    def _start_counting(self) -> Counters:
        compiled = self._compile({"PERF_COUNT": "YES"})
        request = compiled.create_infer_request()
        self._set_inputs(request)
        counters = Counters(request, self._source, [kernel.name for kernel in self._kernels])
        if not self._kernels:
            kernels = self._source.kernels(executed_kernels(compiled, counters.nodes, counters.implementations, self._source))
            self._kernels = tuple(replace(kernel, name=name) for kernel, name in zip(kernels, counters.names, strict=True))
        return counters


def _require(precision: str, products: list[str], name: str) -> None:
    """Raise :class:`DeviceUnavailableError` where the compiler quietly chose another type for every product of the network."""
    if products and not any(kind in _RUNS_AS[precision] for kind in products):
        raise DeviceUnavailableError(
            f"OpenVINO's {name} was asked for {precision}, and compiled the network to run in {', '.join(sorted(set(products)))}",
            "use --precision float32, or a device that computes in it",
        )
