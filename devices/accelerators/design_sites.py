"""The genes of a space of designs with sites, so that designs are told apart by the same words as networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.network import Layer
from layerclock.space import Choice, Gene, Site

if TYPE_CHECKING:
    from layerclock.devices.accelerators.designs import DesignSpace

__all__ = ["PREFIX", "design_genes", "design_sites"]

# Before every gene of a design, so that no network's gene has its name.
PREFIX = "design."


def design_genes(space: DesignSpace) -> tuple[Gene, ...]:
    """The genes of ``space``, in its order, with :data:`PREFIX`."""
    return tuple(Gene(f"{PREFIX}{gene.name}", gene.choices) for gene in space.genes)


def design_sites(space: DesignSpace) -> tuple[Site, ...]:
    """A site a gene: its layers differ by the choice, and nothing stands where the gene's board or stage is not there."""
    genes = {gene.name: gene for gene in design_genes(space)}
    return tuple(_site(gene, genes) for gene in genes.values())


def _site(gene: Gene, genes: dict[str, Gene]) -> Site:
    part, bracket, rest = gene.name.partition("[")
    count = genes.get(f"{part}.count")
    if not bracket or count is None:
        return Site.of(gene.name, (gene,), lambda choice: _layer(gene, choice))
    number = int(rest.partition("]")[0])
    return Site.of(gene.name, (count, gene), lambda parts, choice: _layer(gene, choice) if number < parts else None)


def _layer(gene: Gene, choice: Choice) -> Layer:
    return Layer("design", (), (), ((gene.name, choice),), 0, 0)
