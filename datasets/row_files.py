"""Reading back the CSV and JSONL files that :mod:`layerclock.datasets.exports` writes, exactly: the content hash is held against them.

Neither format has a footer or NaN: both stand in a file beside the rows, ``<file>.footer.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from layerclock.datasets.schema import SCHEMA
from layerclock.datasets.table import LatencyTable, table_of
from layerclock.errors import TableError

__all__ = ["footer_file", "footer_text", "read_rows"]


def footer_file(path: Path | str) -> Path:
    """Where the footer of a file of rows stands."""
    return Path(f"{path}.footer.json")


def footer_text(table: LatencyTable) -> str:
    """The footer as JSON, with the numbers that rows as text cannot hold: column to pairs of row and value."""
    not_finite = {
        name: [
            [number, str(value)] for number, value in enumerate(column.to_pylist()) if value is not None and not abs(value) < float("inf")
        ]
        for name, column in zip(table.rows.column_names, table.rows.columns, strict=True)
        if pa.types.is_floating(column.type)
    }
    return json.dumps({**table.footer(), "not_finite": {name: pairs for name, pairs in not_finite.items() if pairs}}, indent=1) + "\n"


def read_rows(path: Path | str) -> LatencyTable:
    """The table that was exported as CSV or JSONL, exactly.

    Raises :class:`TableError` if one of the two files is absent or damaged, or was changed.
    """
    file = Path(path)
    try:
        footer = json.loads(footer_file(file).read_text(encoding="utf-8"))
        columns = _from_jsonl(file) if _is_jsonl(file) else _from_csv(file)
        for name, pairs in footer.pop("not_finite").items():
            values = columns[name].to_pylist()
            for number, text in pairs:
                values[number] = float(text)
            columns[name] = pa.array(values, SCHEMA.field(name).type)
        rows = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    except OSError as error:
        raise TableError(
            f"cannot read {error.filename or file}: {error.strerror or error}", "the footer belongs beside the rows"
        ) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, pa.ArrowException) as error:
        first = (str(error).splitlines() or ["?"])[0]
        raise TableError(f"{file}, or its footer, is no table that layerclock exported: {first}", "export it again") from error
    return table_of(rows, footer, str(file))


def _is_jsonl(file: Path) -> bool:
    """By its first letter, for its name may end in anything: JSONL begins with an object, or is empty; CSV with the columns' names."""
    with file.open("rb") as content:
        return content.read(1) in (b"{", b"")


def _from_csv(file: Path) -> dict[str, Any]:
    lists = {field.name for field in SCHEMA if pa.types.is_list(field.type)}
    types = {field.name: pa.string() if field.name in lists else field.type for field in SCHEMA}
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    rows = csv.read_csv(file, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=options)
    columns: dict[str, Any] = dict(zip(rows.column_names, rows.columns, strict=True))
    for name in lists:
        values = [None if text is None else json.loads(text) for text in columns[name].to_pylist()]
        columns[name] = pa.array(values, SCHEMA.field(name).type)
    return columns


def _from_jsonl(file: Path) -> dict[str, Any]:
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {field.name: pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA}
