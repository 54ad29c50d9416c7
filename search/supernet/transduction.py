"""The task of the sequence super-network: rewriting digits by rules that need look-ups, order and arithmetic.

The source is ``n`` independent, uniform digits ``x[0..n-1]``. The target is ``n`` digits ``y[0..n-1]`` with

    y[t] = (x[x[n-1-t]] + y[t-1]) mod 10,   y[-1] = 0.

So the source is read backwards; every digit is the position of the digit that counts (positions beyond the source wrap
around); and the results are summed up modulo ten. The first two need attention over the whole source, the sum needs
feed-forward capacity. The vocabulary is the ten digits and a word that begins every target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BEGIN", "VOCABULARY", "Sequences", "endless_batches", "held_out", "rewrite", "rewritten"]

BEGIN = 10
VOCABULARY = 11
_HELD_OUT_SEED = 10_000_019


@dataclass(frozen=True, slots=True)
class Sequences:
    """``source`` int64[B, n], ``previous`` int64[B, n] (the target, one place later, after ``BEGIN``), ``target`` int64[B, n]."""

    source: torch.Tensor
    previous: torch.Tensor
    target: torch.Tensor


def rewrite(source: torch.Tensor) -> torch.Tensor:
    """The target int64[B, n] of source digits int64[B, n]."""
    meant = source.gather(1, source % source.shape[1])
    return meant.flip(1).cumsum(1) % 10


def rewritten(number: int, length: int, generator: torch.Generator) -> Sequences:
    """``number`` new sequences of ``length`` digits."""
    source = torch.randint(0, 10, (number, length), generator=generator)
    target = rewrite(source)
    return Sequences(source, torch.cat([torch.full((number, 1), BEGIN), target[:, :-1]], 1), target)


def held_out(number: int, length: int) -> Sequences:
    """The sequences on which networks are compared: the same in every call."""
    return rewritten(number, length, torch.Generator().manual_seed(_HELD_OUT_SEED))


def endless_batches(size: int, length: int, generator: torch.Generator) -> Iterator[tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """New sequences without end: source and previous words, and the target."""
    while True:
        batch = rewritten(size, length, generator)
        yield (batch.source, batch.previous), batch.target
