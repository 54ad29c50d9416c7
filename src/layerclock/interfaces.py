"""The seams of Layerclock: what a plug-in has to offer, as structural types.

They are Protocols, so that a third-party adapter, space or evaluator needs no import of ours to fit: an object with
these members is one. Inside the project, too, the rooms meet only here: the profiler knows devices and spaces by these
members alone, and the search knows predictors and evaluators by theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from layerclock.network import Kernel, TensorSpec
    from layerclock.space import Gene, Site
    from layerclock.target import Target

__all__ = [
    "AccuracyEvaluator",
    "Device",
    "DeviceAdapter",
    "DeviceEntry",
    "DeviceOptions",
    "HasLiveOperations",
    "HasRealInputs",
    "KernelTimes",
    "ModelFile",
    "Predictions",
    "Predictor",
    "PreparesModels",
    "SearchSpace",
    "Session",
    "unmarked",
]


_SHORT_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A network as an ONNX file whose node and tensor names begin with ``<site>/``, and whose shapes are fixed.

    ``space`` and ``genome`` say what was built, where a space built it: runtimes that take no ONNX build it again. ``precision`` is
    what the file computes in; ``calibration`` an ``.npz`` of real inputs, by name, that quantising it may look at.
    """

    path: Path
    digest: str
    sites: tuple[str, ...]
    space: str = ""
    genome: tuple[int, ...] = ()
    precision: str = "float32"
    calibration: Path | None = None


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """Settings that become part of the target. ``extra`` is passed to the runtime as its own session options.

    ``precision`` may be written short: ``fp32``, ``bf16``, ``fp16``.

    Raises :class:`~layerclock.errors.ArgumentError` if threads or batch are below one.
    """

    threads: int = 1
    batch: int = 1
    precision: str = "float32"
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threads < 1 or self.batch < 1:
            raise ArgumentError(f"threads={self.threads}, batch={self.batch} cannot be run", "threads >= 1, batch >= 1")
        object.__setattr__(self, "precision", _SHORT_PRECISIONS.get(self.precision, self.precision))


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One line of ``layerclock devices``: ``reason`` and ``hint`` say why a device cannot be used and how to get it."""

    name: str
    description: str
    available: bool
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """Times of each kernel inside whole runs of the network: ``samples_ns`` float64[runs, kernels]."""

    kernels: tuple[Kernel, ...]
    samples_ns: npt.NDArray[np.float64]


def unmarked() -> None:
    """The ``mark`` of a caller that watches nothing."""


@runtime_checkable
class Session(Protocol):
    """A network loaded on a device, with fixed pseudo-random inputs, ready to run."""

    def run(self) -> int:
        """One inference without any counters; returns its wall time in ns."""
        ...

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        """Run the network ``runs`` times with the runtime's own counters on; cold runs are not among them.

        ``mark`` is called right before each of these runs and once after the last: the profiler reads there what
        disturbs the machine.
        """
        ...

    def kernels(self) -> tuple[Kernel, ...]:
        """What the runtime will execute, as its compiler says: nothing is run, unless the runtime tells in no other way."""
        ...

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs for given inputs, by name: for checking that a runtime computes what the network means."""
        ...

    def close(self) -> None:
        """Free the runtime's memory; the session cannot be used afterwards."""
        ...


@runtime_checkable
class Device(Protocol):
    """A runtime with settled options. Raises :class:`~layerclock.errors.DeviceError` where the runtime fails.

    Campaigns run each network in a process of its own, where the device is opened again by its name and ``options``.
    """

    @property
    def options(self) -> DeviceOptions:
        """The settings that it was opened with."""
        ...

    @property
    def on_host(self) -> bool:
        """Whether networks run on this machine's own processors, where other programs disturb them."""
        ...

    @property
    def target(self) -> Target:
        """What the device's numbers are valid for."""
        ...

    def load(self, model: ModelFile) -> Session:
        """Make the exported network ready to run."""
        ...


@runtime_checkable
class DeviceAdapter(Protocol):
    """What an entry point of ``layerclock.devices`` names: finds devices and opens them."""

    def discover(self) -> Sequence[DeviceEntry]:
        """The devices of this runtime on this machine; never raises for an absent one."""
        ...

    def open(self, name: str, options: DeviceOptions) -> Device:
        """The device that :meth:`discover` lists as ``name``, with these options."""
        ...


@runtime_checkable
class PreparesModels(Protocol):
    """What a :class:`Device` may offer beside, where it runs another form of a network: a quantised copy, for one."""

    def prepare(self, model: ModelFile) -> ModelFile:
        """The file that :meth:`Device.load` will load; campaigns ask for it before the process that loads it is watched and timed."""
        ...


@runtime_checkable
class HasRealInputs(Protocol):
    """What a :class:`SearchSpace` may offer beside: examples of what its networks read in earnest, for quantising them."""

    def real_inputs(self, count: int) -> tuple[npt.NDArray[Any], ...]:
        """At most ``count`` examples of each of ``inputs``, in their order, each of shape [n, ...]."""
        ...


@runtime_checkable
class SearchSpace(Protocol):
    """A family of networks as genes and sites; :class:`~layerclock.space.SiteIndex` derives the rest."""

    @property
    def name(self) -> str:
        """The registered name, with every parameter that differs from the usual."""
        ...

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The choices, in the order of a genome's positions."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places of the network, in order of execution."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What ``build``'s module takes, in order, for batch 1; the same for every genome. Whole numbers are positions in a vocabulary."""
        ...

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome; its modules are named after the sites."""
        ...


@runtime_checkable
class HasLiveOperations(Protocol):
    """What a :class:`SearchSpace` may offer beside, where sites alone cannot tell that something comes to nothing: a branch without end."""

    def live_operations(self, genomes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """``genomes`` int64[N, G] with the first choice wherever another one would change nothing that the network computes."""
        ...


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted latencies of N networks, float64[N] each.

    ``lower_ms`` and ``upper_ms`` bound the interval that the predictor was calibrated for; ``coverage`` is the share of
    the predicted time that rests on measured layers.
    """

    latency_ms: npt.NDArray[np.float64]
    lower_ms: npt.NDArray[np.float64]
    upper_ms: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.latency_ms)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The latencies alone: what numpy, pandas and scikit-learn's metrics take predictions for."""
        return np.array(self.latency_ms, dtype=dtype, copy=copy)


@runtime_checkable
class Predictor(Protocol):
    """Latency of genomes, int64[N, G], on one target."""

    def predict(self, genomes: npt.ArrayLike) -> Predictions:
        """Raises :class:`~layerclock.errors.GenomeError` if a genome does not belong to the predictor's space."""
        ...


@runtime_checkable
class AccuracyEvaluator(Protocol):
    """Quality of networks; ``evaluate`` returns float64[N], larger is better."""

    @property
    def metric(self) -> str:
        """Name and unit of the returned number, such as ``top1_percent``."""
        ...

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The metric of each genome, in order."""
        ...
