"""Costs that took long to compute, kept in Parquet files: a row a pair of a loop nest and a design. Needs pyarrow.

A folder holds parts, each written whole by one process, so that many may add at once; when there are many parts they become one.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.atomic import make_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["CostCache", "Pair"]

# Hash of the design and key of the loop nest; then cycles and picojoules.
Pair = tuple[str, str]
_Cost = tuple[float, float]
_SCHEMA = pa.schema([("design", pa.string()), ("nest", pa.string()), ("cycles", pa.float64()), ("energy_pj", pa.float64())])
_MOST_PARTS = 32


class CostCache:
    """All pairs of a folder in memory. What does not fit a design is kept, too, with infinite costs.

    A part that cannot be read is passed over: its pairs are computed again. Raises :class:`~layerclock.errors.OutputError` if the
    folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Pair, _Cost] = {}
        parts = sorted(folder.glob("*.parquet"))
        for part in parts:
            try:
                table = pq.read_table(part, schema=_SCHEMA)
            except (OSError, pa.ArrowInvalid):
                continue
            columns = [table[name].to_pylist() for name in _SCHEMA.names]
            self._known.update(zip(zip(columns[0], columns[1], strict=True), zip(columns[2], columns[3], strict=True), strict=True))
        if len(parts) > _MOST_PARTS:
            self._write(self._known)
            for part in parts:
                part.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, pair: Pair) -> _Cost | None:
        """Cycles and picojoules of a pair, None if nobody has computed them."""
        return self._known.get(pair)

    def add(self, costs: Mapping[Pair, _Cost]) -> None:
        """Keep what was computed, in memory and in a part of its own."""
        fresh = {pair: cost for pair, cost in costs.items() if pair not in self._known}
        if fresh:
            self._known.update(fresh)
            self._write(fresh)

    def _write(self, costs: Mapping[Pair, _Cost]) -> None:
        rows = [(*pair, *cost) for pair, cost in costs.items()]
        table = pa.Table.from_arrays(
            [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), _SCHEMA, strict=True)], schema=_SCHEMA
        )
        make_folder(self._folder)
        write_atomically(self._folder / f"{uuid.uuid4().hex}.parquet", lambda draft: pq.write_table(table, str(draft)))
