"""The problem of a co-exploration: objectives and constraints of pairs, for any search algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import UnknownNameError
from layerclock.search.coexplore.fast_level import BUILDABLE, FastLevel
from layerclock.search.coexplore.joint_space import JointSpace
from layerclock.search.coexplore.judged_networks import JudgedNetworks
from layerclock.search.loop import Search
from layerclock.search.objective import Constraint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layerclock.interfaces import SearchSpace
    from layerclock.pairs import AcceleratorDesigns
    from layerclock.search.loop import AlgorithmFactory
    from layerclock.search.objective import Objective
    from layerclock.space import GenomeArray

__all__ = ["Coexploration"]


class Coexploration:
    """Pairs of a network of ``networks`` and a design of ``designs``, and what is wanted of them.

    ``objectives`` name measures of the fast level (:attr:`FastLevel.names`) or are objectives of networks, such as an accuracy; of
    these, what was found for a network is kept. All measures of the fast level are recorded. ``constraints`` may be on any of them, and
    ``metrics`` are objectives of networks that are only recorded and constrained. ``bounds`` turns the roofline off, for comparison.

    Raises :class:`UnknownNameError` for a measure or constraint that there is not.
    """

    def __init__(
        self,
        networks: SearchSpace,
        designs: AcceleratorDesigns,
        objectives: Sequence[Objective | str],
        constraints: Sequence[Constraint | str] = (),
        metrics: Sequence[Objective] = (),
        bounds: bool = True,
    ) -> None:
        self.space = JointSpace(networks, designs)
        of_networks = [one for one in (*objectives, *metrics) if not isinstance(one, str)]
        own = FastLevel(self.space).names
        unknown = [one for one in objectives if isinstance(one, str) and one not in own]
        if unknown:
            raise UnknownNameError("measure of pairs", str(unknown[0]), own)
        names = [*own, *(one.name for one in of_networks)]
        self.constraints = tuple(Constraint.parse(str(one), names) for one in constraints)
        self.fast = FastLevel(self.space, self.constraints, bounds)
        self.judged = {one.name: JudgedNetworks(self.space, one) for one in of_networks}
        self.objectives = tuple(self.fast.objective(one) if isinstance(one, str) else self.judged[one.name].objective for one in objectives)
        left = [name for name in (*own, "shortfall") if name not in objectives]
        self.metrics = (*(self.fast.objective(name) for name in left), *(self.judged[one.name].objective for one in metrics))

    @property
    def trainings(self) -> int:
        """Distinct networks of which something dear was asked, such as an accuracy."""
        return max((len(judged) for judged in self.judged.values() if not judged.objective.cheap), default=0)

    def search(
        self,
        algorithm: str | AlgorithmFactory = "two-level",
        evaluations: int = 100,
        population: int | None = None,
        seed: int = 0,
        start: GenomeArray | None = None,
        allowed: Sequence[Sequence[int]] | None = None,
        workers: int = 1,
        folder: Path | None = None,
    ) -> Search:
        """A search among the pairs; evaluations are of pairs that can be built and meet the specification. Raises what it raises."""
        constraints: list[Constraint | str] = [BUILDABLE, *self.constraints]
        search = Search(
            self.space, self.objectives, constraints, evaluations, population, seed, self.metrics, algorithm, start, allowed, workers,
            folder,
        )  # fmt: skip
        # Networks that an interrupted run judged are judged on every design.
        genomes = np.array([np.frombuffer(key, dtype=np.int64) for key in search.record.remembered])
        values = np.array([found for found, _ in search.record.remembered.values()])
        for column, measured in enumerate(search.record.measures):
            if len(genomes) and measured.name in self.judged:
                self.judged[measured.name].remember(genomes, values[:, column])
        return search
