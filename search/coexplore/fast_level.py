"""The fast level of a co-exploration: what pairs cost, from the cheapest test to the dearest, without training anything.

After the first level of Jiang et al., "Hardware/Software Co-Exploration of Neural Architectures" (arXiv:1907.04650, section IV): what
cannot meet the specification is not trained. Here the tests come in the order of their price: can the design be built; does a bound
on its costs, never above them, meet the specification; then the cost model with the partition into stages. A pair that a test turns down is
told by that test's numbers, which violate the specification as well; what meets it gets the model's numbers. So no
feasible pair is ever dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.pairs import PairCosts
from layerclock.search.objective import Constraint, FloatArray, Objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.search.coexplore.joint_space import JointSpace
    from layerclock.space import GenomeArray

__all__ = ["BUILDABLE", "FastLevel", "Judged", "Tally"]

# The constraint that every co-exploration has.
BUILDABLE = "shortfall<=0"

# In the place of infinite costs: beyond those of any pair, yet numbers that can be ranked and written.
_NEVER = 1e15

_COSTS: dict[str, tuple[str, bool, Callable[[PairCosts], FloatArray]]] = {
    "throughput_per_s": ("", True, lambda costs: costs.throughput_per_s),
    "energy_mj": ("mj", False, lambda costs: costs.energy_mj),
    "latency_ms": ("ms", False, lambda costs: costs.latency_ms),
    "cycles": ("", False, lambda costs: costs.cycles),
    "utilisation": ("", True, lambda costs: costs.utilisation),
}


@dataclass(slots=True)
class Tally:
    """How many pairs the fast level was asked for, and where they ended; each time that one is asked counts.

    ``unbuildable`` designs, pairs that the ``bound`` or the ``model`` showed to violate the specification; the others ``passed``.
    """

    unbuildable: int = 0
    bound: int = 0
    model: int = 0
    passed: int = 0

    @property
    def asked(self) -> int:
        """All of them."""
        return self.unbuildable + self.bound + self.model + self.passed


@dataclass(frozen=True, slots=True)
class Judged:
    """Measures of B pairs by name, float64[B] each, and ``by_model`` bool[B]: whether the cost model gave them."""

    measures: dict[str, FloatArray]
    by_model: np.ndarray[tuple[int], np.dtype[np.bool_]]


class FastLevel:
    """Cheap measures of pairs: ``throughput_per_s``, ``energy_mj``, ``latency_ms``, ``cycles``, ``utilisation`` and the resources.

    ``specification`` are hard constraints; those on other measures are passed over. ``bounds`` turns the second test off, for comparison.
    """

    def __init__(self, space: JointSpace, specification: Sequence[Constraint] = (), bounds: bool = True) -> None:
        self.space = space
        self.tally = Tally()
        self._bounds = bounds
        self._sizes = {**{name: maximise for name, (_, maximise, _) in _COSTS.items()}, **dict.fromkeys(space.designs.resources, False)}
        self._specification = [one for one in specification if one.name in self._sizes and not one.soft]
        self._last: tuple[bytes, Judged] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measures, shortfall not among them."""
        return tuple(self._sizes)

    def objective(self, name: str) -> Objective:
        """The measure called ``name`` as an objective or metric, cheap. Raises :class:`ArgumentError` for another name."""
        if name not in (*self._sizes, "shortfall"):
            raise ArgumentError(f"pairs have no measure {name!r}", f"one of {', '.join(self._sizes)}")
        unit, maximise = _COSTS[name][:2] if name in _COSTS else ("", False)
        source = self.space.designs.name
        return Objective(name, lambda genomes: self.judge(genomes).measures[name], maximise, unit, cheap=True, source=source)

    def judge(self, genomes: GenomeArray) -> Judged:
        """All measures of canonical pairs int64[B, G + H]. The last answer is remembered: objectives ask one by one."""
        key = genomes.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self._judge(genomes)
        return self._last[1]

    def _judge(self, genomes: GenomeArray) -> Judged:
        networks, designs = self.space.split(genomes)
        built = self.space.designs.build(designs)
        fits = built.shortfall == 0
        measures = {**_finite(self.space.designs.bounds(networks, designs)), **built.resources}
        allowed = fits & self._within(measures, bounded=True) if self._bounds else fits
        rows = np.flatnonzero(allowed)
        model = _finite(self.space.designs.costs(networks[rows], designs[rows])) if len(rows) else {}
        for name, values in model.items():
            measures[name][rows] = values
        # Where no stage can run a layer, the costs are beyond everything.
        runs = measures["latency_ms"] < _NEVER
        passed = allowed & runs & self._within(measures, bounded=False)
        self.tally.unbuildable += int((~fits).sum())
        self.tally.bound += int((fits & ~allowed).sum())
        self.tally.model += int((allowed & ~passed).sum())
        self.tally.passed += int(passed.sum())
        shortfall = built.shortfall + np.where(runs, 0.0, 1.0)
        return Judged({**measures, "shortfall": shortfall}, allowed)

    def _within(self, measures: dict[str, FloatArray], bounded: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether the specification holds; by bounds, where it asks for more of what they say is at most, or for less of the least."""
        held = np.ones(len(measures["cycles"]), dtype=np.bool_)
        for one in self._specification:
            if not bounded or self._sizes[one.name] == (one.operator == ">="):
                held &= one.violation(measures[one.name]) == 0
        return held


def _finite(costs: PairCosts) -> dict[str, FloatArray]:
    capped = PairCosts(*(np.minimum(getattr(costs, field.name), _NEVER) for field in fields(PairCosts)))
    return {name: get(capped) for name, (_, _, get) in _COSTS.items()}
