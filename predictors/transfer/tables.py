"""Latency tables as the sources of a transfer: what others published, or other devices' campaigns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.datasets.schema import ROLES
from layerclock.errors import TableError, TargetMismatchError
from layerclock.predictors.transfer.problem import Sources
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["sources_of"]

FloatArray = npt.NDArray[np.float64]


def sources_of(tables: Sequence[LatencyTable], space: SearchSpace) -> Sources:
    """The measured networks of ``tables``, profiled and held out, each table's one target a column.

    Genomes are canonical, but keep edges that lead nowhere: devices that run a network as it is written spend time on them. A network that
    occurs several times in a table has the median of its latencies. A device is called by its name; where two share it, by the target's id.
    Raises :class:`TableError` if there is no table, one is of another space or has no networks, and :class:`TargetMismatchError` if one
    holds several targets or two have the same.
    """
    if not tables:
        raise TableError("there is no table to transfer from", "give at least one table of another device")
    index = SiteIndex.of(space)
    for table in tables:
        if (table.space, table.space_digest) != (space.name, index.digest):
            raise TableError(f"the table of {table.target.device} is of the space {table.space!r}, not of {space.name!r}",
                             "give tables of one space, and that space")  # fmt: skip
    targets = [table.target for table in tables]
    identity, times = Counter(target.id for target in targets).most_common(1)[0]
    if times > 1:
        raise TargetMismatchError(f"{times} tables have the target {identity}", "give one table a target, or merge them first")
    measured = [_networks(table, index) for table in tables]
    genomes, network = np.unique(np.concatenate([found for found, _ in measured]), axis=0, return_inverse=True)
    latency_ms = np.full((len(genomes), len(tables)), np.nan)
    start = 0
    for column, (found, times_ms) in enumerate(measured):
        rows, medians = _medians(np.ravel(network)[start : start + len(found)], times_ms)
        latency_ms[rows, column] = medians
        start += len(found)
    named = Counter(target.device for target in targets)
    devices = tuple(target.device if named[target.device] == 1 else target.id for target in targets)
    return Sources(genomes, latency_ms, devices)


def _networks(table: LatencyTable, index: SiteIndex) -> tuple[GenomeArray, FloatArray]:
    """Canonical genomes int64[N, G], which may repeat, and latencies float64[N] in ms."""
    by_role = [table.networks(role) for role in ROLES]
    present = [networks for networks in by_role if len(networks)]
    if not present:
        raise TableError(f"the table of {table.target.device} has no measured networks", "give a table with network rows")
    genomes = index.canonical(np.concatenate([networks.genomes for networks in present]))
    return genomes, np.concatenate([networks.latency_ms for networks in present])


def _medians(networks: npt.NDArray[np.int64], latency_ms: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The networks that occur, each once, and the median of each one's latencies."""
    order = np.lexsort((latency_ms, networks))
    numbers, first, count = np.unique(networks[order], return_index=True, return_counts=True)
    ordered = latency_ms[order]
    return numbers, (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2
