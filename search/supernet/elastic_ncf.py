"""The weight-sharing super-network of neural collaborative filtering: one set of weights, every sub-network a slice of it.

A narrower embedding or layer takes the leading dimensions of every tensor; a shallower perceptron leaves out its last layers.
Layers of another depth mean something else to the layer that makes the scores, so there is one of these for each depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from layerclock.search.networks.ncf import EmbeddingPair, Fusion, NeuMF

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.ncf import NcfShape, NcfSpace

__all__ = ["ElasticNcf"]

_DEVIATION = 0.2


class ElasticNcf(nn.Module):
    """All sub-networks of ``space`` in one module; starts with random weights, which follow torch's global seed."""

    def __init__(self, space: NcfSpace) -> None:
        super().__init__()
        self.space = space
        self.largest = space.shape(np.array([len(gene.choices) - 1 for gene in space.genes]))
        full = NeuMF(space.users, space.items, self.largest)
        self.gmf, self.embedding, self.mlp = full.gmf, full.embedding, full.mlp
        self.fusions = nn.ModuleList(Fusion(self.largest.gmf + width) for width in self.largest.widths)
        for pair in (self.gmf, self.embedding):
            nn.init.normal_(pair.users.weight, std=_DEVIATION)
            nn.init.normal_(pair.items.weight, std=_DEVIATION)
        with torch.no_grad():  # the product begins as plain matrix factorisation, whose factors learn from the first step
            for fusion in self.fusions:
                fusion.get_parameter("linear.weight")[:, : self.largest.gmf] = 1.0

    def forward(self, user: torch.Tensor, candidates: torch.Tensor, genome: npt.ArrayLike) -> torch.Tensor:
        """Scores float32[B, C] by the sub-network ``genome`` (int64[G]) of candidates int64[B, C] for users int64[B, 1].

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        shape = self.space.shape(genome)
        # The skeleton computes with the slices that it is handed: its own embeddings are never used, and need not be large.
        skeleton = _unused_weights(1, 1, shape)
        out: torch.Tensor = functional_call(skeleton, self.weights(shape), (user, candidates))
        return out

    def weights(self, shape: NcfShape) -> dict[str, torch.Tensor]:
        """The parameters of the static network of ``shape``, by name, as differentiable slices of the shared ones."""
        found = {
            **_embeddings("gmf", self.gmf, shape.gmf),
            **_embeddings("embedding", self.embedding, shape.mlp),
        }
        # The first layer reads the user's embedding and then the item's; the fusion, the product and then the perceptron.
        ends: tuple[tuple[int, int], ...] = ((self.largest.mlp, shape.mlp), (self.largest.mlp, shape.mlp))
        for number, width in enumerate(shape.widths, start=1):
            linear = self.mlp.get_submodule(f"layer{number}.0")
            found[f"mlp.layer{number}.0.weight"] = _columns(linear.get_parameter("weight")[:width], ends)
            found[f"mlp.layer{number}.0.bias"] = linear.get_parameter("bias")[:width]
            ends = ((self.largest.widths[number - 1], width),)
        fusion = self.fusions[len(shape.widths) - 1]
        found["fusion.linear.weight"] = _columns(fusion.get_parameter("linear.weight"), ((self.largest.gmf, shape.gmf), *ends))
        found["fusion.linear.bias"] = fusion.get_parameter("linear.bias")
        return found

    @torch.no_grad()
    def extract(self, genome: npt.ArrayLike) -> NeuMF:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode.

        Raises :class:`~layerclock.errors.GenomeError` for a genome of another space.
        """
        shape = self.space.shape(genome)
        network = _unused_weights(self.space.users, self.space.items, shape)
        copies = {name: weight.detach().clone(memory_format=torch.contiguous_format) for name, weight in self.weights(shape).items()}
        network.load_state_dict(copies, assign=True)
        return network.eval()


def _unused_weights(users: int, items: int, shape: NcfShape) -> NeuMF:
    """A static network whose own weights are replaced; the caller's seed must not notice them."""
    with torch.random.fork_rng(devices=[]):
        return NeuMF(users, items, shape)


def _embeddings(name: str, pair: EmbeddingPair, dimension: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.users.weight": pair.users.weight[:, :dimension],
        f"{name}.items.weight": pair.items.weight[:, :dimension],
    }


def _columns(weight: torch.Tensor, parts: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Of columns that come in ``parts`` of (size, wanted), the leading ones of each part."""
    sizes = [size for size, _ in parts]
    split = torch.split(weight, sizes, dim=1)
    return torch.cat([part[:, :wanted] for part, (_, wanted) in zip(split, parts, strict=True)], dim=1)
