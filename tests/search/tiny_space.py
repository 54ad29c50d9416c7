"""A space of 28 networks, and an accuracy that is computed: what tests of the search run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.network import Layer, TensorSpec
from layerclock.search.objective import Objective
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

FloatingArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TinySpace:
    """28 networks: one to three blocks, each with a kernel of 3 or 5, all of one of two widths."""

    name = "tiny"
    inputs = (TensorSpec((1, 3, 8, 8)),)
    genes = (Gene("depth", (1, 2, 3)), Gene("width", (8, 16)), Gene("k1", (3, 5)), Gene("k2", (3, 5)), Gene("k3", (3, 5)))

    @property
    def sites(self) -> tuple[Site, ...]:
        depth, width, *kernels = self.genes

        def block(number: int) -> Callable[[int, int, int], Layer | None]:
            def layer(blocks: int, channels: int, kernel: int) -> Layer | None:
                if number >= blocks:
                    return None
                cost = channels * kernel**2 * (number + 1)
                return Layer("conv", (), (), (("at", number), ("c", channels), ("k", kernel)), macs=cost, params=channels * kernel**2)

            return layer

        return tuple(Site.of(f"block{n}", (depth, width, kernel), block(n)) for n, kernel in enumerate(kernels))

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        raise NotImplementedError


def quality(index: SiteIndex) -> Objective:
    """An 'accuracy': every gene's choice adds its own amount, with falling returns; some large choices do not pay."""
    rng = np.random.default_rng(7)
    worth = rng.normal(1.0, 0.6, (len(index.genes), int(index.cardinality.max()))).cumsum(axis=1)

    def evaluate(genomes: GenomeArray) -> FloatingArray:
        chosen = worth[np.arange(len(index.genes)), genomes] * index.active(genomes)
        return np.asarray(100 * (1 - np.exp(-chosen.sum(axis=1) / 30)))

    return Objective("top1_percent", evaluate, maximise=True)


def counted(objective: Objective) -> tuple[Objective, list[GenomeArray]]:
    """The objective, and the batches that it is asked for."""
    batches: list[GenomeArray] = []

    def evaluate(genomes: GenomeArray) -> FloatingArray:
        batches.append(genomes.copy())
        return objective.evaluate(genomes)

    return Objective(objective.name, evaluate, objective.maximise, objective.unit, objective.cheap), batches


OFA = ofa_mobilenetv3()
INDEX = SiteIndex.of(OFA)
TINY = TinySpace()
TINY_INDEX = SiteIndex.of(TINY)
EVERY_TINY = np.unique(TINY_INDEX.canonical(np.array(list(np.ndindex(*TINY_INDEX.cardinality)))), axis=0)
