"""What co-exploration gains over searching networks for a design that is fixed.

A fixed design gets the best of all networks that were judged, for each measure and accuracy: what a hardware-aware search among them
would find. The designs are a designer's choice, by default the middle of the space, and a random sample of equal resources, of which
the best, the median and the worst are told. Equal resources: of the first resource (multipliers) within a tenth of what ours takes, on
the same boards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import SearchError
from layerclock.search.coexplore.fast_level import FastLevel
from layerclock.search.coexplore.joint_space import JointSpace
from layerclock.search.variation import Variation
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.pairs import AcceleratorDesigns
    from layerclock.search.coexplore.problem import Coexploration
    from layerclock.search.objective import FloatArray
    from layerclock.search.result import SearchResult
    from layerclock.space import GenomeArray

__all__ = ["EQUAL", "FixedDesign", "Gain", "gain_percent", "gains", "middle_design", "ranked_designs", "similar_designs"]

# How far the first resource of designs of equal resources may differ, as a share.
EQUAL = 0.1
_DRAWN = 4096


@dataclass(frozen=True, slots=True, eq=False)
class FixedDesign:
    """A design int64[H] of ``designs``, and what to call it."""

    name: str
    designs: AcceleratorDesigns
    genome: GenomeArray

    def measures(self, problem: Coexploration, networks: GenomeArray) -> dict[str, FloatArray]:
        """All measures of networks int64[N, G] on it, float64[N]; those that do not run are beyond everything."""
        space = JointSpace(problem.space.networks, self.designs)
        return FastLevel(space, bounds=False).judge(space.pair(networks, self.genome[None])).measures


@dataclass(frozen=True, slots=True)
class Gain:
    """At networks of at least ``accuracy`` (nan: any): our best of a measure, and that on a fixed design.

    ``evaluation`` numbers our pair, ``percent`` is how much better it is: throughput, or its reciprocal for what is to be small.
    """

    measure: str
    accuracy: float
    against: str
    evaluation: int
    ours: float
    theirs: float
    percent: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def middle_design(designs: AcceleratorDesigns, seed: int = 0) -> GenomeArray:
    """The design int64[H] with the middle choice of every gene, or the nearest to it of many random ones, if it cannot be built.

    Raises :class:`SearchError` where none of them can be built.
    """
    index = SiteIndex(designs.genes, designs.sites)
    middle = index.canonical(np.array([[len(gene.choices) // 2 for gene in designs.genes]], dtype=np.int64))
    drawn = index.canonical(np.concatenate([middle, Variation(index).random(_DRAWN, np.random.default_rng(seed))]))
    fits = designs.build(drawn).shortfall == 0
    if not fits.any():
        raise SearchError(f"none of {len(drawn)} designs of {designs.name} can be built", "give its boards more, or its stages less")
    distance = np.where(fits, np.abs(drawn - middle).sum(axis=1), np.inf)
    nearest: GenomeArray = drawn[int(distance.argmin())]
    return nearest


def similar_designs(designs: AcceleratorDesigns, like: GenomeArray, number: int, seed: int = 0) -> GenomeArray:
    """Up to ``number`` random designs int64[n, H] that can be built and take as much of the first resource as ``like`` int64[H].

    Where too few do within :data:`EQUAL`, the nearest: fewer only where the space has no more.
    """
    index = SiteIndex(designs.genes, designs.sites)
    drawn = Variation(index).unseen(_DRAWN, np.random.default_rng([seed, 2]), set())
    first = designs.resources[0]
    built = designs.build(drawn)
    wanted = designs.build(like[None]).resources[first][0]
    drawn, taken = drawn[built.shortfall == 0], built.resources[first][built.shortfall == 0]
    apart = np.abs(taken / wanted - 1)
    # The order of the draw among those that are near enough; behind them the others by distance.
    similar: GenomeArray = drawn[np.argsort(np.where(apart <= EQUAL, 0.0, apart), kind="stable")[:number]]
    return similar


def ranked_designs(
    problem: Coexploration, like: GenomeArray, networks: GenomeArray, measure: str, number: int = 32, seed: int = 0
) -> list[FixedDesign]:
    """The best, the median and the worst of up to ``number`` random designs of the resources of ``like`` int64[H].

    By the best value of ``measure`` that one of ``networks`` int64[N, G] has on each. Empty where no design can be built.
    """
    designs = problem.space.designs
    drawn = [FixedDesign("", designs, genome) for genome in similar_designs(designs, like, number, seed)]
    sign = _sign(problem, measure)
    order = np.argsort([(sign * one.measures(problem, networks)[measure]).min() for one in drawn], kind="stable")
    named = (("the best of the sample", 0), ("the median", len(drawn) // 2), ("the worst", -1)) if drawn else ()
    return [replace(drawn[order[place]], name=name) for name, place in named]


def gains(
    problem: Coexploration,
    result: SearchResult,
    measures: Sequence[str],
    accuracy: str | None,
    levels: Sequence[float],
    chosen: Sequence[FixedDesign],
    sampled: int = 32,
) -> list[Gain]:
    """How much better our best pair is, for each measure and level of accuracy, than the fixed designs.

    ``accuracy`` names an objective of networks that is to be large, ``levels`` are in its unit; without it there is one comparison over all
    networks. Levels that no pair of ours reaches are left out.
    """
    found = []
    for level in levels if accuracy is not None else [np.nan]:
        networks = _judged(problem, result, accuracy, level)
        fine = result.feasible.copy()
        if accuracy is not None:
            fine &= _column(result, accuracy) >= level
        if not fine.any() or not len(networks):
            continue
        for measure in measures:
            sign = _sign(problem, measure)
            values = np.where(fine, sign * _column(result, measure), np.inf)
            ours = int(values.argmin())
            design = problem.space.split(result.genomes[ours : ours + 1])[1][0]
            for one in (*ranked_designs(problem, design, networks, measure, sampled), *chosen):
                theirs = sign * float((sign * one.measures(problem, networks)[measure]).min())
                mine = sign * float(values[ours])
                found.append(Gain(measure, float(level), one.name, ours, mine, theirs, gain_percent(mine, theirs, sign < 0)))
    return found


def gain_percent(ours: float, theirs: float, maximise: bool) -> float:
    """By how many percent ours is better: of the measure, or of its reciprocal (as of energy: efficiency) where it is to be small."""
    return 100 * ((ours / theirs if maximise else theirs / ours) - 1)


def _sign(problem: Coexploration, measure: str) -> float:
    return -1.0 if problem.fast.objective(measure).maximise else 1.0


def _judged(problem: Coexploration, result: SearchResult, accuracy: str | None, level: float) -> GenomeArray:
    """The networks that were judged and reach the level: int64[N, G]."""
    if accuracy is None:
        return np.unique(problem.space.split(result.genomes)[0], axis=0)
    judged = problem.judged[accuracy]
    return judged.networks[judged.values >= level]


def _column(result: SearchResult, name: str) -> FloatArray:
    values: FloatArray = result.measured[:, [one.name for one in result.measures].index(name)]
    return values
