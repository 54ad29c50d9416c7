"""An evaluator: what the search maximises. A real one would measure accuracy; this one calls large networks good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.space import SiteIndex
from layerclock_example.space import plain

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SizeEvaluator", "size"]


class SizeEvaluator:
    """Logarithm of a network's parameters."""

    metric = "size_log10"

    def __init__(self, channels: int) -> None:
        self.space = plain(channels)

    def evaluate(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """One number a genome, larger is better."""
        return np.log10(SiteIndex.of(self.space).params(genomes))


def size(channels: int = 4) -> SizeEvaluator:
    """The evaluator for ``example-plain`` with so many channels."""
    return SizeEvaluator(channels)
