"""One network on ONNX Runtime: plain runs in one session, kernel times in others that write a profile."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from layerclock.devices.attribution import SourceGraph
from layerclock.devices.cache import scratch_folder
from layerclock.devices.onnxruntime.optimised_graph import described, read_optimised, require_products
from layerclock.devices.onnxruntime.profile import read_profile
from layerclock.errors import DeviceError, DeviceUnavailableError, OutputError
from layerclock.interfaces import KernelTimes, ModelFile, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from layerclock.network import Kernel

__all__ = ["CPU", "OnnxRuntimeSession", "Runtime"]

CPU = "CPUExecutionProvider"
_OPTIMISED = "optimised.onnx"
# The first runs of a profiled session are cold (memory arena, instruction cache) and are not counted.
_COLD_PROFILED_RUNS = 2
_NO_ROOM = re.compile(r"Failed to write|No space left")
_LACKING_KERNEL = re.compile(r"Could not find an implementation for (\w+)")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What sessions are opened with: a provider, its own options, ``session_options`` fresh for each; ``on_host`` as a device's."""

    provider: str
    provider_options: tuple[tuple[str, str], ...]
    session_options: Callable[[], onnxruntime.SessionOptions]
    on_host: bool


class OnnxRuntimeSession:
    """One loaded network. Profiling runs in sessions of its own, so that :meth:`run` never carries its cost."""

    def __init__(self, runtime: Runtime, model: ModelFile) -> None:
        self._runtime = runtime
        self._model = model
        self._session: onnxruntime.InferenceSession | None = self._open(runtime.session_options())
        self._kernels: tuple[Kernel, ...] = ()
        self._source = SourceGraph(model.path)
        self._feed = self._source.example_inputs()
        self._fallen = frozenset[str]() if runtime.provider == CPU else self._fallen_back()
        if model.precision != "float32":
            require_products(self._optimised(), model.precision, runtime.provider)

    def _open(self, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        fallback = [] if self._runtime.provider == CPU else [CPU]
        try:
            return onnxruntime.InferenceSession(
                str(self._model.path), options, providers=[(self._runtime.provider, dict(self._runtime.provider_options)), *fallback]
            )
        except Exception as error:  # the binding raises classes of its own that share no public base
            if (lacking := _LACKING_KERNEL.search(str(error))) and self._model.precision != "float32":
                raise DeviceUnavailableError(
                    f"{self._runtime.provider} has no kernel of {lacking[1]} in {self._model.precision}", "use --precision float32"
                ) from error
            if _NO_ROOM.search(str(error)):
                raise OutputError(
                    f"ONNX Runtime could not write into {scratch_folder() or tempfile.gettempdir()}",
                    "free space there, or set TMPDIR to another folder",
                ) from error
            raise DeviceError(f"ONNX Runtime cannot load {self._model.path.name}: {_reason(error)}", "export the network again") from error

    def _fallen_back(self) -> frozenset[str]:
        """The operators that the provider leaves to the CPU. Raises :class:`DeviceUnavailableError` if that is all of them."""
        options = self._runtime.session_options()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        taken: dict[str, set[str]] = {}
        for part in self._open(options).get_provider_graph_assignment_info():
            taken.setdefault(part.ep_name, set()).update(node.name for node in part.get_nodes())
        if not taken.get(self._runtime.provider):
            raise DeviceUnavailableError(
                f"{self._runtime.provider} takes no operator of the network: all would run on the CPU", "use onnxruntime:cpu for that"
            )
        return frozenset(taken.get(CPU, ()))

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
        with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
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
            profile = read_profile(Path(session.end_profiling()), _COLD_PROFILED_RUNS + runs, self._runtime.on_host)
            graph = read_optimised(Path(folder) / _OPTIMISED, profile.operation)
        found = described(self._source, profile.operation, graph, profile.provider)
        self._kernels = self._kernels or tuple(found.values())
        name_here = {kernel: name for name, kernel in found.items()}
        if set(self._kernels) != set(name_here):
            raise DeviceError("ONNX Runtime executed other kernels than before", "measure this network again")
        columns = [profile.samples_us[name_here[kernel]][_COLD_PROFILED_RUNS:] for kernel in self._kernels]
        return KernelTimes(self._kernels, np.array(columns, dtype=np.float64).T * 1e3)

    def kernels(self) -> tuple[Kernel, ...]:
        """The nodes of the optimised graph."""
        self._alive()
        graph = self._optimised()
        operation = {node.name: node.op_type for node in graph.node}
        provider = {name: CPU if self._source.find(name) in self._fallen else self._runtime.provider for name in operation}
        return tuple(described(self._source, operation, graph, provider).values())

    def _optimised(self) -> onnx.GraphProto:
        with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
            self._open(self._writing_its_graph(Path(folder)))
            return read_optimised(Path(folder) / _OPTIMISED)

    def _writing_its_graph(self, folder: Path) -> onnxruntime.SessionOptions:
        options = self._runtime.session_options()
        options.optimized_model_filepath = str(folder / _OPTIMISED)
        # The weights stay out of it: only the graph is read.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        return options


def _infer(session: onnxruntime.InferenceSession, feed: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as error:  # as in loading
        raise DeviceError(f"ONNX Runtime cannot run the network: {_reason(error)}", "check the inputs and the options") from error
    return outputs


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
