"""Networks as graphs of operations, for any space.

A space whose genomes are cells (it has ``live_operations``, and its genes are called ``edge<from><to>``, as NAS-Bench-201's) gives
the cell's graph: each edge of the cell is a vertex, as in BRP-NAS (Dudziak et al. 2020, arXiv:2007.08668). Edges that lie on no
path from input to output are joined to nothing, but keep their operation: whether it takes time depends on who measured. A framework that
runs module by module computes it, an exported network no longer has it (counts of the chosen operations order HELP's GPU latencies with a
Spearman of 0.98, counts of the live ones with 0.89; for an embedded TPU behind a compiler it is the other way round, 0.87 and 0.98).

Any other space gives a chain of its sites, each with the layer that stands there, or "nothing": the layer's operation and its number among
the different layers that may stand at the site. Sites that offer the same choices so share their codes, though their shapes differ, and
twenty samples teach something of each choice; the vertex' place tells the shape. Sites that are the same in every network are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from layerclock.errors import SpaceError
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.interfaces import SearchSpace
    from layerclock.space import Gene, GenomeArray

__all__ = ["NOTHING", "GraphEncoder", "Graphs"]

NOTHING = 0
_EDGE = re.compile(r"edge(\d)(\d)")


@runtime_checkable
class _HasLiveOperations(Protocol):
    """A space of cells that tells which edges lie on a path from input to output."""

    def live_operations(self, genomes: npt.ArrayLike) -> GenomeArray:
        """``genomes`` with 0 on every edge that lies on no such path."""
        ...


@dataclass(frozen=True, slots=True)
class Graphs:
    """N networks of V vertices; the first vertex is the input, the last the output.

    ``adjacency`` float32[N, V, V] is 1 at ``[n, i, j]`` where ``j`` reads what ``i`` gives; ``codes`` int64[N, V] are the operations,
    :data:`NOTHING` where a vertex does nothing.
    """

    adjacency: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GraphEncoder:
    """Makes graphs of the networks of one space.

    ``places`` int64[V] tells which vertices, input and output among them, stand for different places in the network: all of a chain;
    those of a cell are told by what they are joined to. ``operations`` is the number of codes: nothing, the operations, input and output.
    """

    places: npt.NDArray[np.int64]
    operations: int
    _encode: Callable[[GenomeArray], Graphs]

    @classmethod
    def of(cls, space: SearchSpace) -> GraphEncoder:
        """The encoder of ``space``. Raises :class:`SpaceError` if all its networks are the same."""
        if isinstance(space, _HasLiveOperations) and all(_EDGE.fullmatch(gene.name) for gene in space.genes):
            return _cells(space.genes, space)
        return _chain(SiteIndex.of(space), space.name)

    def __call__(self, genomes: GenomeArray) -> Graphs:
        """Graphs of genomes int64[N, G]. Raises :class:`~layerclock.errors.GenomeError` for a foreign genome."""
        return self._encode(genomes)


def _cells(genes: tuple[Gene, ...], space: _HasLiveOperations) -> GraphEncoder:
    edges = [(int(match[1]), int(match[2])) for gene in genes if (match := _EDGE.fullmatch(gene.name))]
    last = max(end for _, end in edges)
    vertices = len(edges) + 2
    follows = np.zeros((vertices, vertices), dtype=np.bool_)
    follows[1:-1, 1:-1] = [[end == start for start, _ in edges] for _, end in edges]
    follows[0, 1:-1] = [start == 0 for start, _ in edges]
    follows[1:-1, -1] = [end == last for _, end in edges]
    choices = max(len(gene.choices) for gene in genes)

    def encode(genomes: GenomeArray) -> Graphs:
        codes = np.pad(genomes, ((0, 0), (1, 1)))
        codes[:, 0], codes[:, -1] = choices, choices + 1
        joined = np.pad(space.live_operations(genomes) != NOTHING, ((0, 0), (1, 1)), constant_values=True)
        adjacency = follows & joined[:, :, None] & joined[:, None, :]
        return Graphs(adjacency.astype(np.float32), codes)

    return GraphEncoder(np.array([0] + [1] * (vertices - 1), dtype=np.int64), choices + 2, encode)


def _chain(index: SiteIndex, name: str) -> GraphEncoder:
    ends = np.append(index.offsets[1:], len(index.option_layer))
    options = [index.option_layer[start:end] for start, end in zip(index.offsets, ends, strict=True)]
    telling = [column for column, own in enumerate(options) if len(set(own.tolist())) > 1]
    if not telling:
        raise SpaceError(f"all networks of the space {name!r} are the same", "a predictor needs networks that differ")
    numbers: dict[tuple[str, int], int] = {}
    code_of = [_codes(options[column], index, numbers) for column in telling]
    vertices, operations = len(telling) + 2, len(numbers) + 3
    path = np.eye(vertices, k=1, dtype=np.float32)

    def encode(genomes: GenomeArray) -> Graphs:
        chosen = index.options(index.check(genomes))[:, telling] - index.offsets[telling]
        codes = np.full((len(chosen), vertices), operations - 2, dtype=np.int64)
        codes[:, -1] = operations - 1
        for place, code in enumerate(code_of):
            codes[:, 1 + place] = code[chosen[:, place]]
        return Graphs(np.repeat(path[None], len(codes), axis=0), codes)

    return GraphEncoder(np.arange(vertices), operations, encode)


def _codes(layers: npt.NDArray[np.int64], index: SiteIndex, numbers: dict[tuple[str, int], int]) -> npt.NDArray[np.int64]:
    """The code of each option of a site, whose layers are ``layers``; ``numbers`` knows the codes so far, and is added to."""
    different = [int(layer) for layer in dict.fromkeys(layers.tolist()) if layer >= 0]
    # What the first of them is tells sites of one sort from others.
    sort = index.vocabulary[different[0]].op
    code = {layer: numbers.setdefault((sort, number), len(numbers) + 1) for number, layer in enumerate(different)}
    return np.array([code.get(layer, NOTHING) for layer in layers.tolist()], dtype=np.int64)
