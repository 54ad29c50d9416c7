"""What depends on the network of a pair alone: asked once for each network, on however many designs it stands."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layerclock.search.coexplore.joint_space import JointSpace
    from layerclock.search.objective import FloatArray, Objective
    from layerclock.space import GenomeArray

__all__ = ["JudgedNetworks"]


class JudgedNetworks:
    """An objective of networks int64[N, G] as one of pairs. What it told once it remembers, failures (NaN) included.

    ``objective`` is the one to give to a search; ``seconds`` is what evaluating took.
    """

    def __init__(self, space: JointSpace, of_networks: Objective) -> None:
        self._space = space
        self._of_networks = of_networks
        self._known: dict[bytes, float] = {}
        self.seconds = 0.0
        interval = of_networks.interval
        self.objective = replace(
            of_networks,
            evaluate=self._evaluate,
            space_digest="",  # that of the networks' space, which the pairs' is not
            interval=None if interval is None else lambda genomes: interval(space.split(genomes)[0]),
        )

    def __len__(self) -> int:
        """Number of distinct networks that were evaluated: of an accuracy, the trainings."""
        return len(self._known)

    @property
    def networks(self) -> GenomeArray:
        """The networks that were evaluated, in order: int64[N, G]."""
        width = len(self._space.networks.genes)
        return np.array([np.frombuffer(key, dtype=np.int64) for key in self._known], dtype=np.int64).reshape(len(self._known), width)

    @property
    def values(self) -> FloatArray:
        """What was found for each of ``networks``: float64[N]."""
        return np.array(list(self._known.values()), dtype=np.float64)

    def remember(self, genomes: GenomeArray, values: FloatArray) -> None:
        """Take what an earlier run found for pairs int64[B, G + H]: float64[B]."""
        keys = [row.tobytes() for row in self._space.split(genomes)[0]]
        self._known.update(zip(keys, values.tolist(), strict=True))

    def _evaluate(self, genomes: GenomeArray) -> FloatArray:
        keys = [row.tobytes() for row in self._space.split(genomes)[0]]
        fresh = [key for key in dict.fromkeys(keys) if key not in self._known]
        if fresh:
            start = perf_counter()
            networks = np.array([np.frombuffer(key, dtype=np.int64) for key in fresh])
            values = self._of_networks.evaluate(networks)
            self.seconds += perf_counter() - start
            self._known |= dict(zip(fresh, np.asarray(values, dtype=np.float64).tolist(), strict=True))
        return np.array([self._known[key] for key in keys], dtype=np.float64)
