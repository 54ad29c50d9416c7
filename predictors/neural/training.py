"""What the trainings of this package share: one thread, a seed of their own, and a cosine schedule."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from layerclock.predictors.neural.cells import Graphs

__all__ = ["GraphTensors", "Schedule", "optimise", "reproducible"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW with a learning rate that falls along a cosine to nothing.

    Raises :class:`ArgumentError` unless all numbers are positive (``weight_decay`` may be 0).
    """

    steps: int
    learning_rate: float
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise ArgumentError(f"{self} is no training", "steps >= 1, learning_rate > 0, weight_decay >= 0")


@dataclass(frozen=True, slots=True)
class GraphTensors:
    """:class:`~layerclock.predictors.neural.cells.Graphs` in torch: ``adjacency`` float32[N, V, V], ``codes`` int64[N, V]."""

    adjacency: torch.Tensor
    codes: torch.Tensor

    @classmethod
    def of(cls, graphs: Graphs) -> GraphTensors:
        """The same graphs, copied."""
        return cls(torch.tensor(graphs.adjacency), torch.tensor(graphs.codes))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: torch.Tensor | slice) -> GraphTensors:
        """The graphs of ``rows``."""
        return GraphTensors(self.adjacency[rows], self.codes[rows])


@contextmanager
def reproducible(seed: int) -> Iterator[torch.Generator]:
    """One thread and torch seeded, so that the same seed gives the same numbers; threads and random state are put back afterwards.

    Small products do not get faster with more threads, and sums would come out in another order. Yields a generator with the same seed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(threads)


def optimise(network: nn.Module, schedule: Schedule, loss: Callable[[int], torch.Tensor]) -> None:
    """Train ``network`` in place: ``loss(step)`` is what each step makes smaller. It is left in the mode for answering."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, foreach=True)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, schedule.steps)
    network.train()
    for step in range(schedule.steps):
        optimiser.zero_grad()
        torch.autograd.backward(loss(step))
        optimiser.step()
        falling.step()
    network.eval()
