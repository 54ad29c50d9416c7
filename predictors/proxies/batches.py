"""One batch of random inputs, and a network with random weights to put it through. Needs torch."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["Batch", "built", "loss_of", "random_batch", "seeded"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The inputs of one run, each with ``size`` as its first length, and a random number in [0, 1) for each label: float32[size]."""

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(self.labels)

    @property
    def continuous(self) -> bool:
        """Whether all inputs are real numbers, in which one can go a small step."""
        return all(one.is_floating_point() for one in self.inputs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's random numbers follow from ``seed``; after it, the caller's go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def random_batch(space: SearchSpace, size: int, seed: int) -> Batch:
    """Normal numbers for the space's inputs, or zeros and ones where they are positions in a vocabulary.

    Raises :class:`ArgumentError` for fewer than two examples: networks are normalised over them.
    """
    if size < 2:
        raise ArgumentError(f"a batch of {size} cannot be normalised over its examples", "use two or more")
    with seeded(seed):
        inputs = []
        for spec in space.inputs:
            shape, dtype = (size, *spec.shape[1:]), getattr(torch, spec.dtype)
            inputs.append(torch.randn(shape, dtype=dtype) if dtype.is_floating_point else torch.randint(0, 2, shape, dtype=dtype))
        return Batch(tuple(inputs), torch.rand(size))


def built(space: SearchSpace, genome: GenomeArray, seed: int) -> nn.Module:
    """The network of one canonical genome int64[G], in training mode; its weights follow from ``seed`` and the genome."""
    with seeded(zlib.crc32(genome.tobytes(), seed)):
        return space.build(genome).train()


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the network's outputs float32[size, ..., classes] with labels drawn evenly from the classes."""
    outputs: torch.Tensor = network(*batch.inputs)
    scores = outputs.reshape(-1, outputs.shape[-1])
    labels = (batch.labels * outputs.shape[-1]).long().repeat_interleave(len(scores) // batch.size)
    return nn.functional.cross_entropy(scores, labels)
