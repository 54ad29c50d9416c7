"""Training a super-network, and a single network for comparison.

First the largest network alone, then sorted channels, then the sandwich rule with in-place distillation (Yu & Huang,
ICCV 2019, arXiv:1903.05134; Yu et al., BigNAS, ECCV 2020, arXiv:2003.11142): in every step the largest network learns
from the labels, and the smallest and a random one (or several) from the largest one's answers.
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
from layerclock.search.networks.mobilenetv3 import InvertedBottleneck
from layerclock.search.supernet.elastic import largest_genome, smallest_genome
from layerclock.search.supernet.image_data import channels_last

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.supernet.elastic_network import ElasticNetwork, ElasticSpace
    from layerclock.search.supernet.image_data import ImageData
    from layerclock.space import GenomeArray

__all__ = ["Progress", "TrainingOptions", "train_alone", "train_supernet"]

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


def train_supernet(
    space: ElasticSpace,
    data: ImageData,
    *,
    steps: int = 0,
    budget_s: float = 0.0,
    seed: int = 0,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> ElasticNetwork:
    """Train a super-network of ``space`` for ``steps`` optimiser steps, or for ``budget_s`` seconds.

    With ``steps`` the result depends on the seed alone (on one machine and number of threads). A budget is the wall clock's:
    the schedule follows the time that has passed, so that a machine which becomes busy takes fewer steps and not longer.
    ``progress(done, text)`` is called after each step with the share that is done.
    Raises :class:`ArgumentError` unless exactly one of ``steps`` and ``budget_s`` is positive and the data fit the space.
    """
    chosen = options or TrainingOptions()
    _check(space, data)
    if (steps > 0) == (budget_s > 0) or steps < 0 or budget_s < 0:
        raise ArgumentError(f"steps={steps} and budget_s={budget_s}: a super-network is trained for one of them", "give a positive one")
    with _seeded(seed) as generator:
        supernet = space.super_network()
    _start_near_identity(supernet)
    rng = np.random.default_rng(seed)
    done = _by_steps(steps) if steps else _by_clock(budget_s)
    report = progress or _silent
    batches = _batches(data, chosen.batch, generator)
    largest = largest_genome(space)

    def alone(step: int) -> None:
        _learn_largest(supernet, largest, *next(batches))
        report(done(step + 1), f"the largest network alone, step {step + 1}")

    def sandwich(step: int) -> None:
        _learn_sandwich(supernet, largest, _others(space, chosen.random_networks, rng), *next(batches))
        report(done(step + 1), f"sandwich rule, step {step + 1}")

    warm = _optimise(supernet, 0, chosen.warm_share, done, chosen, alone)
    supernet.sort_channels()
    _optimise(supernet, warm, 1.0, done, chosen, sandwich)
    return supernet.eval()


def train_alone(
    space: ElasticSpace,
    genome: npt.ArrayLike,
    data: ImageData,
    *,
    steps: int,
    seed: int = 0,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train one sub-network from scratch: what its inherited weights are compared with.

    Raises :class:`ArgumentError` unless ``steps >= 1``, and :class:`~layerclock.errors.GenomeError` for a foreign genome.
    """
    chosen = options or TrainingOptions()
    _check(space, data)
    if steps < 1:
        raise ArgumentError(f"steps={steps} is no training", "give at least 1")
    with _seeded(seed) as generator:
        network = space.build(genome)
    _start_near_identity(network)
    done = _by_steps(steps)
    report = progress or _silent
    batches = _batches(data, chosen.batch, generator)

    def learn(step: int) -> None:
        images, labels = next(batches)
        torch.autograd.backward(functional.cross_entropy(network(images), labels))
        report(done(step + 1), f"step {step + 1} of {steps}")

    _optimise(network, 0, 1.0, done, chosen, learn)
    return network.eval()


def _by_steps(steps: int) -> Callable[[int], float]:
    """Share of the training that is done before step number ``step``."""
    return lambda step: step / steps


def _by_clock(budget_s: float) -> Callable[[int], float]:
    begin = time.perf_counter()
    return lambda _: min(1.0, (time.perf_counter() - begin) / budget_s)


def _learn_largest(supernet: ElasticNetwork, largest: GenomeArray, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gradients of the largest network by the labels are added up; returns its answers as probabilities."""
    logits: torch.Tensor = supernet(images, largest)
    torch.autograd.backward(functional.cross_entropy(logits, labels))
    return logits.detach().softmax(1)


def _learn_sandwich(
    supernet: ElasticNetwork, largest: GenomeArray, others: GenomeArray, images: torch.Tensor, labels: torch.Tensor
) -> None:
    answers = _learn_largest(supernet, largest, images, labels)
    for genome in others:
        torch.autograd.backward(functional.cross_entropy(supernet(images, genome), answers))


def _others(space: ElasticSpace, number: int, rng: np.random.Generator) -> GenomeArray:
    """The smallest network and ``number`` random ones, uniform over the genes: int64[1 + number, G]."""
    choices = [len(gene.choices) for gene in space.genes]
    return np.vstack([smallest_genome(space)[None], rng.integers(0, choices, (number, len(choices)))])


def _optimise(
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


def _start_near_identity(network: nn.Module) -> None:
    """Let residual blocks begin as the identity (Goyal et al., 2017, arXiv:1706.02677, section 5.1; BigNAS).

    A sub-network that leaves such a block out then begins with the same answers, which matters in so short a training.
    """
    for block in network.modules():
        if isinstance(block, InvertedBottleneck) and block.spec.residual and isinstance(block.project.norm, nn.BatchNorm2d):
            nn.init.zeros_(block.project.norm.weight)


def _batches(data: ImageData, size: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of distorted training images with labels, each epoch in a new order."""
    train = data.train
    while True:
        order = torch.randperm(len(train), generator=generator)
        for rows in torch.split(order, size):
            if len(rows) == size or len(rows) == len(train):
                yield channels_last(data.distorted(rows, generator)), train.labels[rows]


@contextmanager
def _seeded(seed: int) -> Iterator[torch.Generator]:
    """Random weights made inside follow ``seed``, and torch's global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def _check(space: ElasticSpace, data: ImageData) -> None:
    shape = data.train.shape
    if shape != space.inputs[0].shape[1:] or int(data.train.labels.max()) >= space.classes:
        raise ArgumentError(
            f"images of shape {shape} with {int(data.train.labels.max()) + 1} classes do not fit the space {space.name!r}",
            f"it takes images of shape {space.inputs[0].shape[1:]} and up to {space.classes} classes",
        )


def _silent(done: float, text: str) -> None:
    del done, text
