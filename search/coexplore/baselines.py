"""What co-exploration is held against: networks searched for one design, and networks searched before any design."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.search.loop import Search

if TYPE_CHECKING:
    from layerclock.search.coexplore.problem import Coexploration
    from layerclock.search.loop import AlgorithmFactory
    from layerclock.space import GenomeArray

__all__ = ["architecture_first", "hardware_aware"]


def hardware_aware(
    problem: Coexploration, design: GenomeArray, algorithm: str | AlgorithmFactory = "nsga2", evaluations: int = 100, seed: int = 0
) -> Search:
    """Hardware-aware search on a fixed design int64[H]: of the pairs, those with it alone. Raises what a search raises."""
    own = [range(len(gene.choices)) for gene in problem.space.networks.genes]
    return problem.search(algorithm, evaluations, seed=seed, allowed=[*own, *([int(choice)] for choice in design)])


def architecture_first(
    problem: Coexploration,
    design: GenomeArray,
    accuracy: str,
    algorithm: str | AlgorithmFactory = "nsga2",
    evaluations: int = 100,
    seed: int = 0,
) -> Search:
    """The most accurate network of as many evaluations, whatever it costs, and then a search of as many designs for it.

    ``design`` int64[H] stands with the networks in the first search, and matters to nothing. Raises :class:`ArgumentError` if ``accuracy``
    is no objective of networks of the problem, and what a search raises.
    """
    if accuracy not in problem.judged:
        raise ArgumentError(f"{accuracy!r} is no objective of networks here", f"one of {', '.join(problem.judged) or 'none'}")
    networks, designs = problem.space.networks.genes, problem.space.designs.genes
    every = [range(len(gene.choices)) for gene in (*networks, *designs)]
    held = [[int(choice)] for choice in design]
    first = Search(
        problem.space, [problem.judged[accuracy].objective], evaluations=evaluations, seed=seed, algorithm=algorithm,
        allowed=[*every[: len(networks)], *held],
    )  # fmt: skip
    while not first.stopped:
        first.step()
    found = first.result()
    best = problem.space.split(found.genomes[[int(np.nanargmin(found.minimised[:, 0]))]])[0][0]
    return problem.search(algorithm, evaluations, seed=seed, allowed=[*([int(choice)] for choice in best), *every[len(networks) :]])
