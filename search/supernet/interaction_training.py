"""Training the super-network of neural collaborative filtering, and a single network for comparison.

Every step takes observed pairs, each with items that the user did not take, drawn anew (He et al., WWW 2017, section 3.3.1:
four of them, and the binary cross-entropy). By the sandwich rule the largest network learns from what was taken, and the
smallest and random ones from the largest one's answers (Yu & Huang, ICCV 2019, arXiv:1903.05134).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError
from layerclock.search.supernet.elastic_ncf import ElasticNcf
from layerclock.search.supernet.sandwich import by_clock, by_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from layerclock.search.networks.ncf import NeuMF
    from layerclock.search.spaces.ncf import NcfSpace
    from layerclock.search.supernet.interaction_data import InteractionData

__all__ = ["InteractionTraining", "train_ncf_alone", "train_ncf_supernet"]


@dataclass(frozen=True, slots=True)
class InteractionTraining:
    """How a network is trained; the defaults suit the drawn interactions."""

    batch: int = 256
    negatives: int = 4
    learning_rate: float = 2e-2
    weight_decay: float = 0.5
    random_networks: int = 1


def train_ncf_supernet(
    space: NcfSpace,
    data: InteractionData,
    *,
    steps: int = 0,
    budget_s: float = 0.0,
    seed: int = 0,
    options: InteractionTraining | None = None,
) -> ElasticNcf:
    """Train a super-network of ``space`` for ``steps`` optimiser steps, or for ``budget_s`` seconds of the wall clock.

    With ``steps`` the result depends on the seed alone (on one machine and number of threads). Raises :class:`ArgumentError`
    unless exactly one of both is positive and the data are of the space's users and items.
    """
    chosen = options or InteractionTraining()
    _check(space, data)
    if (steps > 0) == (budget_s > 0) or steps < 0 or budget_s < 0:
        raise ArgumentError(f"steps={steps} and budget_s={budget_s}: a super-network is trained for one of them", "give a positive one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supernet = ElasticNcf(space)
    rng = np.random.default_rng(seed)
    choices = np.array([len(gene.choices) for gene in space.genes])

    def learn(user: torch.Tensor, candidates: torch.Tensor, taken: torch.Tensor) -> None:
        answers = _learn(supernet(user, candidates, choices - 1), taken)
        for genome in (np.zeros_like(choices), *rng.integers(0, choices, (chosen.random_networks, len(choices)))):
            _learn(supernet(user, candidates, genome), answers)

    _optimise(supernet, data, chosen, by_steps(steps) if steps else by_clock(budget_s), seed, learn)
    return supernet.eval()


def train_ncf_alone(
    space: NcfSpace, genome: npt.ArrayLike, data: InteractionData, *, steps: int, seed: int = 0, options: InteractionTraining | None = None
) -> NeuMF:
    """Train one sub-network from scratch: what its inherited weights are compared with.

    Raises :class:`ArgumentError` unless ``steps >= 1`` and the data are of the space's users and items, and
    :class:`~layerclock.errors.GenomeError` for a foreign genome.
    """
    _check(space, data)
    if steps < 1:
        raise ArgumentError(f"steps={steps} is no training", "give at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ElasticNcf(space).extract(genome)

    def learn(user: torch.Tensor, candidates: torch.Tensor, taken: torch.Tensor) -> None:
        _learn(network(user, candidates), taken)

    _optimise(network, data, options or InteractionTraining(), by_steps(steps), seed, learn)
    return network.eval()


def _learn(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Gradients by the binary cross-entropy are added up; returns the answers as probabilities."""
    torch.autograd.backward(functional.binary_cross_entropy_with_logits(scores, wanted))
    return scores.detach().sigmoid()


def _optimise(
    network: nn.Module,
    data: InteractionData,
    options: InteractionTraining,
    done: Callable[[int], float],
    seed: int,
    learn: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None],
) -> None:
    """AdamW until all of the training is done; the learning rate falls as a cosine to zero."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=options.weight_decay)
    network.train()
    step = 0
    while (share := done(step)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * (1 + math.cos(math.pi * share)) / 2
        optimiser.zero_grad()
        learn(*_batch(data, options, generator))
        optimiser.step()
        step += 1


def _batch(data: InteractionData, options: InteractionTraining, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Users int64[B, 1], candidates int64[B, 1 + negatives] and what was taken of them float32[B, 1 + negatives].

    Held-out items are drawn as negatives like any other: training does not know them.
    """
    rows = data.taken[torch.randint(len(data.taken), (options.batch,), generator=generator)]
    user, item = rows[:, :1], rows[:, 1:]
    drawn = torch.randint(data.known.shape[1], (options.batch, options.negatives), generator=generator)
    candidates = torch.cat([item, drawn], 1)
    return user, candidates, data.known[user, candidates].float()


def _check(space: NcfSpace, data: InteractionData) -> None:
    if tuple(data.known.shape) != (space.users, space.items):
        raise ArgumentError(
            f"interactions of {data.known.shape[0]} users with {data.known.shape[1]} items do not fit the space {space.name!r}",
            f"draw them for {space.users} users and {space.items} items",
        )
