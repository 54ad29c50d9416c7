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
from layerclock.search.supernet.digits import DigitsData, channels_last, distort
from layerclock.search.supernet.elastic import ElasticMobileNetV3, largest_genome, smallest_genome
from layerclock.search.supernet.mobilenetv3 import InvertedBottleneck, MobileNetV3

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.search.spaces.mobilenetv3 import MobileNetV3Space
    from layerclock.space import GenomeArray

__all__ = ["Progress", "TrainingOptions", "steps_within", "train_alone", "train_supernet"]

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
    space: MobileNetV3Space,
    data: DigitsData,
    *,
    steps: int = 0,
    budget_s: float = 0.0,
    seed: int = 0,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> ElasticMobileNetV3:
    """Train a super-network of ``space`` for ``steps`` optimiser steps, or for about ``budget_s`` seconds.

    With ``steps`` the result depends on the seed alone (on one machine and number of threads); a budget is turned into
    steps after timing a few of them, see :func:`steps_within`. ``progress(done, text)`` is called after each step with
    the share that is done. Raises :class:`ArgumentError` unless exactly one of ``steps`` and ``budget_s`` is positive.
    """
    chosen = options or TrainingOptions()
    _check(space, data)
    if (steps > 0) == (budget_s > 0) or steps < 0 or budget_s < 0:
        raise ArgumentError(f"steps={steps} and budget_s={budget_s}: a super-network is trained for one of them", "give a positive one")
    steps = steps or steps_within(budget_s, space, data, chosen)
    with _seeded(seed) as generator:
        supernet = ElasticMobileNetV3(space)
    _start_near_identity(supernet)
    rng = np.random.default_rng(seed)
    report = progress or _silent
    warm = round(steps * chosen.warm_share)
    batches = _batches(data, chosen.batch, generator)
    largest = largest_genome(space)

    def alone(step: int) -> None:
        _learn_largest(supernet, largest, *next(batches))
        report((step + 1) / steps, f"the largest network alone, step {step + 1} of {steps}")

    def sandwich(step: int) -> None:
        _learn_sandwich(supernet, largest, _others(space, chosen.random_networks, rng), *next(batches))
        report((step + 1) / steps, f"sandwich rule, step {step + 1} of {steps}")

    _optimise(supernet, range(warm), steps, chosen, alone)
    supernet.sort_channels()
    _optimise(supernet, range(warm, steps), steps, chosen, sandwich)
    return supernet.eval()


def train_alone(
    space: MobileNetV3Space,
    genome: npt.ArrayLike,
    data: DigitsData,
    *,
    steps: int,
    seed: int = 0,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> MobileNetV3:
    """Train one sub-network from scratch: what its inherited weights are compared with.

    Raises :class:`ArgumentError` unless ``steps >= 1``, and :class:`~layerclock.errors.GenomeError` for a foreign genome.
    """
    chosen = options or TrainingOptions()
    _check(space, data)
    if steps < 1:
        raise ArgumentError(f"steps={steps} is no training", "give at least 1")
    with _seeded(seed) as generator:
        network = MobileNetV3(space, genome)
    _start_near_identity(network)
    report = progress or _silent
    batches = _batches(data, chosen.batch, generator)

    def learn(step: int) -> None:
        images, labels = next(batches)
        torch.autograd.backward(functional.cross_entropy(network(images), labels))
        report((step + 1) / steps, f"step {step + 1} of {steps}")

    _optimise(network, range(steps), steps, chosen, learn)
    return network.eval()


def steps_within(budget_s: float, space: MobileNetV3Space, data: DigitsData, options: TrainingOptions) -> int:
    """Number of training steps, at least 10, that take about ``budget_s`` seconds on this machine as it is now.

    Times two steps of each phase on a super-network that is thrown away; this time is part of the budget.
    """
    begin = time.perf_counter()
    with _seeded(0) as generator:
        supernet = ElasticMobileNetV3(space)
    batches = _batches(data, options.batch, generator)
    largest, rng = largest_genome(space), np.random.default_rng(0)

    def timed(learn: Callable[[], object]) -> float:
        learn()  # the first run sets up memory and kernels
        start = time.perf_counter()
        for _ in range(2):
            learn()
        return (time.perf_counter() - start) / 2

    alone = timed(lambda: _learn_largest(supernet, largest, *next(batches)))
    sandwich = timed(lambda: _learn_sandwich(supernet, largest, _others(space, options.random_networks, rng), *next(batches)))
    left = budget_s - (time.perf_counter() - begin)
    return max(10, int(left / (options.warm_share * alone + (1 - options.warm_share) * sandwich)))


def _learn_largest(supernet: ElasticMobileNetV3, largest: GenomeArray, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gradients of the largest network by the labels are added up; returns its answers as probabilities."""
    logits: torch.Tensor = supernet(images, largest)
    torch.autograd.backward(functional.cross_entropy(logits, labels))
    return logits.detach().softmax(1)


def _learn_sandwich(
    supernet: ElasticMobileNetV3, largest: GenomeArray, others: GenomeArray, images: torch.Tensor, labels: torch.Tensor
) -> None:
    answers = _learn_largest(supernet, largest, images, labels)
    for genome in others:
        torch.autograd.backward(functional.cross_entropy(supernet(images, genome), answers))


def _others(space: MobileNetV3Space, number: int, rng: np.random.Generator) -> GenomeArray:
    """The smallest network and ``number`` random ones, uniform over the genes: int64[1 + number, G]."""
    choices = [len(gene.choices) for gene in space.genes]
    return np.vstack([smallest_genome(space)[None], rng.integers(0, choices, (number, len(choices)))])


def _optimise(network: nn.Module, run: range, steps: int, options: TrainingOptions, learn: Callable[[int], None]) -> None:
    """AdamW over the steps in ``run`` of a schedule of ``steps``; ``learn(step)`` adds up the gradients.

    The learning rate rises over the first twentieth and then falls as a cosine to zero.
    """
    weights = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.ndim > 1]},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    network.train()
    for step in run:
        done = (step + 0.5) / steps
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * min(1.0, done / 0.05) * (1 + math.cos(math.pi * done)) / 2
        optimiser.zero_grad()
        learn(step)
        nn.utils.clip_grad_norm_(weights, options.clip)
        optimiser.step()


def _start_near_identity(network: nn.Module) -> None:
    """Let residual blocks begin as the identity (Goyal et al., 2017, arXiv:1706.02677, section 5.1; BigNAS).

    A sub-network that leaves such a block out then begins with the same answers, which matters in so short a training.
    """
    for block in network.modules():
        if isinstance(block, InvertedBottleneck) and block.spec.residual and isinstance(block.project.norm, nn.BatchNorm2d):
            nn.init.zeros_(block.project.norm.weight)


def _batches(data: DigitsData, size: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of distorted training images with labels, each epoch in a new order."""
    train = data.train
    while True:
        order = torch.randperm(len(train), generator=generator)
        for rows in torch.split(order, size):
            if len(rows) == size or len(rows) == len(train):
                yield channels_last(distort(train.images[rows], data.distortion, generator)), train.labels[rows]


@contextmanager
def _seeded(seed: int) -> Iterator[torch.Generator]:
    """Random weights made inside follow ``seed``, and torch's global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def _check(space: MobileNetV3Space, data: DigitsData) -> None:
    shape = tuple(data.train.images.shape[1:])
    if shape != space.input.shape[1:] or int(data.train.labels.max()) >= space.classes:
        raise ArgumentError(
            f"images of shape {shape} with {int(data.train.labels.max()) + 1} classes do not fit the space {space.name!r}",
            f"it takes images of shape {space.input.shape[1:]} and up to {space.classes} classes",
        )


def _silent(done: float, text: str) -> None:
    del done, text
