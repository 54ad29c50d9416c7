"""A space in one file: genes, sites and build. Plain convolutions, two to four of them, each with a kernel of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, Site, SiteIndex

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

__all__ = ["PlainSpace", "plain"]

DEPTH = Gene("depth", (2, 3, 4))
KERNELS = tuple(Gene(f"conv{number}.kernel", (1, 3, 5)) for number in range(4))


class PlainSpace:
    """243 genomes, 117 networks: a deeper network uses more of the kernels' genes."""

    genes = (DEPTH, *KERNELS)

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.name = f"example-plain:channels={channels}"
        self.inputs = (TensorSpec((1, channels, 16, 16)),)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Four places for a convolution, of which the last two may be empty, and a classifier."""
        convolutions = [self._site(number, gene) for number, gene in enumerate(KERNELS)]
        pixels = self.channels * 16 * 16
        classifier = Layer("linear", (TensorSpec((1, pixels)),), (TensorSpec((1, 10)),), (), macs=pixels * 10, params=pixels * 10 + 10)
        return (*convolutions, Site("classifier", (), (classifier,)))

    def _site(self, number: int, gene: Gene) -> Site:
        def layer(depth: int, kernel: int) -> Layer | None:
            if number >= depth:
                return None
            weights = self.channels**2 * kernel**2
            return Layer("conv", self.inputs, self.inputs, (("k", kernel),), macs=weights * 16 * 16, params=weights + self.channels)

        if number < 2:  # every depth has the first two
            return Site.of(f"conv{number}", (gene,), lambda kernel: layer(number + 1, kernel))
        return Site.of(f"conv{number}", (DEPTH, gene), layer)

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome; its modules are named after the sites."""
        from torch import nn

        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for placed in SiteIndex.of(self).network(np.asarray(genome)).layers:
            if placed.site == "classifier":
                modules["flatten"] = nn.Flatten()
                modules["classifier"] = nn.Linear(self.channels * 16 * 16, 10)
            else:
                kernel = int(dict(placed.layer.attributes)["k"])
                modules[placed.site] = nn.Conv2d(self.channels, self.channels, kernel, padding=kernel // 2)
        return nn.Sequential(modules)


def plain(channels: int = 4) -> PlainSpace:
    """The space with so many channels: ``example-plain`` or ``example-plain:channels=8``."""
    return PlainSpace(channels)
