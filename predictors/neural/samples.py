"""What a new device's few samples have to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from layerclock.space import GenomeArray

__all__ = ["check_samples"]


def check_samples(genomes: GenomeArray, latency_ms: npt.NDArray[np.float64]) -> None:
    """Raise :class:`ArgumentError` unless there are two genomes int64[K, G] at least, with positive latencies float64[K]."""
    if len(genomes) < 2 or latency_ms.shape != (len(genomes),) or not (latency_ms > 0).all():
        raise ArgumentError(
            f"{len(genomes)} networks with latencies {latency_ms.shape} are not enough to learn from",
            "two or more networks, each with a positive latency in ms",
        )
