"""Training a super-network of image classifiers by the sandwich rule, and a single one for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from layerclock.errors import ArgumentError
from layerclock.search.networks.mobilenetv3 import InvertedBottleneck
from layerclock.search.supernet.image_data import channels_last
from layerclock.search.supernet.sandwich import Progress, TrainingOptions, by_steps, optimise, seeded, silent, train_elastic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from layerclock.search.supernet.elastic_network import ElasticNetwork, ElasticSpace
    from layerclock.search.supernet.image_data import ImageData

__all__ = ["Progress", "TrainingOptions", "train_alone", "train_supernet"]


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
    with seeded(seed) as generator:
        supernet = space.super_network()
    _start_near_identity(supernet)
    train_elastic(
        supernet,
        space,
        _batches(data, chosen.batch, generator),
        steps=steps,
        budget_s=budget_s,
        seed=seed,
        options=chosen,
        progress=progress,
        after_warming=supernet.sort_channels,
    )
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
    with seeded(seed) as generator:
        network = space.build(genome)
    _start_near_identity(network)
    done = by_steps(steps)
    report = progress or silent
    batches = _batches(data, chosen.batch, generator)

    def learn(step: int) -> None:
        images, labels = next(batches)
        torch.autograd.backward(functional.cross_entropy(network(images), labels))
        report(done(step + 1), f"step {step + 1} of {steps}")

    optimise(network, 0, 1.0, done, chosen, learn)
    return network.eval()


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


def _check(space: ElasticSpace, data: ImageData) -> None:
    shape = data.train.shape
    if shape != space.inputs[0].shape[1:] or int(data.train.labels.max()) >= space.classes:
        raise ArgumentError(
            f"images of shape {shape} with {int(data.train.labels.max()) + 1} classes do not fit the space {space.name!r}",
            f"it takes images of shape {space.inputs[0].shape[1:]} and up to {space.classes} classes",
        )
