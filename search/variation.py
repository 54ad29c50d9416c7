"""How new networks are made: a first population, crossover and mutation of canonical genomes.

A gene that changes nothing in its network (a block beyond the depth) always holds its first choice in a canonical
genome. That value was never chosen, so crossover and mutation do not pass it on: otherwise every block that comes into
being would start with the smallest kernel and expansion.
"""

from __future__ import annotations

from math import prod

import numpy as np

from layerclock.space import GenomeArray, SiteIndex, sample

__all__ = ["cross", "extremes", "first_population", "mutate", "unseen"]

# Up to this many combinations of genes a space is listed, and exhaustion is known exactly.
_LISTED = 1 << 16


def extremes(index: SiteIndex, rng: np.random.Generator) -> GenomeArray:
    """The networks of fewest and of most MACs that coordinate descent from four random starts finds: int64[2, G].

    Exact wherever a choice that makes one network larger makes every network larger.
    """
    starts = rng.integers(0, index.cardinality, (4, len(index.genes)))
    found = []
    for sign in (1, -1):
        genomes, cost = starts.copy(), sign * index.macs(starts)
        before = cost + 1
        while (cost < before).any():
            before = cost.copy()
            for gene, choices in enumerate(index.cardinality):
                for choice in range(choices):
                    trial = genomes.copy()
                    trial[:, gene] = choice
                    trial_cost = sign * index.macs(trial)
                    better = trial_cost < cost
                    genomes[better], cost[better] = trial[better], trial_cost[better]
        found.append(genomes[cost.argmin()])
    return index.canonical(np.array(found, dtype=np.int64).reshape(2, len(index.genes)))


def first_population(index: SiteIndex, number: int, rng: np.random.Generator) -> GenomeArray:
    """Up to ``number`` distinct canonical genomes from the smallest to the largest network: int64[<=number, G].

    MACs are a sum over many sites, so uniform genes give networks of middling size only (a bell curve), and a search
    would have to find both ends of the front by itself. Here genomes are mixed with the smallest or the largest one in
    random shares, and those nearest to evenly spaced MACs are taken.
    """
    ends = extremes(index, rng)
    shape = (20 * number, len(index.genes))
    share = rng.random((shape[0], 1))
    end = ends[rng.integers(0, 2, shape[0])]
    mixed = np.where(rng.random(shape) < share, end, rng.integers(0, index.cardinality, shape))
    pool = np.unique(index.canonical(np.concatenate([ends, mixed])), axis=0)
    macs = index.macs(pool).astype(np.float64)
    chosen: list[int] = []
    for level in np.linspace(macs.min(), macs.max(), number):
        distance = np.abs(macs - level)
        distance[chosen] = np.inf
        nearest = int(distance.argmin())
        if np.isfinite(distance[nearest]):
            chosen.append(nearest)
    return pool[chosen]


def cross(index: SiteIndex, first: GenomeArray, second: GenomeArray, rng: np.random.Generator, probability: float = 0.9) -> GenomeArray:
    """Uniform crossover of parents int64[n, G] each into two children a pair: int64[2n, G], not yet canonical.

    With ``probability`` a pair exchanges each gene with probability 1/2 (Syswerda, ICGA 1989). Where a gene matters in
    one parent only, both children have that parent's choice.
    """
    one, two = index.active(first), index.active(second)
    left, right = np.where(two & ~one, second, first), np.where(one & ~two, first, second)
    swap = (rng.random(first.shape) < 0.5) & (rng.random((len(first), 1)) < probability)
    return np.concatenate([np.where(swap, right, left), np.where(swap, left, right)])


def mutate(index: SiteIndex, genomes: GenomeArray, rng: np.random.Generator) -> GenomeArray:
    """Change one gene of each genome on average; returns canonical genomes int64[N, G].

    Each gene that matters changes with probability 1 / (number of such genes) to one of its *other* choices. Polynomial
    mutation with rounding, the usual operator, moves a gene of three choices to another one in fewer than one of 400
    mutations at eta = 20, and so changes next to nothing.
    """
    active = index.active(genomes)
    current = np.where(active, genomes, rng.integers(0, index.cardinality, genomes.shape))
    open_genes = active & (index.cardinality > 1)
    rate = 1.0 / np.maximum(open_genes.sum(axis=1, keepdims=True), 1)
    changed = open_genes & (rng.random(genomes.shape) < rate)
    step = rng.integers(1, np.maximum(index.cardinality, 2), genomes.shape)
    return index.canonical(np.where(changed, (current + step) % index.cardinality, current))


def unseen(index: SiteIndex, number: int, rng: np.random.Generator, seen: set[bytes]) -> GenomeArray:
    """Up to ``number`` random canonical genomes whose bytes are not in ``seen``: int64[<=number, G].

    None come back only where the space holds no more: certain where the genes have up to 65,536 combinations, otherwise
    concluded from more than 10,000 draws.
    """
    width = len(index.genes)
    combinations = prod(map(int, index.cardinality))
    if combinations > _LISTED:
        known = np.frombuffer(b"".join(seen), dtype=np.int64).reshape(len(seen), width)
        return sample(index, max(number, 256), rng, known)[:number]
    step = np.cumprod(np.append(1, index.cardinality[:-1])) if width else np.ones(0, dtype=np.int64)
    every = index.canonical(np.arange(combinations)[:, None] // step % index.cardinality)
    fresh = {row.tobytes(): row for row in every if row.tobytes() not in seen}
    return rng.permutation(np.array(list(fresh.values()), dtype=np.int64).reshape(len(fresh), width))[:number]
