"""Cells as graphs: what a device computes of a cell does not depend on how its nodes are numbered, and neither do these features.

An edge that lies on no path from the input to the output is dropped, and an edge that passes its input on unchanged is folded into
its end. What is left is a graph of operations. Its features are how often each sequence of operations stands on a path from the input
to the output, and how many edges carry each operation: paths alone cannot tell an operation that two paths share from two operations.

Cells with the same graph of operations have the same features. The reverse nearly holds: NAS-Bench-201's 15,625 cells have 5,425 such
graphs and 5,116 different vectors. (Dong & Yang count 6,466 classes, by strings that tell how many edges are empty, but not whether
two paths share an operation.)
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from layerclock.space import Gene, GenomeArray

__all__ = ["NOTHING", "PASSES_ON", "CellSpace", "path_features"]

NOTHING, PASSES_ON = "none", "skip_connect"


@runtime_checkable
class CellSpace(Protocol):
    """A space of cells whose every gene is the operation of one edge; of these, :data:`NOTHING` and :data:`PASSES_ON` have their names."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """One gene an edge; all have the same choices."""
        ...

    @property
    def cell_edges(self) -> tuple[tuple[int, int], ...]:
        """The nodes that each gene's edge joins: from a node to a later one, sorted by the later. 0 is the input, the last the output."""
        ...

    def live_operations(self, genomes: npt.ArrayLike) -> GenomeArray:
        """``genomes`` with :data:`NOTHING` on every edge that lies on no path from the input to the output."""
        ...


def path_features(space: CellSpace, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Features float64[N, F] of genomes int64[N, G]: counts of paths by their sequence of operations, then of edges by their operation.

    Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
    """
    live, edges = space.live_operations(genomes), space.cell_edges
    choices = space.genes[0].choices
    operations = [code for code, choice in enumerate(choices) if choice not in (NOTHING, PASSES_ON)]
    longest = max(end for _, end in edges)
    sequences = [sequence for length in range(longest + 1) for sequence in product(operations, repeat=length)]
    number = {sequence: column for column, sequence in enumerate(sequences)}
    # Where the paths go that have come so far without the longest sequences: no path of a cell goes on from these.
    shorter = np.array([column for column, one in enumerate(sequences) if len(one) < longest])
    appended = {code: np.array([number[*sequences[column], code] for column in shorter]) for code in operations}
    paths = {node: np.zeros((len(live), len(sequences))) for node in range(longest + 1)}
    paths[0][:, number[()]] = 1.0
    for column, (start, end) in enumerate(edges):
        paths[end] += paths[start] * (live[:, column] == choices.index(PASSES_ON))[:, None]
        for code in operations:
            chosen = np.flatnonzero(live[:, column] == code)
            paths[end][np.ix_(chosen, appended[code])] += paths[start][np.ix_(chosen, shorter)]
    carried = np.stack([(live == code).sum(axis=1) for code in operations], axis=1)
    return np.column_stack([paths[longest], carried]).astype(np.float64)
