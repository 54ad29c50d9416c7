"""Tables as an enemy would write them: edits of rows, columns and footer."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.datasets.json_rows import json_rows
from layerclock.datasets.schema import SCHEMA
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TABLE_EDITS", "on_table"]

Random = np.random.Generator
FOOTER = b"layerclock"


def on_table(edit: Callable[[pa.Table, Random], pa.Table]) -> Callable[[bytes, Random], bytes]:
    def mutate(content: bytes, rng: Random) -> bytes:
        file = io.BytesIO()
        pq.write_table(_signed(edit(pq.read_table(io.BytesIO(content)), rng)), file, compression="zstd")
        return file.getvalue()

    return mutate


def _signed(rows: pa.Table) -> pa.Table:
    """The same rows with the hash that belongs to them, as an enemy would write it; as they are, if they can have none."""
    try:
        footer = json.loads(rows.schema.metadata[FOOTER])
        if footer["content_hash"] in ("0" * 64, []) or len(rows) > 1000:
            return rows
        texts = sorted(Target.from_json(json.dumps(fields)).to_json() for fields in footer["targets"])
        columns = rows.select(SCHEMA.names).cast(SCHEMA)
        footer["content_hash"] = hashlib.sha256("".join([*texts, *json_rows(columns)]).encode()).hexdigest()
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError, pa.ArrowException):
        return rows
    return rows.replace_schema_metadata({FOOTER: json.dumps(footer)})


def _footer(edit: Callable[[dict[str, Any]], object]) -> Callable[[pa.Table, Random], pa.Table]:
    def mutate(rows: pa.Table, _: Random) -> pa.Table:
        footer = json.loads(rows.schema.metadata[FOOTER])
        changed = edit(footer)
        return rows.replace_schema_metadata({FOOTER: json.dumps(footer if changed is None else changed)})

    return mutate


def _raw_footer(text: str | bytes) -> Callable[[pa.Table, Random], pa.Table]:
    return lambda rows, _: rows.replace_schema_metadata({FOOTER: text})


def _column(name: str, make: Callable[[int, Random], pa.Array]) -> Callable[[pa.Table, Random], pa.Table]:
    return lambda rows, rng: rows.set_column(rows.schema.get_field_index(name), name, make(len(rows), rng))


def _set(where: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(footer: dict[str, Any]) -> None:
        *path, last = where.split(".")
        place: Any = footer
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value

    return edit


def _many_rows(rows: pa.Table, rng: Random) -> pa.Table:
    """Eight million equal rows of one key, which compress to nothing."""
    del rng
    number = 8_000_000
    null = {field.name: pa.nulls(number, field.type) for field in rows.schema if field.name != "energy_mj"}
    return (
        pa.table({**null, "energy_mj": pa.array(np.zeros(number))}).select(rows.column_names).replace_schema_metadata(rows.schema.metadata)
    )


def _long_text(rows: pa.Table, rng: Random) -> pa.Table:
    """A megabyte of text, written once and meant by a hundred thousand rows."""
    del rng
    number = 100_000
    repeated = rows.take(pa.array(np.zeros(number, dtype=np.int64)))
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, dtype=np.int32)), pa.array(["x" * 1_000_000]))
    return repeated.set_column(rows.schema.get_field_index("reason"), "reason", text)


TABLE_EDITS: dict[str, Callable[[pa.Table, Random], pa.Table]] = {
    "texts for numbers": _column("latency_us", lambda number, _: pa.array(["fast"] * number)),
    "numbers for texts": _column("key", lambda number, _: pa.array(range(number))),
    "numbers for lists": _column("in_shapes", lambda number, _: pa.array(range(number))),
    "NaN": _column("latency_us", lambda number, _: pa.array([float("nan")] * number)),
    "infinite": _column("latency_us", lambda number, _: pa.array([float("inf")] * number)),
    "huge shapes": _column("in_shapes", lambda number, _: pa.array([[[2**62, 2**62]]] * number)),
    "huge genomes": _column("genome", lambda number, _: pa.array([[2**63 - 1] * 1000] * number)),
    "bytes that are no text": _column("key", lambda number, _: pa.array([b"\xff\xfe"] * number)),
    "keys of a path": _column("key", lambda number, _: pa.array(["../../../etc/passwd"] * number)),
    "an unheard level": _column("level", lambda number, _: pa.array(["../x"] * number)),
    "negative times": _column("latency_us", lambda number, _: pa.array([-5.0] * number)),
    "attributes of no JSON": _column("attributes", lambda number, _: pa.array(["{"] * number)),
    "attributes of a list": _column("attributes", lambda number, _: pa.array(["[1]"] * number)),
    "attributes nested deep": _column("attributes", lambda number, _: pa.array(["[" * 50_000 + "]" * 50_000] * number)),
    "an unheard type": _column("dtype", lambda number, _: pa.array(["object"] * number)),
    "genomes of several lengths": _column("genome", lambda number, _: pa.array([[0] * (turn + 1) for turn in range(number)])),
    "negative samples": _column("n_samples", lambda number, _: pa.array([-(2**31)] * number)),
    "nulls everywhere": _column("level", lambda number, _: pa.nulls(number, pa.string())),
    "no column": lambda rows, rng: rows.drop_columns([rows.column_names[int(rng.integers(0, len(rows.column_names)))]]),
    "no rows": lambda rows, _: rows.slice(0, 0),
    "no footer": lambda rows, _: rows.replace_schema_metadata(None),
    "many equal rows": _many_rows,
    "a long text many times": _long_text,
    "a footer of no JSON": _raw_footer("{"),
    "a footer of no text": _raw_footer(b"\xff\xfe\x00"),
    "a footer nested deep": _raw_footer("[" * 100_000 + "]" * 100_000),
    "a footer with a huge number": _raw_footer('{"schema_version": 1' + "0" * 5000 + "}"),
    "a footer with infinity": _footer(_set("schema_version", float("inf"))),
    "a footer that is a list": _footer(lambda _: [1, 2]),
    "a newer schema": _footer(_set("schema_version", 99)),
    "an older schema": _footer(_set("schema_version", -1)),
    "targets of numbers": _footer(_set("targets", [1, 2])),
    "targets of nothing": _footer(_set("targets", None)),
    "options of the wrong form": _footer(_set("targets", [{"options": 5}])),
    "a target of lists": _footer(_set("targets.0.device", ["x"])),
    "provenance of text": _footer(_set("provenance", "x")),
    "parents of numbers": _footer(_set("provenance.parents", 5)),
    "parents of lists": _footer(_set("provenance.parents", [[1], {}])),
    "conditions of numbers": _footer(_set("provenance.conditions", 7)),
    "a space of lists": _footer(_set("space", ["x"])),
    "additivity of text": _footer(_set("additivity", "x")),
    "coverage of text": _footer(_set("coverage", {"layers_of_the_space": "many"})),
    "ceilings of lists": _footer(_set("ceilings", [1])),
    "ceilings of text": _footer(_set("ceilings", {"flops_per_s": "fast", "bytes_per_s": None})),
    "interference of nothing": _footer(_set("interference", None)),
    "another hash": _footer(_set("content_hash", "0" * 64)),
    "a hash of lists": _footer(_set("content_hash", [])),
}
