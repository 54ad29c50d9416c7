"""The sandwich rule: training all sub-networks of a super-network together.

First the largest network alone, then the sandwich rule with in-place distillation (Yu & Huang, ICCV 2019,
arXiv:1903.05134; Yu et al., BigNAS, ECCV 2020, arXiv:2003.11142): in every step the largest network learns from the
labels, and the smallest and a random one (or several) from the largest one's answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError
from layerclock.search.supernet.elastic import largest_genome, smallest_genome

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["Progress", "TrainingOptions", "by_clock", "by_steps", "optimise", "seeded", "silent", "train_elastic"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a network is trained; the defaults suit the digits."""

    batch: int = 32
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    warm_share: float = 0.2
    random_networks: int = 1
    clip: float = 5.0


def train_elastic(
    supernet: nn.Module,
    space: SearchSpace,
    batches: Iterator[tuple[Any, torch.Tensor]],
    *,
    steps: int,
    budget_s: float,
    seed: int,
    options: TrainingOptions,
    progress: Progress | None,
    after_warming: Callable[[], None],
) -> None:
    """Train ``supernet(inputs, genome)``, which answers with logits float32[N, classes, ...], in place.

    ``batches`` gives inputs and their labels int64[N, ...]. The training takes ``steps`` optimiser steps, or ``budget_s``
    seconds by the wall clock. ``after_warming`` is called between the two phases: there channels are sorted.
    Raises :class:`ArgumentError` unless exactly one of ``steps`` and ``budget_s`` is positive.
    """
    if (steps > 0) == (budget_s > 0) or steps < 0 or budget_s < 0:
        raise ArgumentError(f"steps={steps} and budget_s={budget_s}: a super-network is trained for one of them", "give a positive one")
    rng = np.random.default_rng(seed)
    done = by_steps(steps) if steps else by_clock(budget_s)
    report = progress or silent
    largest = largest_genome(space)

    def alone(step: int) -> None:
        _learn_largest(supernet, largest, *next(batches))
        report(done(step + 1), f"the largest network alone, step {step + 1}")

    def sandwich(step: int) -> None:
        _learn_sandwich(supernet, largest, _others(space, options.random_networks, rng), *next(batches))
        report(done(step + 1), f"sandwich rule, step {step + 1}")

    warm = optimise(supernet, 0, options.warm_share, done, options, alone)
    after_warming()
    optimise(supernet, warm, 1.0, done, options, sandwich)


def by_steps(steps: int) -> Callable[[int], float]:
    """Share of the training that is done before step number ``step``."""
    return lambda step: step / steps


def by_clock(budget_s: float) -> Callable[[int], float]:
    """Share of ``budget_s`` seconds, from now on, that has passed."""
    begin = time.perf_counter()
    return lambda _: min(1.0, (time.perf_counter() - begin) / budget_s)


def _learn_largest(supernet: nn.Module, largest: GenomeArray, inputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Gradients of the largest network by the labels are added up; returns its answers as probabilities."""
    logits: torch.Tensor = supernet(inputs, largest)
    torch.autograd.backward(functional.cross_entropy(logits, labels))
    return logits.detach().softmax(1)


def _learn_sandwich(supernet: nn.Module, largest: GenomeArray, others: GenomeArray, inputs: Any, labels: torch.Tensor) -> None:
    answers = _learn_largest(supernet, largest, inputs, labels)
    for genome in others:
        torch.autograd.backward(functional.cross_entropy(supernet(inputs, genome), answers))


def _others(space: SearchSpace, number: int, rng: np.random.Generator) -> GenomeArray:
    """The smallest network and ``number`` random ones, uniform over the genes: int64[1 + number, G]."""
    choices = [len(gene.choices) for gene in space.genes]
    return np.vstack([smallest_genome(space)[None], rng.integers(0, choices, (number, len(choices)))])


def optimise(
    network: nn.Module, step: int, until: float, done: Callable[[int], float], options: TrainingOptions, learn: Callable[[int], None]
) -> int:
    """AdamW from step number ``step`` until the share ``until`` of the training is done; returns the next step's number.

    ``learn(step)`` adds up the gradients. The learning rate rises over the first twentieth of the whole training, from a
    tenth, and then falls as a cosine to zero.
    """
    weights = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.ndim > 1]},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    network.train()
    while (share := done(step)) < until:
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * min(1.0, 0.1 + share / 0.05) * (1 + math.cos(math.pi * share)) / 2
        optimiser.zero_grad()
        learn(step)
        nn.utils.clip_grad_norm_(weights, options.clip)
        optimiser.step()
        step += 1
    return step


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Random weights made inside follow ``seed``, and torch's global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def silent(done: float, text: str) -> None:
    """The progress report of a caller that watches nothing."""
    del done, text
