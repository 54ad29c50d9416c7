"""Tables of one target made one.

Rows of one level, role and key are one row. Of several, the one stays that was measured better: one that did not fail before one that did;
then the one with more undisturbed samples; then the narrower interval; then the smaller latency. What the footer says of a sitting
(additivity, interference, ceilings) is that of the table with the most samples.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.errors import TableError
from layerclock.target import require_same_target
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["best_rows", "merge_tables"]

_IDENTITY = ("target_id", "level", "role", "key")


def merge_tables(tables: Sequence[LatencyTable]) -> LatencyTable:
    """One table of all; its parents are the tables' content hashes. A table that is given twice counts once.

    Raises :class:`~layerclock.errors.TargetMismatchError`, which says which fields differ, unless all have the same one target, and
    :class:`TableError` if they are of different spaces or none is given.
    """
    if not tables:
        raise TableError("there is no table to merge", "name at least one")
    distinct = list({table.content_hash: table for table in tables}.values())
    first = distinct[0]
    require_same_target(first.target, [table.target for table in distinct[1:]], "cannot merge")
    for table in distinct[1:]:
        if (table.space, table.space_digest) != (first.space, first.space_digest):
            one, other = (f"{own.space}@{own.space_digest}" for own in (first, table))
            raise TableError(f"cannot merge tables of the spaces {one} and {other}", "keep them apart, or publish them as a dataset")
    rows = best_rows(pa.concat_tables([table.rows for table in distinct]))
    fullest = max(distinct, key=lambda table: sum(number or 0 for number in table.rows["n_samples"].to_pylist()))
    parents = tuple(sorted(table.content_hash for table in distinct))
    licences = sorted({table.provenance.licence for table in distinct})
    started = [table.provenance.started_utc for table in distinct if table.provenance.started_utc]
    provenance = Provenance(
        f"layerclock {VERSION}", f"merged of {len(distinct)} tables", min(started, default=""),
        max(table.provenance.written_utc for table in distinct), " and ".join(licences), fullest.provenance.conditions, parents,
    )  # fmt: skip
    merged = replace(fullest, rows=rows, provenance=provenance)
    if not merged.coverage:
        return merged
    return replace(merged, coverage={**merged.coverage, "layers_measured": float(len(merged.layer_latencies_us()))})


def best_rows(rows: pa.Table) -> pa.Table:
    """Of the rows of one target, level, role and key the one that was measured best; ``rows`` themselves where each is there once."""
    if rows.group_by(list(_IDENTITY)).aggregate([]).num_rows == len(rows):
        return rows
    best: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in rows.to_pylist():
        identity = tuple(row[name] for name in _IDENTITY)
        if identity not in best or _merit(row) > _merit(best[identity]):
            best[identity] = row
    return pa.Table.from_pylist(list(best.values()), schema=SCHEMA)


def _merit(row: Mapping[str, Any]) -> tuple[float, ...]:
    latency, low, high = row["latency_us"], row["interval_low_us"], row["interval_high_us"]
    if latency is None:
        return (0.0, 0.0, 0.0, 0.0)
    width = (high - low) / latency if None not in (low, high) and latency > 0 else inf
    return (1.0, float(row["n_undisturbed"] or 0), -width, -latency)
