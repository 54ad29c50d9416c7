"""A super-network that is trained when it is first asked for: what is wrong elsewhere shows before that time is spent."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ToBeTrained", "trained"]

Space = TypeVar("Space")
Network = TypeVar("Network")


class ToBeTrained(Generic[Space, Network]):
    """The super-network of ``space`` that ``train(steps=...)`` makes, or ``train(budget_s=seconds)`` where ``steps`` is 0.

    Raises :class:`ArgumentError` unless one of them is positive.
    """

    def __init__(self, space: Space, train: Callable[..., Network], steps: int, seconds: float) -> None:
        if steps < 0 or (not steps and seconds <= 0):
            raise ArgumentError(f"steps={steps} and seconds={seconds} is no training", "give a positive one")
        self.space = space
        self._train = train
        self._length: dict[str, Any] = {"steps": steps} if steps else {"budget_s": seconds}
        self._lock = Lock()
        self._made: Network | None = None

    def network(self) -> Network:
        """The trained super-network: whichever thread asks first trains it, and the others wait."""
        with self._lock:
            if self._made is None:
                with torch.inference_mode(False), torch.enable_grad():  # who asks judges networks, without gradients
                    self._made = self._train(**self._length)
            return self._made


def trained(supernet: Network | ToBeTrained[Any, Network]) -> Network:
    """The super-network itself."""
    return supernet.network() if isinstance(supernet, ToBeTrained) else supernet
