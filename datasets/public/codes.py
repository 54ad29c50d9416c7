"""Genomes of the architectures that published collections name: NAS-Bench-201's strings, and operation codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from layerclock.errors import GenomeError, TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["CELLS", "CELL_OPERATIONS", "FBNET_OPERATIONS", "FBNET_SPACE", "from_arch_strings", "from_operation_codes", "space_or"]

CELLS = "nas-bench-201"
# The FBNet networks that HW-NAS-Bench and HELP measured; the published numbers of parameters are those of this space.
FBNET_SPACE = "fbnet:layout=cifar,resolution=32,classes=100"

# As eagle's `eagle/models/nasbench201/utils.py` and HW-NAS-Bench's `hw_nas_bench_api.py` number them.
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
FBNET_OPERATIONS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")


class _Cells(Protocol):
    def from_arch_string(self, text: str) -> GenomeArray: ...


def space_or(given: str, usual: str, family: str) -> SearchSpace:
    """The space called ``given``, or ``usual`` where none is. Raises :class:`TableError` if it is none of ``family``'s."""
    space = load_space(given or usual)
    if space.name.partition(":")[0] != family:
        raise TableError(f"the files hold networks of {family}, not of {space.name}", f"such as --space {usual}")
    return space


def from_arch_strings(space: SearchSpace, texts: Sequence[str]) -> GenomeArray:
    """Genomes int64[N, 6] of NAS-Bench-201's architecture strings. Raises :class:`TableError` naming the first that is none."""
    cells = cast("_Cells", space)
    try:
        genomes = [cells.from_arch_string(text) for text in texts]
    except (GenomeError, TypeError) as error:
        raise TableError(f"not an architecture of {space.name}: {error}", "give the published file, or another --space") from error
    return np.array(genomes, dtype=np.int64).reshape(len(genomes), len(space.genes))


def from_operation_codes(space: SearchSpace, codes: object, operations: Sequence[str]) -> GenomeArray:
    """Genomes int64[N, G] of codes [N, G] that number ``operations``.

    Raises :class:`TableError` if there are not as many codes as genes, or one numbers nothing.
    """
    try:
        array = np.asarray(codes)
        if array.ndim != 2 or array.dtype.kind not in "iu" or (array < 0).any():
            raise ValueError(f"codes of shape {array.shape} and type {array.dtype}")
        choices = np.array([[gene.choices.index(name) for name in operations] for gene in space.genes])
        return SiteIndex(space.genes, ()).check(choices[np.arange(len(space.genes)), array])
    except (GenomeError, IndexError, TypeError, ValueError) as error:
        raise TableError(f"not operation codes of {space.name}: {error}", "give the published file, or another --space") from error
