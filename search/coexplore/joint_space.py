"""Networks and designs as one search space: the genes of both, and the sites of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import SpaceError

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from layerclock.interfaces import SearchSpace
    from layerclock.network import TensorSpec
    from layerclock.pairs import AcceleratorDesigns
    from layerclock.space import Gene, GenomeArray, Site

__all__ = ["JointSpace"]


class JointSpace:
    """The pairs of a network of ``networks`` and a design of ``designs``: a :class:`~layerclock.interfaces.SearchSpace`.

    Genes are the network's and, behind them, the design's. Raises :class:`SpaceError` if two have the same name.
    """

    def __init__(self, networks: SearchSpace, designs: AcceleratorDesigns) -> None:
        twice = {gene.name for gene in networks.genes} & {gene.name for gene in designs.genes}
        if twice:
            raise SpaceError(f"{networks.name} and its designs both have a gene {min(twice)!r}", "name one of them otherwise")
        self.networks, self.designs = networks, designs
        self.name = f"{networks.name} on {designs.name}"
        self.genes: tuple[Gene, ...] = (*networks.genes, *designs.genes)
        self.sites: tuple[Site, ...] = (*networks.sites, *designs.sites)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's inputs."""
        return self.networks.inputs

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of a pair."""
        return self.networks.build(self.split(np.asarray(genome)[None])[0][0])

    def split(self, genomes: GenomeArray) -> tuple[GenomeArray, GenomeArray]:
        """The networks int64[B, G] and the designs int64[B, H] of B pairs."""
        own = len(self.networks.genes)
        return np.ascontiguousarray(genomes[:, :own]), np.ascontiguousarray(genomes[:, own:])

    def pair(self, networks: GenomeArray, designs: GenomeArray) -> GenomeArray:
        """Pairs int64[B, G + H]; one row of either side stands for all of the other's."""
        number = max(len(networks), len(designs))
        return np.concatenate([np.broadcast_to(part, (number, part.shape[1])) for part in (networks, designs)], axis=1)
