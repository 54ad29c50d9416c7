"""Sites that share genes, looked up together: fewer and larger tables answer the same sum faster."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from layerclock.predictors.graph import GraphBuilder
    from layerclock.space import GenomeArray, SiteIndex

__all__ = ["GroupedSites"]

FloatArray = npt.NDArray[np.float64]

# Options of one group: its table stays in a core's second-level cache.
_MOST_OPTIONS = 32_768
# On this many genomes, spread evenly, a function is held against its groups' sums.
_TRIED = 512
_EQUAL = 1e-9


@dataclass(frozen=True)
class GroupedSites:
    """A sum over groups of genes: ``constant + sum over k of table[genomes @ radix[:, k] + offsets[k]]``.

    ``radix`` int64[G, K], ``offsets`` int64[K], ``table`` float64[options of all groups, C], ``constant`` float64[C].
    """

    radix: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    table: FloatArray
    constant: FloatArray

    @classmethod
    def of_sites(cls, index: SiteIndex, values: FloatArray) -> GroupedSites:
        """The sum over the sites of ``index``, whose options have ``values`` float64[T, C]."""
        groups = _groups(index)
        radix = np.zeros((len(index.genes), len(groups)), dtype=np.int64)
        tables = []
        for column, (genes, sites) in enumerate(groups):
            genomes = _every(index, genes, radix[:, column])
            tables.append(values[genomes @ index.radix[:, sites] + index.offsets[sites]].sum(axis=1))
        fixed = index.offsets[~index.radix.any(axis=0)]
        return cls(radix, _starts(tables), _joined(tables, values.shape[1]), values[fixed].sum(axis=0))

    @classmethod
    def of_function(cls, index: SiteIndex, function: Callable[[GenomeArray], FloatArray]) -> GroupedSites | None:
        """A function of genomes int64[N, G] to float64[N, C], if it is such a sum; else None."""
        base = np.zeros((1, len(index.genes)), dtype=np.int64)
        constant = function(base)[0]
        groups = _groups(index)
        radix = np.zeros((len(index.genes), len(groups)), dtype=np.int64)
        tables = [function(_every(index, genes, radix[:, column])) - constant for column, (genes, _) in enumerate(groups)]
        found = cls(radix, _starts(tables), _joined(tables, len(constant)), constant)
        tried = np.random.default_rng(0).integers(0, index.cardinality, (_TRIED, len(index.genes)))
        wanted = function(tried)
        return found if np.abs(found(tried) - wanted).max() <= _EQUAL * np.abs(wanted).max() else None

    def __call__(self, genomes: npt.ArrayLike) -> FloatArray:
        """The sums, float64[N, C]."""
        sums: FloatArray = self.constant + self.table[np.asarray(genomes) @ self.radix + self.offsets].sum(axis=1)
        return sums

    def add_to(self, graph: GraphBuilder) -> list[str]:
        """Add the sums to a graph; returns the names of its C tensors, float32[N] each."""
        options = graph.options(self.radix, self.offsets, "options")
        names = []
        for column in range(self.table.shape[1]):
            table = graph.constant(f"table{column}", self.table[:, column].astype(np.float32))
            chosen = graph.sum_columns(graph.add("Gather", [table, options], f"rows{column}", axis=0), f"chosen{column}")
            constant = graph.constant(f"constant{column}", np.array(self.constant[column], dtype=np.float32))
            names.append(graph.add("Add", [chosen, constant], f"sum{column}"))
        return names


def _groups(index: SiteIndex) -> list[tuple[list[int], list[int]]]:
    """Genes and sites of each group: sites that share a gene come together first, then the smallest, as long as they fit."""
    genes_of = [frozenset(np.flatnonzero(column).tolist()) for column in index.radix.T]
    groups = [(genes, [site]) for site, genes in enumerate(genes_of) if genes]
    while True:
        fitting = [
            (not groups[one][0] & groups[other][0], size, one, other)
            for one, other in combinations(range(len(groups)), 2)
            if (size := _options(index, groups[one][0] | groups[other][0])) <= _MOST_OPTIONS
        ]
        if not fitting:
            return [(sorted(genes), sites) for genes, sites in groups]
        *_, one, other = min(fitting)
        joined, sites = groups.pop(other)
        groups[one] = (groups[one][0] | joined, groups[one][1] + sites)


def _options(index: SiteIndex, genes: Iterable[int]) -> int:
    return prod(int(index.cardinality[gene]) for gene in genes)


def _every(index: SiteIndex, genes: list[int], radix: npt.NDArray[np.int64]) -> GenomeArray:
    """Genomes with every combination of these genes' values, the others at zero; fills in what number each combination has."""
    sizes = [int(index.cardinality[gene]) for gene in genes]
    radix[genes] = [prod(sizes[position + 1 :]) for position in range(len(sizes))]
    genomes = np.zeros((prod(sizes), len(index.genes)), dtype=np.int64)
    genomes[:, genes] = np.indices(sizes).reshape(len(sizes), -1).T
    return genomes


def _starts(tables: list[FloatArray]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *(len(table) for table in tables)])[:-1].astype(np.int64)


def _joined(tables: list[FloatArray], columns: int) -> FloatArray:
    return np.concatenate([*tables, np.zeros((1, columns))])
