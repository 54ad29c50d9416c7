"""How new networks are made: a first population, crossover and mutation of canonical genomes.

A gene that changes nothing in its network (a block beyond the depth) always holds its first choice in a canonical
genome. That value was never chosen, so crossover and mutation do not pass it on: otherwise every block that comes into
being would start with the smallest kernel and expansion.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.space import GenomeArray, SiteIndex

__all__ = ["Variation", "distinct"]

# Up to this many combinations of genes a space is listed, and exhaustion is known exactly.
_LISTED = 1 << 16
_DRAWS = 50


class Variation:
    """The operators that make networks of a space; ``allowed`` holds the positions that each gene may take, by default all.

    Raises :class:`ArgumentError` where a gene is left without a choice, or with one that it does not have.
    """

    def __init__(self, index: SiteIndex, allowed: Sequence[Sequence[int]] | None = None) -> None:
        self.index = index
        choices = (
            [tuple(range(number)) for number in index.cardinality] if allowed is None else [tuple(sorted(set(one))) for one in allowed]
        )
        for gene, some in zip(index.genes, choices, strict=True):
            if not some or not set(some) <= set(range(len(gene.choices))):
                raise ArgumentError(
                    f"gene {gene.name!r} cannot be held to the positions {some}", f"0 to {len(gene.choices) - 1}, one at least"
                )
        self.number = np.array([len(some) for some in choices], dtype=np.int64)
        widest = int(self.number.max(initial=1))
        # Position of the k-th allowed choice, int64[G, most], and k of each position, -1 where it is not allowed.
        self.choices = np.array([[*some, *[some[0]] * (widest - len(some))] for some in choices], dtype=np.int64).reshape(-1, widest)
        self._rank = np.full((len(choices), int(index.cardinality.max(initial=1))), -1, dtype=np.int64)
        for gene_number, some in enumerate(choices):
            self._rank[gene_number, list(some)] = np.arange(len(some))
        self._gene = np.arange(len(choices))

    def chosen(self, ranks: GenomeArray) -> GenomeArray:
        """Genomes int64[N, G], not yet canonical, of positions among the allowed choices: int64[N, G]."""
        return self.choices[self._gene, ranks]

    def rank(self, genomes: GenomeArray) -> GenomeArray:
        """Positions among the allowed choices, the first for what is not allowed: int64[N, G]."""
        return np.maximum(self._rank[self._gene, genomes], 0)

    def random(self, number: int, rng: np.random.Generator) -> GenomeArray:
        """Genomes drawn uniformly over the genes' choices, not yet canonical, perhaps some twice: int64[number, G]."""
        return self.choices[self._gene, rng.integers(0, self.number, (number, len(self.number)))]

    def extremes(self, rng: np.random.Generator) -> GenomeArray:
        """The networks of fewest and of most MACs that coordinate descent from four random starts finds: int64[2, G].

        Exact wherever a choice that makes one network larger makes every network larger.
        """
        starts = self.random(4, rng)
        found = []
        for sign in (1, -1):
            genomes, cost = starts.copy(), sign * self.index.macs(starts)
            before = cost + 1
            while (cost < before).any():
                before = cost.copy()
                for gene, number in enumerate(self.number):
                    for choice in self.choices[gene, :number]:
                        trial = genomes.copy()
                        trial[:, gene] = choice
                        trial_cost = sign * self.index.macs(trial)
                        better = trial_cost < cost
                        genomes[better], cost[better] = trial[better], trial_cost[better]
            found.append(genomes[cost.argmin()])
        return self.index.canonical(np.array(found, dtype=np.int64).reshape(2, len(self.number)))

    def first_population(self, number: int, rng: np.random.Generator) -> GenomeArray:
        """Up to ``number`` distinct canonical genomes from the smallest to the largest network: int64[<=number, G].

        MACs are a sum over many sites, so uniform genes give networks of middling size only (a bell curve), and a search
        would have to find both ends of the front by itself. Here genomes are mixed with the smallest or the largest one in
        random shares, and those nearest to evenly spaced MACs are taken.
        """
        ends = self.extremes(rng)
        shape = (20 * number, len(self.number))
        share = rng.random((shape[0], 1))
        end = ends[rng.integers(0, 2, shape[0])]
        # A gene that does not matter at the end holds a first choice there that may not be allowed.
        mixed = self.chosen(self.rank(np.where(rng.random(shape) < share, end, self.random(shape[0], rng))))
        pool = np.unique(self.index.canonical(np.concatenate([ends, mixed])), axis=0)
        macs = self.index.macs(pool).astype(np.float64)
        chosen: list[int] = []
        for level in np.linspace(macs.min(), macs.max(), number):
            distance = np.abs(macs - level)
            distance[chosen] = np.inf
            nearest = int(distance.argmin())
            if np.isfinite(distance[nearest]):
                chosen.append(nearest)
        return pool[chosen]

    def cross(self, first: GenomeArray, second: GenomeArray, rng: np.random.Generator, probability: float = 0.9) -> GenomeArray:
        """Uniform crossover of parents int64[n, G] each into two children a pair: int64[2n, G], not yet canonical.

        With ``probability`` a pair exchanges each gene with probability 1/2 (Syswerda, ICGA 1989). Where a gene matters in
        one parent only, both children have that parent's choice.
        """
        one, two = self.index.active(first), self.index.active(second)
        left, right = np.where(two & ~one, second, first), np.where(one & ~two, first, second)
        swap = (rng.random(first.shape) < 0.5) & (rng.random((len(first), 1)) < probability)
        return np.concatenate([np.where(swap, right, left), np.where(swap, left, right)])

    def mutate(self, genomes: GenomeArray, rng: np.random.Generator) -> GenomeArray:
        """Change one gene of each genome on average; returns canonical genomes int64[N, G].

        Each gene that matters changes with probability 1 / (number of such genes) to one of its *other* choices. Polynomial
        mutation with rounding, the usual operator, moves a gene of three choices to another one in fewer than one of 400
        mutations at eta = 20, and so changes next to nothing. What is not allowed always changes.
        """
        active = self.index.active(genomes)
        current = np.where(active, genomes, self.random(len(genomes), rng))
        rank = self._rank[self._gene, current]
        open_genes = active & ((self.number > 1) | (rank < 0))
        rate = 1.0 / np.maximum(open_genes.sum(axis=1, keepdims=True), 1)
        changed = open_genes & ((rng.random(genomes.shape) < rate) | (rank < 0))
        step = rng.integers(1, np.maximum(self.number, 2), genomes.shape)
        # From a choice that is not allowed, any of those that are.
        moved = self.choices[self._gene, np.where(rank < 0, step - 1, rank + step) % self.number]
        return self.index.canonical(np.where(changed, moved, current))

    def children(self, first: GenomeArray, second: GenomeArray, rng: np.random.Generator) -> GenomeArray:
        """Crossed and mutated, canonical: int64[2n, G] of parents int64[n, G] each."""
        return self.mutate(self.cross(first, second, rng), rng)

    def unseen(self, number: int, rng: np.random.Generator, seen: set[bytes]) -> GenomeArray:
        """Up to ``number`` random canonical genomes whose bytes are not in ``seen``: int64[<=number, G].

        None come back only where the space holds no more: certain where the genes have up to 65,536 combinations, otherwise
        concluded from more than 10,000 draws.
        """
        width = len(self.number)
        combinations = prod(map(int, self.number))
        if combinations > _LISTED:
            found: dict[bytes, GenomeArray] = {}
            for _ in range(_DRAWS):
                drawn = self.index.canonical(self.random(max(number, 256), rng))
                found |= {row.tobytes(): row for row in distinct(drawn, seen) if row.tobytes() not in found}
                if len(found) >= number:
                    break
            fresh = list(found.values())[:number]
            return np.array(fresh, dtype=np.int64).reshape(len(fresh), width)
        step = np.cumprod(np.append(1, self.number[:-1])) if width else np.ones(0, dtype=np.int64)
        every = (
            self.choices[self._gene, np.arange(combinations)[:, None] // step % self.number] if width else np.zeros((1, 0), dtype=np.int64)
        )
        return rng.permutation(distinct(self.index.canonical(every), seen))[:number]


def distinct(genomes: GenomeArray, seen: set[bytes]) -> GenomeArray:
    """Those of canonical ``genomes`` int64[N, G] whose bytes are not in ``seen``, each once, in order: int64[<=N, G]."""
    fresh = {row.tobytes(): row for row in genomes if row.tobytes() not in seen}
    return np.array(list(fresh.values()), dtype=np.int64).reshape(len(fresh), genomes.shape[1])
