"""Sites that share genes, or have few, looked up together: fewer and larger tables answer the same sum faster."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from layerclock.space import SiteIndex

__all__ = ["GroupedSites"]

FloatArray = npt.NDArray[np.float64]

# Options of one group: its table stays in a core's second-level cache.
_MOST_OPTIONS = 32_768


@dataclass(frozen=True)
class GroupedSites:
    """``sum of values over the sites = constant + sum over k of table[genomes @ radix[:, k] + offsets[k]]``.

    ``radix`` int64[G, K], ``offsets`` int64[K], ``table`` float64[options of all groups, C], ``constant`` float64[C]: the sites that
    no gene changes.
    """

    radix: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    table: FloatArray
    constant: FloatArray

    @classmethod
    def of(cls, index: SiteIndex, values: FloatArray) -> GroupedSites:
        """Group the sites of ``index``, whose options have ``values`` float64[T, C]."""
        genes_of = [frozenset(np.flatnonzero(column).tolist()) for column in index.radix.T]
        fixed = [site for site, genes in enumerate(genes_of) if not genes]
        groups = [(genes, [site]) for site, genes in enumerate(genes_of) if genes]
        while True:
            fitting = [
                (size, one, other)
                for one, other in combinations(range(len(groups)), 2)
                if (size := _options(index, groups[one][0] | groups[other][0])) <= _MOST_OPTIONS
            ]
            if not fitting:
                break
            _, one, other = min(fitting)
            joined, sites = groups.pop(other)
            groups[one] = (groups[one][0] | joined, groups[one][1] + sites)
        radix = np.zeros((len(index.genes), len(groups)), dtype=np.int64)
        tables: list[FloatArray] = []
        offsets = []
        for column, (unordered, sites) in enumerate(groups):
            genes = sorted(unordered)
            sizes = [int(index.cardinality[gene]) for gene in genes]
            radix[genes, column] = [prod(sizes[position + 1 :]) for position in range(len(sizes))]
            genomes = np.zeros((prod(sizes), len(index.genes)), dtype=np.int64)
            genomes[:, genes] = np.indices(sizes).reshape(len(sizes), -1).T
            options = genomes @ index.radix[:, sites] + index.offsets[sites]
            offsets.append(sum(len(table) for table in tables))
            tables.append(values[options].sum(axis=1))
        return cls(
            radix,
            np.array(offsets, dtype=np.int64),
            np.concatenate(tables) if tables else np.zeros((1, values.shape[1])),
            values[index.offsets[fixed]].sum(axis=0),
        )


def _options(index: SiteIndex, genes: frozenset[int]) -> int:
    return prod(int(index.cardinality[gene]) for gene in genes)
