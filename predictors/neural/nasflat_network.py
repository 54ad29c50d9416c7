"""NASFLAT's network (Akhauri and Abdelfattah 2024, arXiv:2403.02446): a score for a graph of operations on a device.

The embedding of each operation is joined by the device's. A first pass over the graph gathers what the whole network is; its answer at the
output refines the embeddings, as training steps would refine the operations (TA-GATES, Ning et al. 2022). A second pass with the refined
ones gives the vertices' features, whose mean, with a supplementary encoding where there is one, goes through a perceptron.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from layerclock.predictors.neural.graph_layers import EnsembleLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from layerclock.predictors.neural.training import GraphTensors

__all__ = ["NasflatNetwork"]

_ENCODED = 48


class NasflatNetwork(nn.Module):
    """``operations`` codes on vertices of ``places`` int64[V], ``devices`` embeddings, ``supplement`` numbers beside the graph (0: none).

    ``width`` is that of the graph layers, ``embedding`` that of an operation on a device (half and half), ``head`` of the perceptron.
    """

    def __init__(
        self,
        operations: int,
        places: npt.NDArray[np.int64],
        devices: int,
        supplement: int,
        width: int,
        embedding: int,
        head: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.operation = nn.Embedding(operations, embedding // 2)
        self.device = nn.Embedding(devices, embedding - embedding // 2)
        self.start = nn.Embedding(int(places.max()) + 1, width)
        self.places = nn.Buffer(torch.tensor(places))
        self.gathering = nn.ModuleList(EnsembleLayer(width, width, embedding) for _ in range(2))
        self.telling = _perceptron([width, width, width], width)
        self.refine = _perceptron([embedding + width, 128], embedding)
        self.passing = nn.ModuleList(EnsembleLayer(width, width, embedding) for _ in range(3))
        self.encode = _perceptron([supplement, 128, 128], _ENCODED, dropout) if supplement else None
        self.head = _perceptron([width + (_ENCODED if supplement else 0), head, head, head], 1, dropout)

    def forward(self, graphs: GraphTensors, device: torch.Tensor, supplement: torch.Tensor) -> torch.Tensor:
        """Scores float32[N] of N graphs on devices int64[N] with ``supplement`` float32[N, F]; the slower, the higher."""
        on_device = self.device(device)[:, None].expand(-1, graphs.codes.shape[1], -1)
        operations = torch.cat([self.operation(graphs.codes), on_device], dim=-1)
        # The same for all networks until the first layer has seen their graphs: one row stands for all.
        start = self.start(self.places)[None]
        gathered = _passed(self.gathering, start, graphs.adjacency, operations)[:, -1]
        told = self.telling(gathered)[:, None].expand(-1, graphs.codes.shape[1], -1)
        refined = self.refine(torch.cat([operations, told], dim=-1))
        features = _passed(self.passing, start, graphs.adjacency, refined)[:, 1:].mean(dim=1)
        if self.encode is not None:
            features = torch.cat([features, self.encode(supplement)], dim=-1)
        scores: torch.Tensor = self.head(features)[:, 0]
        return scores


def _passed(layers: Iterable[nn.Module], features: torch.Tensor, adjacency: torch.Tensor, operations: torch.Tensor) -> torch.Tensor:
    for number, layer in enumerate(layers):
        features = layer(functional.relu(features) if number else features, adjacency, operations)
    return features


def _perceptron(hidden: list[int], outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers from ``hidden[0]`` inputs over the other widths to ``outputs``, with rectifiers between."""
    layers: list[nn.Module] = []
    for before, after in pairwise(hidden):
        layers += [nn.Linear(before, after), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))
