"""A deterministic stand-in for a device, for tests and for trying out plug-ins. Its times are computed, not measured.

Each kernel costs a launch, its multiply-accumulates and its bytes, by fixed rates, and varies a little from run to run
by a seeded generator: a campaign on it gives the same times on every machine. Options make it fail as bad runtimes do.
Needs onnx.
"""

from __future__ import annotations

import os
import signal
import time
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference

from layerclock.devices.attribution import Executed, SourceGraph
from layerclock.errors import DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile, unmarked
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerclock.network import Kernel

__all__ = ["FakeAdapter", "FakeDevice", "FakeSession"]

_LAUNCH_NS = 1500.0
_NS_PER_MAC = 0.04
_NS_PER_BYTE = 0.05
_CALL_NS = 20000.0
_NOISE = 0.01
_OPTIONS = frozenset({"slowdown", "counting_ns", "coarse", "refuse", "crash", "hang", "exhaust"})
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
    """More threads divide the computed times. The options, all texts, change them or make it fail for real:

    ``slowdown``: factor on all times; ``counting_ns``: what counting adds to each kernel; ``coarse``: the last kernel is
    faster than the counters can tell; ``refuse``, ``crash``, ``hang``, ``exhaust``: digests of the models, separated by
    spaces, that cannot be loaded, or that end the process with SIGSEGV, never return, or lack memory when they run.
    """

    def __init__(self, name: str, options: DeviceOptions) -> None:
        if options.precision != "float32":
            raise DeviceUnavailableError(f"{name} runs models in float32 only, not {options.precision}", "use --precision float32")
        unknown = options.extra.keys() - _OPTIONS
        if unknown:
            raise DeviceError(f"{name} has no option {min(unknown)!r}", f"its options: {', '.join(sorted(_OPTIONS))}")
        self.options = options
        self.on_host = False
        self.target = Target(
            name, "fake", "1", options.precision, options.threads, options.batch, tuple(sorted(options.extra.items())), (("cpu", "fake"),)
        )
        try:
            self.factor = float(options.extra.get("slowdown", "1")) / options.threads
            self.counting_ns = float(options.extra.get("counting_ns", "0"))
        except ValueError as error:
            raise DeviceError(f"{name}: slowdown and counting_ns are numbers: {error}", "for example --option slowdown=2") from error

    def fails(self, fault: str, model: ModelFile) -> bool:
        """Whether the options say that ``model`` fails in this way."""
        return model.digest in self.options.extra.get(fault, "").split()

    def load(self, model: ModelFile) -> FakeSession:
        """A session that computes the network's times from its kernels' sizes."""
        if self.fails("refuse", model):
            raise DeviceError(f"{model.path.name} is refused", "as the options ask")
        return FakeSession(self, model)


class FakeSession:
    """One network: convolutions and products with the activation behind them as one kernel, other operators alone."""

    def __init__(self, device: FakeDevice, model: ModelFile) -> None:
        source = SourceGraph(model.path)
        self._device = device
        self._model = model
        self._kernels: tuple[Kernel, ...] = source.kernels(_fuse(source))
        self._cost_ns = np.array([_cost_ns(kernel) for kernel in self._kernels]) * device.factor
        self._noise = np.random.default_rng(int(model.digest[:8], 16))
        self._open = True

    def run(self) -> int:
        """Sum of the kernels' computed times and a call's cost, in ns."""
        self._alive()
        self._fail()
        return int(self._noisy(1).sum() + _CALL_NS)

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Computed times of each kernel, varied by the seeded generator."""
        self._alive()
        for _ in range(runs + 1):
            mark()
        samples = self._noisy(runs) + self._device.counting_ns
        if "coarse" in self._device.options.extra:
            samples[:, -1] = 0.0
            samples[0, -1] = -1000.0
        return KernelTimes(self._kernels, samples)

    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels, computed when the session was made."""
        self._alive()
        return self._kernels

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by onnx's reference evaluator."""
        self._alive()
        evaluator = onnx.reference.ReferenceEvaluator(onnx.load(str(self._model.path)))
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))

    def close(self) -> None:
        """Refuse every later call."""
        self._open = False

    def _alive(self) -> None:
        if not self._open:
            raise DeviceError("the session is closed", "load the model again")

    def _fail(self) -> None:
        if self._device.fails("crash", self._model):
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._device.fails("exhaust", self._model):
            raise MemoryError
        while self._device.fails("hang", self._model):
            time.sleep(1)

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
    moved = sum(spec.bytes for spec in (*kernel.inputs, *kernel.weights, *kernel.outputs))
    macs = 0
    if {"Conv", "Gemm", "MatMul"} & set(kernel.fused_ops) and kernel.weights:
        per_output = prod(kernel.weights[0].shape) / kernel.weights[0].shape[0]
        macs = int(kernel.outputs[0].elements * per_output)
    return _LAUNCH_NS + _NS_PER_MAC * macs + _NS_PER_BYTE * moved
