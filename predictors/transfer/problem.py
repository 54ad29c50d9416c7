"""What every transfer method is given and gives: other devices' latencies, a few of the new device's, and an answer with its doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["Adaptable", "FittedTransfer", "LogLatency", "Pretrainable", "Sources", "TransferModel"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sources:
    """Latencies of N networks on D other devices.

    ``genomes`` int64[N, G], each once; ``latency_ms`` float64[N, D], NaN where a device did not measure a network; ``devices`` names the
    columns. Raises :class:`ArgumentError` where these do not fit together, or a latency is not positive.
    """

    genomes: GenomeArray
    latency_ms: FloatArray
    devices: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.latency_ms.shape != (len(self.genomes), len(self.devices)):
            raise ArgumentError(
                f"{len(self.genomes)} networks on {len(self.devices)} devices, but latencies {self.latency_ms.shape}",
                "one row a network, one column a device",
            )
        if (self.latency_ms <= 0).any() or np.isinf(self.latency_ms).any():
            raise ArgumentError("a source latency is not a positive number", "leave out what was not measured: NaN")


@dataclass(frozen=True, slots=True)
class LogLatency:
    """An answer for N networks: ``mean`` float64[N] of log(latency in ms), and ``std`` float64[N], its standard deviation.

    ``std`` is NaN where a method does not tell its doubt.
    """

    mean: FloatArray
    std: FloatArray


class FittedTransfer(Protocol):
    """A fitted method, to be asked about any networks of the space."""

    def predict(self, genomes: GenomeArray) -> LogLatency:
        """Log latency of genomes int64[M, G] on the new device."""
        ...


class TransferModel(Protocol):
    """A transfer method with settled options."""

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """Fit to the new device's measured networks int64[K, G] with latencies float64[K], and to other devices' where given."""
        ...


class Adaptable(Protocol):
    """What was learned from other devices, to be adapted to one new device after the other."""

    def adapt(self, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """Adapt to genomes int64[K, G] with latencies float64[K]; leaves what was learned as it is."""
        ...


@runtime_checkable
class Pretrainable(Protocol):
    """A transfer method that learns from other devices once for all new ones."""

    def pretrain(self, space: SearchSpace, sources: Sources | None) -> Adaptable:
        """Learn from the sources."""
        ...
