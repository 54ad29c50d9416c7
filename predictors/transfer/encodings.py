"""Encodings of genomes as vectors of numbers, by name: what transfer methods compare networks by.

Devices differ in what they compute of a cell's edges that lead nowhere. In HW-NAS-Bench's measurements of NAS-Bench-201, networks ran as
they were written, and such edges cost time; on phones and compiled for accelerators (LatBench), they are dropped. Hence the encodings
of whole genomes beside those of live operations, which are the same for spaces without such edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError, GenomeError, UnknownNameError
from layerclock.interfaces import HasLiveOperations, SearchSpace
from layerclock.predictors.encoding import masked_one_hot
from layerclock.predictors.transfer.cells import CellSpace, path_features
from layerclock.predictors.transfer.chains import chain_features
from layerclock.predictors.transfer.layer_sizes import layer_sizes
from layerclock.space import GenomeArray, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ENCODINGS", "Encoding", "GivenVectors", "encode"]

FloatArray = npt.NDArray[np.float64]
# Features float64[N, F] of genomes int64[N, G]; F depends on the space alone. Raises GenomeError for genomes of another space.
Encoding = Callable[[SearchSpace, GenomeArray], FloatArray]


def _live(space: SearchSpace, genomes: GenomeArray) -> GenomeArray:
    return space.live_operations(genomes) if isinstance(space, HasLiveOperations) else genomes


def _one_hot(space: SearchSpace, genomes: GenomeArray) -> FloatArray:
    return masked_one_hot(SiteIndex.of(space), genomes)


def _counts(space: SearchSpace, genomes: GenomeArray) -> FloatArray:
    """How often each distinct layer occurs, then how often each operation of layers."""
    index = SiteIndex.of(space)
    by_layer = index.counts(genomes)
    operations = list(dict.fromkeys(layer.op for layer in index.vocabulary))
    is_of = np.array([[layer.op == operation for operation in operations] for layer in index.vocabulary], dtype=np.int64)
    return np.column_stack([by_layer, by_layer @ is_of]).astype(np.float64)


def _sizes(space: SearchSpace, genomes: GenomeArray) -> FloatArray:
    return layer_sizes(SiteIndex.of(space), genomes)


def _canonical_graph(space: SearchSpace, genomes: GenomeArray) -> FloatArray:
    if isinstance(space, CellSpace):
        return path_features(space, genomes)
    return chain_features(SiteIndex.of(space), genomes)


def _of_live_operations(encoding: Encoding) -> Encoding:
    return lambda space, genomes: encoding(space, _live(space, genomes))


ENCODINGS: dict[str, Encoding] = {
    # One column for each choice of each gene; a gene that changes nothing in its network is zero in all of its columns.
    "one-hot": _one_hot,
    "live-operations": _of_live_operations(_one_hot),
    # How often each distinct layer occurs, and each operation.
    "counts": _counts,
    "live-counts": _of_live_operations(_counts),
    # Logarithms of MACs, parameters, activations and bytes, and the depth: see layer_sizes.
    "sizes": _sizes,
    "live-sizes": _of_live_operations(_sizes),
    # Equal for networks that are one graph of operations: paths through a cell, or pairs of layers in a chain.
    "canonical-graph": _canonical_graph,
}


def encode(names: str | Sequence[str], space: SearchSpace, genomes: npt.ArrayLike) -> FloatArray:
    """Features float64[N, F] of genomes int64[N, G], by one of :data:`ENCODINGS`, or by several side by side.

    Raises :class:`UnknownNameError` for a name that is none, :class:`ArgumentError` without a name, and
    :class:`~layerclock.errors.GenomeError` for genomes of another space.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in ENCODINGS:
            raise UnknownNameError("encoding", name, ENCODINGS)
    if not wanted:
        raise ArgumentError("no encoding is named", f"encodings: {', '.join(ENCODINGS)}")
    checked = SiteIndex(space.genes, ()).check(genomes)
    return np.column_stack([ENCODINGS[name](space, checked) for name in wanted])


@dataclass(frozen=True, slots=True, eq=False)
class GivenVectors:
    """Vectors made elsewhere (proxies, learned embeddings) as an :data:`Encoding`.

    ``vectors`` float64[M, F] belong to ``genomes`` int64[M, G], in any order. Raises :class:`ArgumentError` where these do not fit
    together or a number is not finite.
    """

    genomes: GenomeArray
    vectors: FloatArray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.genomes.ndim != 2 or len(self.vectors) != len(self.genomes):
            raise ArgumentError(f"vectors {self.vectors.shape} for genomes {self.genomes.shape}", "give one row a network in each")
        if not np.isfinite(self.vectors).all():
            row, column = np.argwhere(~np.isfinite(self.vectors))[0]
            raise ArgumentError(f"vector {row} is {self.vectors[row, column]} in column {column}", "give finite numbers")

    def __call__(self, space: SearchSpace, genomes: GenomeArray) -> FloatArray:
        """The vectors of genomes int64[N, G]; genomes that differ in inactive genes only are one network.

        Raises :class:`GenomeError` for a network without a vector, or if one has two vectors that differ.
        """
        index = SiteIndex.of(space)
        row_of: dict[bytes, int] = {}
        for row, genome in enumerate(index.canonical(self.genomes)):
            known = row_of.setdefault(genome.tobytes(), row)
            if not np.array_equal(self.vectors[known], self.vectors[row]):
                raise GenomeError(f"genomes {known} and {row} are one network, and have different vectors", "leave one of them out")
        rows = [row_of.get(genome.tobytes(), -1) for genome in index.canonical(genomes)]
        if -1 in rows:
            missing = np.asarray(genomes)[rows.index(-1)].tolist()
            raise GenomeError(f"there is no vector for the genome {missing}, and for {rows.count(-1) - 1} more", "give every network one")
        return self.vectors[rows]
