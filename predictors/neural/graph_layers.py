"""Layers of graph networks: dense graph flow, graph attention, and the two together.

``features`` float32[N, V, F] of V vertices, ``adjacency`` float32[N, V, V] with 1 at ``[n, i, j]`` where ``j`` reads what ``i`` gives,
``operations`` float32[N, V, E], the embedding of each vertex' operation.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["DenseGraphFlow", "EnsembleLayer", "GraphAttention"]


class DenseGraphFlow(nn.Module):
    """``sigmoid(O Wo) * (A X Wf) + X Wf + b``: what flows into a vertex passes a gate that its operation sets.

    Ning et al. 2020 (GATES, arXiv:2004.01899), as in NASFLAT (Akhauri and Abdelfattah 2024, arXiv:2403.02446).
    """

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.flow = nn.Linear(inputs, outputs, bias=False)
        self.gate = nn.Linear(embedding, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: torch.Tensor, adjacency: torch.Tensor, operations: torch.Tensor) -> torch.Tensor:
        """float32[N, V, outputs]."""
        carried = self.flow(features)
        flowed: torch.Tensor = torch.sigmoid(self.gate(operations)) * (adjacency.mT @ carried) + carried + self.bias
        return flowed


class GraphAttention(nn.Module):
    """``LayerNorm(sigmoid(O Wo) * sum_j softmax_j(LeakyReLU(A_ij a(X_i Wp * X_j Wp))) X_j Wp)`` (NASFLAT).

    As in the authors' code, a vertex that is not read from has the weight of a logit of 0, not none: each vertex sees the whole network.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, outputs, bias=False)
        self.attend = nn.Parameter(torch.empty(outputs))
        nn.init.uniform_(self.attend, -(outputs**-0.5), outputs**-0.5)
        self.gate = nn.Linear(embedding, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, features: torch.Tensor, adjacency: torch.Tensor, operations: torch.Tensor) -> torch.Tensor:
        """float32[N, V, outputs]."""
        projected = self.project(features)
        # a(x_i * x_j) for all pairs is one product of matrices, because ``a`` is linear.
        affinity = functional.leaky_relu((projected * self.attend) @ projected.mT)
        attention = torch.softmax(affinity * adjacency.mT, dim=-1)
        flowed: torch.Tensor = self.norm(torch.sigmoid(self.gate(operations)) * (attention @ projected))
        return flowed


class EnsembleLayer(nn.Module):
    """The mean of :class:`DenseGraphFlow` and :class:`GraphAttention` (NASFLAT)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.flow = DenseGraphFlow(inputs, outputs, embedding)
        self.attention = GraphAttention(inputs, outputs, embedding)

    def forward(self, features: torch.Tensor, adjacency: torch.Tensor, operations: torch.Tensor) -> torch.Tensor:
        """float32[N, V, outputs]."""
        mean: torch.Tensor = (self.flow(features, adjacency, operations) + self.attention(features, adjacency, operations)) / 2
        return mean
