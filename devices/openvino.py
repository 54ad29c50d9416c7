"""OpenVINO: kernel times from its performance counters, de-averaged. Needs openvino and onnx.

``get_profiling_info()`` gives each kernel's *mean over all runs since compilation*, cut to whole microseconds
(``perf_count.h``). Single runs are recovered as :mod:`layerclock.devices.running_means` says, as long as the counting network
has run a few times; then it is compiled afresh. Each run's own time is cut to whole microseconds, too: half
of one is lost on average, a tenth of a small network's time, and is put back here.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.devices.machine import cpu_fingerprint
from layerclock.devices.running_means import taut
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile, unmarked
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from layerclock.network import Kernel

__all__ = ["OpenVinoAdapter", "OpenVinoDevice", "OpenVinoSession"]

# At n runs a slow run shows by what it took above n - 1 us.
_MOST_COUNTED_RUNS = 32
_CUT_OFF_US = 0.5
# Implementations of nodes that the plug-in may optimise away: fused into another node, or done in place.
_MAY_BE_SKIPPED = ("undef", "unknown", "reorder")


class OpenVinoAdapter:
    """Finds and opens OpenVINO's CPU device."""

    def discover(self) -> list[DeviceEntry]:
        """The CPU, wherever OpenVINO finds it."""
        core = openvino.Core()
        version = openvino.__version__.split("-")[0]
        return [
            DeviceEntry("openvino:CPU", f"OpenVINO {version} on {core.get_property('CPU', 'FULL_DEVICE_NAME').strip()}", True)
            for device in core.available_devices
            if device == "CPU"
        ]

    def open(self, name: str, options: DeviceOptions) -> OpenVinoDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for another precision."""
        return OpenVinoDevice(name, options)


class OpenVinoDevice:
    """OpenVINO's CPU plug-in with one stream and the latency hint."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        precisions = {"float32": "f32"}
        if options.precision not in precisions:
            raise DeviceUnavailableError(f"{name} runs models in float32 only, not {options.precision}", "use --precision float32")
        self.options = options
        self.on_host = True
        self.core = openvino.Core()
        self.config = {
            "CPU_DENORMALS_OPTIMIZATION": "NO",
            "INFERENCE_NUM_THREADS": str(options.threads),
            "INFERENCE_PRECISION_HINT": precisions[options.precision],
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            **options.extra,
        }
        self.target = Target(
            device=name,
            runtime="openvino",
            runtime_version=openvino.__version__.split("-")[0],
            precision=options.precision,
            threads=options.threads,
            batch=options.batch,
            options=tuple(sorted(self.config.items())),
            fingerprint=cpu_fingerprint(),
        )

    def load(self, model: ModelFile) -> OpenVinoSession:
        """The network compiled; it never ran."""
        return OpenVinoSession(self, model)


class OpenVinoSession:
    """One loaded network; a second compilation with counters on exists only once :meth:`kernel_times` was asked."""

    def __init__(self, device: OpenVinoDevice, model: ModelFile) -> None:
        self._device = device
        self._model = model
        try:
            self._network = device.core.read_model(str(model.path))
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot read {model.path.name}: {_reason(error)}", "export the network again") from error
        self._request: openvino.InferRequest | None = self._compile({}).create_infer_request()
        self._source = SourceGraph(model.path)
        examples = self._source.example_inputs()
        self._inputs = [openvino.Tensor(examples[port.get_any_name()]) for port in self._network.inputs]
        self._set_inputs(self._request)
        self._counting: _Counters | None = None
        self._kernels: tuple[Kernel, ...] = ()

    def _compile(self, extra: Mapping[str, str]) -> openvino.CompiledModel:
        try:
            return self._device.core.compile_model(self._network, "CPU", {**self._device.config, **extra})
        except RuntimeError as error:
            raise DeviceError(
                f"OpenVINO cannot compile {self._model.path.name}: {_reason(error)}", "check the options and the model"
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
            raise _not_run(error) from error
        return perf_counter_ns() - start

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name; the fixed inputs are put back."""
        request = self._alive()
        try:
            # As tensors: an array would be copied into the fixed inputs.
            result = request.infer({name: openvino.Tensor(np.ascontiguousarray(value)) for name, value in inputs.items()})
            return {port.get_any_name(): np.array(value) for port, value in result.items()}
        except RuntimeError as error:
            raise _not_run(error) from error
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
            if self._counting is None or self._counting.runs >= _MOST_COUNTED_RUNS:
                self._counting = self._start_counting()
            now = min(missing, _MOST_COUNTED_RUNS - self._counting.runs)
            blocks.append(self._counting.measure(now, mark))
            missing -= now
        mark()
        return KernelTimes(self._kernels, np.concatenate(blocks))

    def kernels(self) -> tuple[Kernel, ...]:
        """The nodes of the compiled network that are neither folded away nor done in place."""
        self._alive()
        compiled = self._compile({})
        running = _to_run(compiled)
        kernels = self._source.kernels(_executed(compiled, list(running), list(running.values())))
        names = _lasting_names(list(running), self._source)
        return tuple(replace(kernel, name=name) for kernel, name in zip(kernels, names, strict=True))

    def _start_counting(self) -> _Counters:
        compiled = self._compile({"PERF_COUNT": "YES"})
        request = compiled.create_infer_request()
        self._set_inputs(request)
        counters = _Counters(request, self._source, [kernel.name for kernel in self._kernels])
        if not self._kernels:
            kernels = self._source.kernels(_executed(compiled, counters.nodes, counters.implementations))
            self._kernels = tuple(replace(kernel, name=name) for kernel, name in zip(kernels, counters.names, strict=True))
        return counters


class _Counters:
    """Recovers single runs from the running means of one compiled network.

    ``names`` are the lasting names of the kernels to follow, as an earlier compilation showed them; without them, those
    that ran. ``nodes`` are what this compilation calls them.
    """

    def __init__(self, request: openvino.InferRequest, source: SourceGraph, names: Sequence[str] = ()) -> None:
        self._request = request
        request.infer()  # the cold run; it stays inside every later mean and cancels in the difference
        found = request.get_profiling_info()
        infos = dict(zip(_lasting_names([info.node_name for info in found], source), found, strict=True))
        if not infos.keys() >= set(names):
            raise DeviceError("OpenVINO compiled the network into other kernels than before", "measure this network again")
        self.names = list(names) or [name for name, info in infos.items() if _ran(info)]
        self.nodes = [infos[name].node_name for name in self.names]
        self.implementations = [infos[name].exec_type for name in self.names]
        self._totals_us = [self._means()]

    @property
    def runs(self) -> int:
        """How often the network ran, the cold run included."""
        return len(self._totals_us)

    def _means(self) -> npt.NDArray[np.float64]:
        means = {info.node_name: info.real_time.total_seconds() * 1e6 for info in self._request.get_profiling_info()}
        return np.array([means[node] for node in self.nodes])

    def measure(self, runs: int, mark: Callable[[], None]) -> npt.NDArray[np.float64]:
        """Kernel times in ns, float64[runs, kernels]."""
        for _ in range(runs):
            mark()
            try:
                self._request.infer()
            except RuntimeError as error:
                raise _not_run(error) from error
            self._totals_us.append(self._means() * (self.runs + 1))
        steps_us = np.diff(taut(np.array(self._totals_us)), axis=0)[-runs:]
        return (steps_us + _CUT_OFF_US) * 1e3


def _lasting_names(nodes: Sequence[str], source: SourceGraph) -> list[str]:
    """Names that mean the same in every compilation: OpenVINO numbers the nodes that it makes itself anew each time."""
    used: Counter[str] = Counter()
    names = []
    for node in nodes:
        name = node if source.find(node) else re.sub(r"\d+", "", node)
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}#{used[name]}")
    return names


def _ran(info: openvino.ProfilingInfo) -> bool:
    """Whether a node is a kernel. One that takes less than the counters' 1 us is reported as not run, now and then."""
    return "NOT_RUN" not in str(info.status) or not info.exec_type.startswith(_MAY_BE_SKIPPED)


def _to_run(compiled: openvino.CompiledModel) -> dict[str, str]:
    """The compiled network's nodes that will run, with their implementations: what :func:`_ran` tells once they did."""
    running = {}
    computed: set[str] = set()  # from the network's inputs: what only constants lead to was computed by the compiler
    for node in compiled.get_runtime_model().get_ordered_ops():
        name, kind, implementation = node.get_friendly_name(), _information(node, "layerType"), _information(node, "primitiveType")
        before = [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]
        if kind == "Input" or computed.intersection(before):
            computed.add(name)
        in_place = implementation.startswith("unknown") and kind != "Transpose"
        if name in computed and kind not in ("Input", "Output") and not in_place and not _is_fake(node, kind, implementation):
            running[name] = implementation
    return running


def _is_fake(node: openvino.Node, kind: str, implementation: str) -> bool:
    """Whether it is a reorder between two layouts that are the same bytes."""
    if kind != "Reorder" or not implementation.startswith("reorder"):
        return False
    return str(node.get_friendly_name()).endswith("_fake") or _one_layout(tuple(node.get_output_shape(0)))


def _one_layout(shape: tuple[int, ...]) -> bool:
    """Whether it makes no difference if the channels stand first or last."""
    return len(shape) < 3 or shape[1] == 1 or all(axis == 1 for axis in shape[2:])


def _information(node: openvino.Node, key: str) -> str:
    value = node.get_rt_info()
    return str(value[key].value) if key in value else ""


def _not_run(error: RuntimeError) -> DeviceError:
    return DeviceError(f"OpenVINO cannot run the network: {_reason(error)}", "check the inputs and the options")


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages open with its own source lines; the last line says what is wrong."""
    return str(error).strip().splitlines()[-1]


def _executed(compiled: openvino.CompiledModel, names: list[str], implementations: list[str]) -> list[Executed]:
    operations = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ops()}
    ran = set(names)

    executed = []
    for name, implementation in zip(names, implementations, strict=True):
        node = operations[name]
        executed.append(
            Executed(
                name=name,
                op=_information(node, "layerType"),
                operators=tuple(filter(None, _information(node, "originalLayersNames").split(","))),
                reader=_nearest(node, ran, lambda one: [port.get_node() for out in one.outputs() for port in out.get_target_inputs()]),
                feeder=_nearest(node, ran, lambda one: [value.get_source_output().get_node() for value in one.inputs()]),
                layout=_information(node, "outputLayouts"),
                shape=_shape(node.output(0)),
                read=_shape(node.input(0)) if node.inputs() else (),
                implementation=implementation,
            )
        )
    return executed


def _shape(port: openvino.Output | openvino.Input) -> tuple[int, ...]:
    return tuple(port.get_shape()) if port.get_partial_shape().is_static else ()


def _nearest(node: openvino.Node, ran: set[str], neighbours: Callable[[openvino.Node], list[openvino.Node]]) -> str:
    """The nearest kernel in one direction, through nodes that did not run; empty if there is none."""
    pending, seen = deque(neighbours(node)), set()
    while pending:
        current = pending.popleft()
        name = current.get_friendly_name()
        if name in ran:
            return str(name)
        if name not in seen:
            seen.add(name)
            pending += neighbours(current)
    return ""
