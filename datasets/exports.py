"""Latency tables in the formats of other tools: what ``layerclock table export`` offers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from layerclock.atomic import write_atomically
from layerclock.datasets.json_rows import json_rows
from layerclock.datasets.public.ofa_yaml import write_ofa_yaml
from layerclock.datasets.row_files import footer_file, footer_text
from layerclock.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable

__all__ = ["EXPORTS", "export_table", "write_csv", "write_jsonl"]


def export_table(table: LatencyTable, kind: str, path: Path | str) -> None:
    """Write ``table`` as ``kind``, one of :data:`EXPORTS`.

    Raises :class:`UnknownNameError` for another kind, :class:`~layerclock.errors.OutputError` if the file cannot be written, and what the
    format's own writer raises.
    """
    if kind not in EXPORTS:
        raise UnknownNameError("format", kind, EXPORTS)
    EXPORTS[kind](table, path)


def write_csv(table: LatencyTable, path: Path | str) -> None:
    """The rows as CSV, in the columns of the schema; lists stand in it as JSON, what is not known as nothing."""
    rows = _finite(table.rows)
    for position, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            texts = [None if value is None else json.dumps(value) for value in rows.column(position).to_pylist()]
            rows = rows.set_column(position, field.name, pa.array(texts, pa.string()))
    write_atomically(Path(path), lambda draft: csv.write_csv(rows, draft))
    _write_footer(table, path)


def write_jsonl(table: LatencyTable, path: Path | str) -> None:
    """A JSON object a row; what is not known is null."""
    text = "".join(f"{row}\n" for row in json_rows(_finite(table.rows)))
    write_atomically(Path(path), lambda draft: draft.write_text(text, encoding="utf-8"))
    _write_footer(table, path)


def _write_footer(table: LatencyTable, path: Path | str) -> None:
    """What the rows do not say, beside them: :func:`~layerclock.datasets.row_files.read_rows` makes the same table of both."""
    text = footer_text(table)
    write_atomically(footer_file(path), lambda draft: draft.write_text(text, encoding="utf-8"))


def _finite(rows: pa.Table) -> pa.Table:
    """The same rows with null for NaN, which neither format has."""
    for position, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            column = rows.column(position)
            rows = rows.set_column(position, field, pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type)))
    return rows


EXPORTS: dict[str, Callable[[LatencyTable, Path | str], None]] = {"csv": write_csv, "jsonl": write_jsonl, "ofa-yaml": write_ofa_yaml}
