"""A device: an imaginary board whose times follow from the sizes of the tensors. A real one would call its runtime here."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile, unmarked
from layerclock.network import Kernel, TensorSpec
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

_LAUNCH_NS, _NS_PER_ELEMENT = 2000.0, 3.0


class ExampleAdapter:
    """Offers ``example:board``, and says how to get the board that is not plugged in."""

    def discover(self) -> list[DeviceEntry]:
        """Both boards; the absent one with reason and remedy."""
        absent = DeviceEntry("example:big-board", "", False, "it is not plugged in", "plug it in")
        return [DeviceEntry("example:board", "an imaginary board", True), absent]

    def open(self, name: str, options: DeviceOptions) -> ExampleDevice:
        """The board with its settings; raises :class:`DeviceUnavailableError` for the absent one."""
        if name != "example:board":
            raise DeviceUnavailableError(f"{name} is not plugged in", "plug it in")
        if options.precision != "float32":
            raise DeviceUnavailableError(f"{name} does not run {options.precision}", "use --precision float32")
        return ExampleDevice(name, options)


class ExampleDevice:
    """Every setting that changes the times is part of the target."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        self.options = options
        self.on_host = False
        settings, identity = tuple(sorted(options.extra.items())), (("board", "imaginary"),)
        self.target = Target(name, "example", "0.1.0", options.precision, options.threads, options.batch, settings, identity)

    def load(self, model: ModelFile) -> ExampleSession:
        """The network, ready to run."""
        return ExampleSession(model)


class ExampleSession:
    """One kernel for each operator of the model; the names of operators begin with their layer's site."""

    def __init__(self, model: ModelFile) -> None:
        self._model = onnx.shape_inference.infer_shapes(onnx.load(str(model.path)))
        graph = self._model.graph
        tensors = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output)}
        shapes = {name: tuple(axis.dim_value for axis in axes) for name, axes in tensors.items()}
        self._kernels = tuple(
            Kernel(node.name, node.op_type, node.name.split("/")[0], (node.op_type,), outputs=(TensorSpec(shapes[node.output[0]]),))
            for node in graph.node
        )
        self._cost_ns = np.array([_LAUNCH_NS + _NS_PER_ELEMENT * prod(shapes[node.output[0]]) for node in graph.node])
        self._random = np.random.default_rng(0)
        self._open = True

    def run(self) -> int:
        """Wall time of one inference in ns."""
        return int(self.kernel_times(1).samples_ns.sum())

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Times of every kernel in each of ``runs`` inferences."""
        self._alive()
        for _ in range(runs + 1):  # around every run, so that the profiler sees what disturbs it
            mark()
        return KernelTimes(self._kernels, self._cost_ns * (1 + 0.005 * self._random.random((runs, len(self._cost_ns)))))

    def kernels(self) -> tuple[Kernel, ...]:
        """What the board will execute, without a run."""
        return self._kernels

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name."""
        self._alive()
        evaluator = ReferenceEvaluator(self._model)
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))

    def close(self) -> None:
        """Free the board."""
        self._open = False

    def _alive(self) -> None:
        if not self._open:
            raise DeviceError("the session is closed", "load the model again")
