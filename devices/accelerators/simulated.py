"""Designs as devices: ``sim:fpga-tiling@design.yaml`` and ``sim:zigzag@design.yaml``. Their times are computed, not measured.

A session computes the time of every convolution and matrix product of its network by a cost model, once; every run takes just that
long. What the models leave out takes a nanosecond an operator, for tables hold times above zero: element-wise operators, pooling,
normalisation. Views and shapes are no kernels; activations run as a convolution's results pass; what one layer could leave on the
chip for the next is written and read again. A batch is run one after another.
Outputs come from onnx's reference evaluator, in the model's own precision.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference

from layerclock.devices.accelerators.array_design import ArrayDesign
from layerclock.devices.accelerators.designs import design_digest, load_design
from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaDesign
from layerclock.devices.accelerators.fpga_tiling import nest_costs
from layerclock.devices.accelerators.pipeline import pipeline_costs
from layerclock.devices.accelerators.workload import kernel_nest, model_kernels
from layerclock.devices.attribution import SourceGraph
from layerclock.errors import ArgumentError, DeviceError, DeviceUnavailableError
from layerclock.interfaces import DeviceEntry, DeviceOptions, KernelTimes, ModelFile, unmarked
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from layerclock.devices.accelerators.designs import Design
    from layerclock.devices.accelerators.workload import LoopNest
    from layerclock.network import Kernel

__all__ = ["FpgaTimes", "NestTimes", "SimulatedAdapter", "SimulatedDevice", "SimulatedSession"]

_LEFT_OUT = "left out: element-wise operators, pooling, reuse between layers"
_LEFT_OUT_NS = 1.0
_PLACEHOLDER = "DESIGN.yaml"


class NestTimes(Protocol):
    """A cost model of one design."""

    @property
    def version(self) -> str:
        """Of the model's software."""
        ...

    def times_ns(self, nests: Sequence[LoopNest]) -> npt.NDArray[np.float64]:
        """Times of a network's loop nests in order of execution, float64[L]; infinite for what the design cannot run."""
        ...


class FpgaTimes:
    """Times on an FPGA design: each layer on its stage of the pipeline, as :mod:`~layerclock.devices.accelerators.pipeline` cuts it.

    Raises :class:`DeviceUnavailableError` for a design that takes more than its boards have.
    """

    # Part of the target: raise it when the same design gives other times.
    version = "1"

    def __init__(self, design: FpgaDesign) -> None:
        if design.shortfalls:
            raise DeviceUnavailableError(f"the design cannot be built: {'; '.join(design.shortfalls)}", "make the stages smaller")
        self._batch = FpgaBatch.of([design])

    def times_ns(self, nests: Sequence[LoopNest]) -> npt.NDArray[np.float64]:
        """Times of a network's loop nests in order of execution, float64[L]; infinite for what no stage can run, or none in order."""
        costs = nest_costs(nests, self._batch.engines)
        engine, clock = self._batch.engine[0], self._batch.clock_mhz[0]
        whole = pipeline_costs(np.arange(len(nests))[None], costs, self._batch)
        times = costs.cycles[:, engine] * 1e3 / clock
        if not whole.feasible[0]:
            # Those that no stage can run are to blame; where there are none, it is the order of the stages, and so every layer.
            runs = np.isfinite(times).any(axis=1)
            return np.where(runs & ~runs.all(), times.min(axis=1), np.inf)
        stage = np.searchsorted(whole.starts[0], np.arange(len(nests)), side="right") - 1
        chosen: npt.NDArray[np.float64] = times[np.arange(len(nests)), stage]
        return chosen


def _fpga(design: Design, name: str) -> NestTimes:
    if not isinstance(design, FpgaDesign):
        raise ArgumentError(f"{name} is not the design of an FPGA", "its file begins with kind: fpga; an array goes to sim:zigzag@...")
    return FpgaTimes(design)


def _zigzag(design: Design, name: str) -> NestTimes:
    if not isinstance(design, ArrayDesign):
        raise ArgumentError(
            f"{name} is not the design of an array", "its file begins with kind: array; an FPGA goes to sim:fpga-tiling@..."
        )
    if not _installed(_PACKAGES["zigzag"]):
        raise DeviceUnavailableError(f"{name} needs the package {_PACKAGES['zigzag']!r}, which is not installed", _HOW_TO_GET_ZIGZAG)
    from layerclock.devices.accelerators.zigzag_model import ZigzagTimes

    return ZigzagTimes(design)


_MODELS: dict[str, Callable[[Design, str], NestTimes]] = {"fpga-tiling": _fpga, "zigzag": _zigzag}
_DESCRIPTIONS = {
    "fpga-tiling": f"an FPGA design by the closed-form tiling model; {_LEFT_OUT}",
    "zigzag": f"a design of an array by the zigzag-dse package; {_LEFT_OUT}",
}
_PACKAGES = {"zigzag": "zigzag-dse"}
_HOW_TO_GET_ZIGZAG = "pip install 'layerclock[zigzag]'"


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


class SimulatedAdapter:
    """Offers a cost model each for designs in files, as ``sim:<model>@<file>``."""

    def discover(self) -> list[DeviceEntry]:
        """The cost models; the file's name is the user's to give."""
        entries = []
        for model, description in _DESCRIPTIONS.items():
            package = _PACKAGES.get(model, "")
            fine = not package or _installed(package)
            reason = "" if fine else f"the package {package!r} is not installed"
            hint = "" if fine else _HOW_TO_GET_ZIGZAG
            entries.append(DeviceEntry(f"sim:{model}@{_PLACEHOLDER}", description, fine, reason, hint))
        return entries

    def open(self, name: str, options: DeviceOptions) -> SimulatedDevice:
        """The device of the design in the file that ``name`` ends with.

        Raises :class:`ArgumentError` for a file that is no such design, and :class:`DeviceUnavailableError` for one that cannot be built.
        """
        return SimulatedDevice(name, options)


class SimulatedDevice:
    """A design under a cost model. It has no threads and no options: the design says everything, and the target holds its numbers."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        model, _, file = name.partition(":")[2].partition("@")
        design = load_design(file)
        precision = "float32" if design.bits == 32 else f"int{design.bits}"
        if options.precision not in ("float32", precision) or options.threads > 1 or options.extra:
            raise DeviceUnavailableError(
                f"{name} computes in {precision}, with neither threads nor options", "leave out --precision, --threads and --option"
            )
        self.times = _MODELS[model](design, name)
        self.options = options
        self.on_host = False
        fingerprint = (("design", design_digest(design)), *_numbers(design), ("model", _LEFT_OUT))
        self.target = Target(name, model, self.times.version, precision, 1, options.batch, (), fingerprint)

    def load(self, model: ModelFile) -> SimulatedSession:
        """The network with its times. Raises :class:`DeviceError` if it has a layer that the design cannot run."""
        return SimulatedSession(self.times, model)


def _numbers(design: Design) -> tuple[tuple[str, str], ...]:
    """Every number of the design, by its place."""
    found = [(name, str(getattr(design, name))) for name in design.rules]
    if isinstance(design, FpgaDesign):
        for part in ("boards", "stages"):
            for number, one in enumerate(getattr(design, part)):
                found += [(f"{part}[{number}].{name}", str(getattr(one, name))) for name in one.rules]
    return tuple(found)


class SimulatedSession:
    """One network: its kernels and their computed times."""

    def __init__(self, times: NestTimes, model: ModelFile) -> None:
        self._model = model
        self._kernels: tuple[Kernel, ...] = model_kernels(SourceGraph(model.path))
        nests = [kernel_nest(kernel) for kernel in self._kernels]
        working = [number for number, nest in enumerate(nests) if nest is not None]
        computed = times.times_ns([nest for nest in nests if nest is not None])
        for number, time in zip(working, computed, strict=True):
            if not np.isfinite(time):
                kernel, nest = self._kernels[number], nests[number]
                raise DeviceError(
                    f"the design cannot run {kernel.name} of layer {kernel.site} ({nest.key if nest else ''})",
                    "its buffers may be too small for the layer's tiles or filters, or no stage has the multipliers for it",
                )
        self._times_ns = np.full(len(self._kernels), _LEFT_OUT_NS)
        self._times_ns[working] = computed
        self._open = True

    def run(self) -> int:
        """The computed latency in ns: the sum over the kernels, at least 1."""
        self._alive()
        return max(1, round(float(self._times_ns.sum())))

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """The computed times of each kernel, the same in every run."""
        self._alive()
        for _ in range(runs + 1):
            mark()
        return KernelTimes(self._kernels, np.tile(self._times_ns, (runs, 1)))

    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels, known when the session was made."""
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
