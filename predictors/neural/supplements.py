"""Vectors that describe a network beside its graph: what NASFLAT calls supplementary encodings (arXiv:2403.02446)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["Supplement", "VectorTable", "exact_sizes"]

FloatArray = npt.NDArray[np.float64]
# Vectors float64[N, F] of genomes int64[N, G].
Supplement = Callable[["GenomeArray"], FloatArray]


def exact_sizes(space: SearchSpace) -> Supplement:
    """The logarithms of multiply-accumulates and of parameters, which follow from the space: float64[N, 2]."""
    index = SiteIndex.of(space)
    return lambda genomes: np.log1p(np.stack([index.macs(genomes), index.params(genomes)], axis=1).astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class VectorTable:
    """Vectors that were computed elsewhere, zero-cost proxies say: ``vectors`` float64[N, F] of ``genomes`` int64[N, G].

    Raises :class:`ArgumentError` unless there is one row a genome, and :class:`GenomeError` when asked for a genome that is not there.
    """

    genomes: GenomeArray
    vectors: FloatArray
    _row: dict[bytes, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.genomes):
            raise ArgumentError(f"{len(self.genomes)} networks with vectors {self.vectors.shape}", "one row a network, one column a number")
        object.__setattr__(self, "_row", {genome.tobytes(): row for row, genome in enumerate(np.asarray(self.genomes, dtype=np.int64))})

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        """float64[M, F] of genomes int64[M, G]."""
        rows = [self._row.get(genome.tobytes(), -1) for genome in np.asarray(genomes, dtype=np.int64)]
        if rows and min(rows) < 0:
            raise GenomeError(f"the table of vectors lacks the network {genomes[rows.index(-1)].tolist()}", "add a row for it")
        return self.vectors[np.array(rows, dtype=np.int64)]
