"""ONNX Runtime: kernel times from its profiling events. Needs onnxruntime and onnx."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.devices.machine import cpu_fingerprint
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile, unmarked
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layerclock.network import Kernel

__all__ = ["OnnxRuntimeAdapter", "OnnxRuntimeDevice", "OnnxRuntimeSession"]

_PROVIDER = "CPUExecutionProvider"
_OPTIMISED = "optimised.onnx"
# What ONNX Runtime does unless it is told otherwise, recorded because it matters for times.
_DEFAULTS = {"session.intra_op.allow_spinning": "1", "session.set_denormal_as_zero": "0"}
# What it calls a node that it moved to its blocked layout; a BatchNormalization becomes a convolution there.
_LAYOUT_SUFFIX = re.compile("(_bn)?_nchwc$")
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})
# The profile's times are cut to whole microseconds.
_CUT_OFF_US = 0.5
# The first runs of a profiled session are cold (memory arena, instruction cache) and are not counted.
_COLD_PROFILED_RUNS = 2


class OnnxRuntimeAdapter:
    """Finds and opens ONNX Runtime's devices."""

    def discover(self) -> list[DeviceEntry]:
        """The CPU, wherever ONNX Runtime is installed."""
        cpu = dict(cpu_fingerprint()).get("cpu", "CPU")
        return [DeviceEntry("onnxruntime:cpu", f"ONNX Runtime {onnxruntime.__version__} on {cpu}", True)]

    def open(self, name: str, options: DeviceOptions) -> OnnxRuntimeDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for another precision."""
        return OnnxRuntimeDevice(name, options)


class OnnxRuntimeDevice:
    """The CPU execution provider with one inter-op thread and all graph optimisations."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        if options.precision != "float32":
            raise DeviceUnavailableError(f"{name} runs models in float32 only, not {options.precision}", "use --precision float32")
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
                *sorted({**_DEFAULTS, **options.extra}.items()),
            ),
            fingerprint=cpu_fingerprint(),
        )
        self.options = options
        self.on_host = True

    def session_options(self) -> onnxruntime.SessionOptions:
        """The runtime's options for this target, fresh for each session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.target.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        for key, value in self.options.extra.items():
            try:
                options.add_session_config_entry(key, value)
            except RuntimeError as error:
                raise DeviceError(f"ONNX Runtime refuses the option {key!r}: {error}", "check the option") from error
        return options

    def load(self, model: ModelFile) -> OnnxRuntimeSession:
        """The network in a session that never ran."""
        return OnnxRuntimeSession(self, model)


class OnnxRuntimeSession:
    """One loaded network. Profiling runs in sessions of its own, so that :meth:`run` never carries its cost."""

    def __init__(self, device: OnnxRuntimeDevice, model: ModelFile) -> None:
        self._device = device
        self._model = model
        self._session: onnxruntime.InferenceSession | None = self._open(device.session_options())
        self._kernels: tuple[Kernel, ...] = ()
        self._source = SourceGraph(model.path)
        self._feed = self._source.example_inputs()

    def _open(self, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        try:
            return onnxruntime.InferenceSession(str(self._model.path), options, providers=[_PROVIDER])
        except Exception as error:  # the binding raises classes of its own that share no public base
            raise DeviceError(f"ONNX Runtime cannot load {self._model.path.name}: {_reason(error)}", "export the network again") from error

    def run(self) -> int:
        """Wall time of one inference in ns, without profiling."""
        session = self._alive()
        start = perf_counter_ns()
        _infer(session, self._feed)
        return perf_counter_ns() - start

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name."""
        session = self._alive()
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, (np.asarray(value) for value in _infer(session, inputs)), strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _alive(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise DeviceError("the session is closed", "load the model again")
        return self._session

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Kernel times from the profile of a session of its own; its cold runs are left out."""
        self._alive()
        with tempfile.TemporaryDirectory() as folder:
            options = self._writing_its_graph(Path(folder))
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            for _ in range(_COLD_PROFILED_RUNS):
                _infer(session, self._feed)
            for _ in range(runs):
                mark()
                _infer(session, self._feed)
            mark()
            events = json.loads(Path(session.end_profiling()).read_text())
            samples = _samples(events, _COLD_PROFILED_RUNS + runs)
            operation = {_kernel_name(event): str(event["args"]["op_name"]) for event in events if _is_kernel(event)}
            described = self._describe(operation, _graph(Path(folder), operation))
        self._kernels = self._kernels or tuple(described.values())
        name_here = {kernel: name for name, kernel in described.items()}
        if set(self._kernels) != set(name_here):
            raise DeviceError("ONNX Runtime executed other kernels than before", "measure this network again")
        columns = [samples[name_here[kernel]][_COLD_PROFILED_RUNS:] for kernel in self._kernels]
        return KernelTimes(self._kernels, (np.array(columns, dtype=np.float64).T + _CUT_OFF_US) * 1e3)

    def kernels(self) -> tuple[Kernel, ...]:
        """The nodes of the optimised graph."""
        self._alive()
        with tempfile.TemporaryDirectory() as folder:
            self._open(self._writing_its_graph(Path(folder)))
            graph = _graph(Path(folder))
        return tuple(self._describe({node.name: node.op_type for node in graph.node}, graph).values())

    def _writing_its_graph(self, folder: Path) -> onnxruntime.SessionOptions:
        options = self._device.session_options()
        options.optimized_model_filepath = str(folder / _OPTIMISED)
        # The weights stay out of it: only the graph is read.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        return options

    def _describe(self, operation: Mapping[str, str], graph: onnx.GraphProto) -> dict[str, Kernel]:
        """The kernels of one session, given with their operations, by the name that it gives them."""
        producer = {tensor: node.name for node in graph.node for tensor in node.output}
        reader = {tensor: node.name for node in reversed(graph.node) for tensor in node.input}
        nodes = {node.name: node for node in graph.node}
        executed = []
        for name in operation:
            node = nodes.get(name)
            # A fusion may have a name of the runtime's own; what it makes has the model's. So has what a reorder makes.
            makes = list(node.output) if node is not None and operation[name] not in _REORDERS else []
            origin = next((found for one in (name, *makes) if (found := self._source.find(_LAYOUT_SUFFIX.sub("", one)))), "")
            executed.append(
                Executed(
                    name=name,
                    op=operation[name],
                    operators=(origin,) if origin else (),
                    only_last=True,
                    reader=next((reader[t] for t in node.output if t in reader), "") if node else "",
                    feeder=next((producer[t] for t in node.input if t in producer), "") if node else "",
                    layout="nchwc" if node is not None and node.domain.endswith("nchwc") else "",
                    implementation=_PROVIDER,
                )
            )
        kernels = self._source.kernels(executed, boundaries=producer.keys())
        return {kernel.name: replace(kernel, name=name) for kernel, name in zip(kernels, _lasting_names(executed), strict=True)}


def _lasting_names(executed: list[Executed]) -> list[str]:
    """Names that mean the same in every session.

    ONNX Runtime numbers the reorders that it adds anew in each session, so that one name stands for another kernel in the
    next. They are named here after the kernels between which they stand.
    """
    by_name = {kernel.name: kernel for kernel in executed}

    def settled(name: str, direction: str) -> str:
        while name in by_name and not by_name[name].operators:
            name = getattr(by_name[name], direction)
        return name

    used: Counter[str] = Counter()
    names = []
    for kernel in executed:
        name = kernel.name
        if not kernel.operators:
            name = f"{kernel.op}({settled(kernel.feeder, 'feeder')} -> {settled(kernel.reader, 'reader')})"
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}#{used[name]}")
    return names


def _graph(folder: Path, executed: Iterable[str] = ()) -> onnx.GraphProto:
    """The optimised graph, each of whose nodes has a name.

    What comes out of an operator that is a function (HardSwish, for one) has none there. A profile calls it by its operation and
    its number in the session: such names in ``executed`` are given in order.
    """
    graph = onnx.load(str(folder / _OPTIMISED), load_external_data=False).graph
    named = {node.name for node in graph.node}
    spare: dict[str, list[str]] = defaultdict(list)
    for name in executed:
        if name not in named:
            spare[name.rpartition("_")[0]].append(name)
    for position, node in enumerate(graph.node):
        if not node.name:
            node.name = spare[node.op_type].pop(0) if spare[node.op_type] else f"{node.op_type}_unnamed_{position}"
    return graph


def _infer(session: onnxruntime.InferenceSession, feed: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as error:  # as in loading
        raise DeviceError(f"ONNX Runtime cannot run the network: {_reason(error)}", "check the inputs and the options") from error
    return outputs


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")


def _kernel_name(event: Mapping[str, Any]) -> str:
    return str(event["name"]).removesuffix("_kernel_time")


def _samples(events: list[dict[str, Any]], runs: int) -> dict[str, list[float]]:
    """Duration in us of each kernel in each run, in order of execution."""
    samples: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if _is_kernel(event):
            samples[_kernel_name(event)].append(float(event["dur"]))
    uneven = [name for name, durations in samples.items() if len(durations) != runs]
    if not samples or uneven:
        raise DeviceError(f"ONNX Runtime's profile is incomplete: {uneven[:3] or 'it names no kernel'}", "measure this network again")
    return dict(samples)
