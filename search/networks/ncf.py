"""The static network of one genome of neural collaborative filtering, with modules named after the sites. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from layerclock.search.spaces.ncf import NcfShape

__all__ = ["EmbeddingPair", "Fusion", "NeuMF"]


class EmbeddingPair(nn.Module):
    """One embedding of the user and one of each candidate, multiplied element by element or concatenated."""

    def __init__(self, users: int, items: int, dimension: int, multiplied: bool) -> None:
        super().__init__()
        self.users = nn.Embedding(users, dimension)
        self.items = nn.Embedding(items, dimension)
        self.multiplied = multiplied

    def forward(self, user: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Float32[B, C, dimension], or [B, C, 2 * dimension] where concatenated, of int64[B, 1] and int64[B, C]."""
        one, many = self.users(user), self.items(candidates)
        if self.multiplied:
            out: torch.Tensor = one * many
            return out
        return torch.cat([one.expand_as(many), many], 2)


class Fusion(nn.Module):
    """The linear layer that makes a score of both branches (He et al., 2017, equation 12, before the sigmoid)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, gmf: torch.Tensor, mlp: torch.Tensor) -> torch.Tensor:
        """Float32[B, C] of float32[B, C, *] twice."""
        out: torch.Tensor = self.linear(torch.cat([gmf, mlp], 2))
        return out.flatten(1)


class NeuMF(nn.Module):
    """One network; ``get_submodule(site.name)`` is the module that stands at a site."""

    def __init__(self, users: int, items: int, shape: NcfShape) -> None:
        super().__init__()
        self.gmf = EmbeddingPair(users, items, shape.gmf, multiplied=True)
        self.embedding = EmbeddingPair(users, items, shape.mlp, multiplied=False)
        self.mlp = nn.Sequential()
        incoming = 2 * shape.mlp
        for number, width in enumerate(shape.widths, start=1):
            self.mlp.add_module(f"layer{number}", nn.Sequential(nn.Linear(incoming, width), nn.ReLU()))
            incoming = width
        self.fusion = Fusion(shape.gmf + incoming)

    def forward(self, user: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Scores float32[B, C] of the candidates int64[B, C] for the users int64[B, 1]; larger is better."""
        out: torch.Tensor = self.fusion(self.gmf(user, candidates), self.mlp(self.embedding(user, candidates)))
        return out
