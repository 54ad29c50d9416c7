"""How well a transfer method orders the networks of new devices: the protocol of NASFLAT's tasks (arXiv:2403.02446)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.transfer.problem import FittedTransfer, Sources, TransferModel
    from layerclock.space import GenomeArray

__all__ = ["Adaptable", "Pretrainable", "rank_correlations"]

FloatArray = npt.NDArray[np.float64]


class Adaptable(Protocol):
    """What was learned from the sources, to be adapted to one device after the other."""

    def adapt(self, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """Adapt to genomes int64[K, G] with latencies float64[K]; leaves what was learned from the sources as it is."""
        ...


@runtime_checkable
class Pretrainable(Protocol):
    """A transfer method that learns from the sources once for all new devices."""

    def pretrain(self, space: SearchSpace, sources: Sources | None) -> Adaptable:
        """Learn from the sources."""
        ...


def rank_correlations(
    model: TransferModel,
    space: SearchSpace,
    sources: Sources | None,
    genomes: GenomeArray,
    latency_ms: FloatArray,
    *,
    samples: int = 20,
    seed: int = 0,
) -> FloatArray:
    """Spearman's correlation on each of D new devices: float64[D].

    ``model`` is given ``samples`` of the genomes int64[N, G] at random, others for each device, with their latencies, columns of
    ``latency_ms`` float64[N, D], and is asked for the rest. Networks that a device did not measure (NaN) are left out there. What learns
    from the sources without knowing the device (:class:`Pretrainable`) does so once.

    Raises :class:`ArgumentError` if a device measured fewer than ``samples + 2`` networks.
    """
    pretrained = model.pretrain(space, sources) if isinstance(model, Pretrainable) else None
    rng = np.random.default_rng(seed)
    found = []
    for device, column in enumerate(latency_ms.T):
        order = rng.permutation(np.flatnonzero(~np.isnan(column)))
        if len(order) < samples + 2:
            raise ArgumentError(f"device {device} measured {len(order)} networks", f"{samples} are to learn from, two or more to judge by")
        few, rest = order[:samples], order[samples:]
        given = genomes[few], column[few]
        fitted = pretrained.adapt(*given) if pretrained is not None else model.fit(space, sources, *given)
        found.append(float(spearmanr(fitted.predict(genomes[rest]).mean, column[rest]).statistic))
    return np.array(found)
