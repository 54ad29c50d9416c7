"""Tidy copies of published latencies: a Parquet file with a row a network and a column of milliseconds a device.

What a network is stands in one column: ``arch_str``, a string of NAS-Bench-201; ``arch``, FBNet's 22 operation codes; or ``genome``,
positions of choices in the space that is named. All other columns of floating-point numbers are devices; null and NaN are unmeasured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.datasets.public.codes import CELLS, FBNET_OPERATIONS, FBNET_SPACE, from_arch_strings, from_operation_codes, space_or
from layerclock.datasets.public.help_folder import gpu_settings
from layerclock.datasets.public.latencies import PublicLatencies
from layerclock.errors import TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.space import GenomeArray

__all__ = ["read_columns", "read_wide_parquet"]


def read_wide_parquet(path: Path, space: str = "") -> PublicLatencies:
    """The networks and devices of one file; ``space`` is needed for a column ``genome``.

    Raises :class:`TableError` if the file cannot be read or lacks such columns.
    """
    table = read_columns(path)
    reader = next((_NETWORKS[name] for name in _NETWORKS if name in table.column_names), None)
    devices = tuple(field.name for field in table.schema if pa.types.is_floating(field.type))
    if reader is None or not devices:
        raise TableError(
            f"{path} has no column that tells the networks, or none of latencies",
            f"a column {', '.join(_NETWORKS)}, and columns of floating-point milliseconds",
        )
    name, genomes = reader(table, space)
    latency_ms = np.stack([table[device].to_numpy().astype(np.float64) for device in devices], axis=1)
    return PublicLatencies(name, genomes, latency_ms, devices, path.name, "unspecified", gpu_settings(devices))


def read_columns(path: Path) -> pa.Table:
    """A Parquet file. Raises :class:`TableError` if it cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"cannot read {path}: {str(error).splitlines()[0]}", "it may be truncated: copy it again") from error


def _cells(table: pa.Table, space: str) -> tuple[str, GenomeArray]:
    known = space_or(space, CELLS, CELLS)
    return known.name, from_arch_strings(known, table["arch_str"].to_pylist())


def _fbnet(table: pa.Table, space: str) -> tuple[str, GenomeArray]:
    known = space_or(space, FBNET_SPACE, "fbnet")
    return known.name, from_operation_codes(known, _rows(table["arch"]), FBNET_OPERATIONS)


def _genomes(table: pa.Table, space: str) -> tuple[str, GenomeArray]:
    if not space:
        raise TableError("a column of genomes tells no space", "name it with --space")
    known = load_space(space)
    return known.name, SiteIndex(known.genes, ()).check(_rows(table["genome"]))


def _rows(column: pa.ChunkedArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    try:
        return np.array(column.to_pylist(), dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise TableError(
            f"the networks' codes are no whole numbers, equally many in each row: {error}", "give the published file"
        ) from error


_NETWORKS: dict[str, Callable[[pa.Table, str], tuple[str, GenomeArray]]] = {"arch_str": _cells, "arch": _fbnet, "genome": _genomes}
