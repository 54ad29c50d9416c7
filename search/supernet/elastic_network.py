"""What every super-network of image classifiers offers, whatever its sub-networks are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from layerclock.interfaces import SearchSpace

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ElasticNetwork", "ElasticSpace"]


class ElasticSpace(SearchSpace, Protocol):
    """A space of classifiers that knows its super-network."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    def super_network(self) -> ElasticNetwork:
        """All sub-networks in one module, with random weights. Needs torch."""
        ...


class ElasticNetwork(nn.Module, ABC):
    """All sub-networks of ``space`` in one module; it starts with random weights, which follow torch's global seed."""

    space: ElasticSpace

    @abstractmethod
    def forward(self, x: torch.Tensor, genome: npt.ArrayLike) -> torch.Tensor:
        """Logits float32[B, classes] of the sub-network ``genome`` (int64[G]) for inputs as the space says."""

    @abstractmethod
    def extract(self, genome: npt.ArrayLike) -> nn.Module:
        """The static network of ``genome`` with copies of the inherited weights, in evaluation mode."""

    @abstractmethod
    def sort_channels(self) -> None:
        """Put what narrower networks leave out in order of falling importance; the largest network stays the same."""
