"""The task of the sequence super-network: rewriting digits by three rules, each of which needs something else.

The source is ``n`` independent, uniform digits ``x[0..n-1]``. The target is ``n`` digits ``y[0..n-1]`` with

    y[t] = x[n-1-t]                    for t = 0, 3, 6, ...   read backwards: attention by place,
    y[t] = x[x[t] mod n]               for t = 1, 4, 7, ...   a digit says which digit counts: attention by content,
    y[t] = (y[t-1] + y[t-2]) mod 10    for t = 2, 5, 8, ...   a sum: feed-forward capacity.

The vocabulary is the ten digits and a word that begins every target.
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
    target = source.flip(1)
    target[:, 1::3] = source.gather(1, source[:, 1::3] % source.shape[1])
    sums = target[:, 2::3]
    target[:, 2::3] = (target[:, 1:-1:3][:, : sums.shape[1]] + target[:, :-2:3]) % 10
    return target


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
