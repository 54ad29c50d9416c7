"""What a pair of a network and an accelerator design costs: the words in which cost models answer a co-exploration.

A family of designs is genes and sites, like a family of networks: a site a gene, with nothing on it where the gene changes nothing
(those of a stage that is not there). So both together are one search space. As in :mod:`~layerclock.interfaces`, the seam is a
Protocol: searches never import cost models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerclock.space import Gene, GenomeArray, Site

__all__ = ["AcceleratorDesigns", "Buildable", "PairCosts"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Buildable:
    """What D designs take, float64[D] by the name of the resource, and ``shortfall`` float64[D].

    That is by what share a design takes more than there is, summed over resources: 0 where it can be built.
    """

    resources: Mapping[str, FloatArray]
    shortfall: FloatArray


@dataclass(frozen=True, slots=True)
class PairCosts:
    """Costs of B pairs, float64[B] each, infinite (utilisation: 0) where the design cannot be built, or cannot run the network.

    ``interval_ms`` lies between two results, the reciprocal of the throughput; ``latency_ms`` is that of one input; ``cycles`` are
    those of all its layers; ``utilisation`` is the share of the time in which the parts of the accelerator work.
    """

    cycles: FloatArray
    interval_ms: FloatArray
    latency_ms: FloatArray
    energy_mj: FloatArray
    utilisation: FloatArray

    @property
    def throughput_per_s(self) -> FloatArray:
        """Inputs a second: float64[B]."""
        rate: FloatArray = 1e3 / self.interval_ms
        return rate


@runtime_checkable
class AcceleratorDesigns(Protocol):
    """A space of designs, and what the networks of one search space cost on each.

    ``networks`` int64[B, G] and ``designs`` int64[B, H] are canonical genomes, row by row the two of a pair.
    """

    @property
    def name(self) -> str:
        """Kind of design and hash of the space: with equal names, equal genomes cost the same."""
        ...

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The choices of a design; their names are no network's."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """A site for each gene; their layers have neither multiply-accumulates nor weights."""
        ...

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of what designs take, in the order of :class:`Buildable`."""
        ...

    def build(self, designs: GenomeArray) -> Buildable:
        """What designs int64[D, H] take, and whether they can be built: no network is needed for it."""
        ...

    def bounds(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """Costs that :meth:`costs` never undercuts (a utilisation that it never exceeds), for less work."""
        ...

    def costs(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """The cost model's answer."""
        ...

    def write(self, design: GenomeArray, path: Path) -> None:
        """Write one design int64[H] as a file that stands for a device."""
        ...
