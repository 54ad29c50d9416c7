"""A deterministic stand-in for a device, for tests and for trying out plug-ins. Its times are computed, not measured.

Each kernel costs a launch, its multiply-accumulates and its bytes, by fixed rates, and varies a little from run to run
by a seeded generator: a campaign on it gives the same table on every machine. Needs onnx.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference

from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.network import Kernel

__all__ = ["FakeAdapter", "FakeDevice", "FakeSession"]

_LAUNCH_NS = 1500.0
_NS_PER_MAC = 0.04
_NS_PER_BYTE = 0.05
_CALL_NS = 20000.0
_NOISE = 0.01
_FUSED = frozenset({"Relu", "HardSwish", "HardSigmoid", "Clip", "Sigmoid", "BatchNormalization"})


class FakeAdapter:
    """Offers one device, ``fake:cpu``."""

    def discover(self) -> list[DeviceEntry]:
        """The one device, always available."""
        return [DeviceEntry("fake:cpu", "deterministic stand-in for tests; its times are computed, not measured", True)]

    def open(self, name: str, options: DeviceOptions) -> FakeDevice:
        """The device with these options; raises :class:`DeviceUnavailableError` for another precision."""
        return FakeDevice(name, options)


class FakeDevice:
    """More threads divide the computed times; ``extra={"slowdown": "2"}`` multiplies them."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        if options.precision != "float32":
            raise DeviceUnavailableError(f"{name} runs models in float32 only, not {options.precision}", "use --precision float32")
        self.target = Target(
            name, "fake", "1", options.precision, options.threads, options.batch, tuple(sorted(options.extra.items())), (("cpu", "fake"),)
        )
        try:
            self.factor = float(options.extra.get("slowdown", "1")) / options.threads
        except ValueError as error:
            raise DeviceError(f"{name}: slowdown must be a number: {error}", "for example --option slowdown=2") from error

    def load(self, model: ModelFile) -> FakeSession:
        """A session that computes the network's times from its kernels' sizes."""
        return FakeSession(self, model)


class FakeSession:
    """One network: convolutions and products with the activation behind them as one kernel, other operators alone."""

    def __init__(self, device: FakeDevice, model: ModelFile) -> None:
        source = SourceGraph(model.path)
        self._path = model.path
        self._kernels: tuple[Kernel, ...] = source.kernels(_fuse(source))
        self._cost_ns = np.array([_cost_ns(kernel) for kernel in self._kernels]) * device.factor
        self._noise = np.random.default_rng(int(model.digest[:8], 16))
        self._open = True

    def run(self) -> int:
        """Sum of the kernels' computed times and a call's cost, in ns."""
        self._alive()
        return int(self._noisy(1).sum() + _CALL_NS)

    def kernel_times(self, runs: int) -> KernelTimes:
        """Computed times of each kernel, varied by the seeded generator."""
        self._alive()
        return KernelTimes(self._kernels, self._noisy(runs))

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by onnx's reference evaluator."""
        self._alive()
        evaluator = onnx.reference.ReferenceEvaluator(onnx.load(str(self._path)))
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))

    def close(self) -> None:
        """Refuse every later call."""
        self._open = False

    def _alive(self) -> None:
        if not self._open:
            raise DeviceError("the session is closed", "load the model again")

    def _noisy(self, runs: int) -> npt.NDArray[np.float64]:
        times: npt.NDArray[np.float64] = self._cost_ns * (1 + _NOISE * self._noise.gamma(2.0, 1.0, (runs, len(self._cost_ns))))
        return times


def _fuse(source: SourceGraph) -> list[Executed]:
    fused: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for name, node in source.nodes.items():
        before = source.producer.get(node.input[0], "") if node.input else ""
        if node.op_type in _FUSED and before.split("/")[0] == name.split("/")[0]:
            owner[name] = owner[before]
            fused[owner[before]].append(name)
        else:
            owner[name] = name
            fused[name] = [name]
    return [Executed(name, source.nodes[name].op_type, tuple(operators), implementation="fake") for name, operators in fused.items()]


def _cost_ns(kernel: Kernel) -> float:
    moved = sum(spec.bytes for spec in (*kernel.inputs, *kernel.outputs))
    macs = 0
    if {"Conv", "Gemm", "MatMul"} & set(kernel.fused_ops) and len(kernel.inputs) > 1:
        per_output = prod(kernel.inputs[1].shape) / kernel.inputs[1].shape[0]
        macs = int(kernel.outputs[0].elements * per_output)
    return _LAUNCH_NS + _NS_PER_MAC * macs + _NS_PER_BYTE * moved
