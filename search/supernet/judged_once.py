"""What evaluators of super-networks share: a network is judged once, however often a search asks."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["JudgedOnce"]


class JudgedOnce:
    """The numbers that ``judge`` finds for canonical networks of ``space``, up to ``together`` of them at a time.

    Several threads may ask; each judges the networks that are new to it.
    """

    def __init__(self, space: SearchSpace, judge: Callable[[Sequence[GenomeArray]], Sequence[float]], together: int = 1) -> None:
        self._index = SiteIndex.of(space)
        self._judge = judge
        self._together = together
        self._known: dict[bytes, float] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        """Number of distinct networks that were judged."""
        return len(self._known)

    def __call__(self, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """float64[N] of the networks int64[N, G]; raises :class:`~layerclock.errors.GenomeError` for those of another space."""
        canonical = self._index.canonical(genomes)
        new = list({genome.tobytes(): genome for genome in canonical if genome.tobytes() not in self._known}.values())
        for start in range(0, len(new), self._together):
            chosen = new[start : start + self._together]
            found = self._judge(chosen)
            with self._lock:
                self._known |= {genome.tobytes(): float(number) for genome, number in zip(chosen, found, strict=True)}
        return np.array([self._known[genome.tobytes()] for genome in canonical], dtype=np.float64)
