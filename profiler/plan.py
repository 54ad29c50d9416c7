"""Which sub-networks to measure: cover every distinct layer several times, then fill up at random."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from layerclock.space import GenomeArray, SiteIndex, sample

__all__ = ["Plan", "make_plan"]

# Every layer is covered this often before random networks fill the plan: enough to see a layer's time differ between
# contexts, while the random ones keep the spread of sizes that the overhead is fitted on.
_COVER_TIMES = 2
_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """Networks to profile kernel by kernel, and two kinds that are only timed end to end: int64[N, G] each.

    ``holdout`` are the truth that predictors are judged by, ``calibration`` those that their intervals are calibrated on.
    """

    profiled: GenomeArray
    holdout: GenomeArray
    calibration: GenomeArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def coverage(self, index: SiteIndex) -> GenomeArray:
        """In how many profiled networks each distinct layer of the space stands: int64[V]."""
        counts: GenomeArray = (index.counts(self.profiled) > 0).sum(axis=0)
        return counts


def make_plan(index: SiteIndex, networks: int, holdout: int = 0, seed: int = 0, calibration: int = 0) -> Plan:
    """Choose ``networks`` genomes that cover the space's layers, and ``holdout`` and ``calibration`` others at random.

    Greedy: each network is the best of a few coordinate ascents over its genes, where a layer is worth less each time
    it is already covered. Deterministic for a seed.
    """
    rng = np.random.default_rng(seed)
    chosen: list[GenomeArray] = []
    covered = np.zeros(len(index.vocabulary), dtype=np.int64)
    seen: set[bytes] = set()
    while len(chosen) < networks and (covered < _COVER_TIMES).any():
        genome = _best_addition(index, covered, rng)
        if genome.tobytes() in seen:
            break
        seen.add(genome.tobytes())
        chosen.append(genome)
        covered += index.counts(genome[None])[0] > 0
    profiled = np.array(chosen, dtype=np.int64).reshape(len(chosen), len(index.genes))
    fill = sample(index, networks - len(profiled), rng, exclude=profiled)
    profiled = np.concatenate([profiled, fill])
    others = sample(index, holdout + calibration, rng, exclude=profiled)
    return Plan(profiled, others[:holdout], others[holdout:])


def _best_addition(index: SiteIndex, covered: npt.NDArray[np.int64], rng: np.random.Generator) -> GenomeArray:
    worth = np.where(covered < _COVER_TIMES, 1.0, 0.01) / (1 + covered) ** 2
    best_genome, best_score = np.zeros(len(index.genes), dtype=np.int64), -1.0
    for _ in range(_RESTARTS):
        genome = rng.integers(0, index.cardinality)
        score = _score(index, genome[None], worth)[0]
        improved = True
        while improved:
            improved = False
            for gene in rng.permutation(len(genome)):
                options = np.repeat(genome[None], index.cardinality[gene], axis=0)
                options[:, gene] = np.arange(index.cardinality[gene])
                scores = _score(index, options, worth)
                if scores.max() > score + 1e-12:
                    genome, score, improved = options[scores.argmax()], float(scores.max()), True
        if score > best_score:
            best_genome, best_score = index.canonical(genome[None])[0], score
    return best_genome


def _score(index: SiteIndex, genomes: GenomeArray, worth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = (index.counts(genomes) > 0) @ worth
    return total
