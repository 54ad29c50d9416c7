"""Files of every released format are read, and mean what they meant.

These files never change. If a test here fails, the reader broke: people have tables and predictors of that format.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from layerclock.datasets.kernels import kernel_of
from layerclock.datasets.schema import COLUMNS, SCHEMA, SCHEMA_VERSION
from layerclock.datasets.table import read_table
from layerclock.predictors.portable import load
from layerclock.predictors.portable_kernels import load_kernelwise

HERE = Path(__file__).parent


def _as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def test_a_table_of_schema_1_is_read_as_it_was_written() -> None:
    expected = json.loads((HERE / "table-schema-1.json").read_text())
    table = read_table(HERE / "table-schema-1.parquet")
    # Columns that a later schema adds are none of the old file's business.
    assert [{name: row[name] for name in expected["rows"][0]} for row in _as_json(table.rows.to_pylist())] == expected["rows"]
    assert [_as_json(asdict(target)) for target in table.targets.values()] == expected["targets"]
    assert (table.space, table.space_digest) == (expected["space"], expected["space_digest"])
    assert _as_json(asdict(table.provenance)) == expected["provenance"]
    for name in ("additivity", "interference", "coverage", "ceilings"):
        assert dict(getattr(table, name)) == expected[name]
    assert table.content_hash == expected["content_hash"]
    assert [row["status"] for row in expected["rows"]].count("failed") == 1
    assert len(table.networks("holdout")) == 1


def test_a_predictor_of_format_1_answers_as_it_did() -> None:
    expected = json.loads((HERE / "predictor-format-1.json").read_text())
    predictor = load(HERE / "predictor-format-1.onnx")
    assert _as_json(json.loads(predictor.card.to_json())) == expected["card"]
    predictions = predictor.predict(expected["genomes"])
    for name in ("latency_ms", "lower_ms", "upper_ms", "coverage"):
        assert getattr(predictions, name).tolist() == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_kernelwise_predictor_of_every_format_answers_as_it_did(version: int) -> None:
    expected = json.loads((HERE / f"kernelwise-format-{version}.json").read_text())
    predictor = load_kernelwise(HERE / f"kernelwise-format-{version}.onnx")
    assert predictor.card.format == version
    assert _as_json(json.loads(predictor.card.to_json())) == expected["card"]
    prediction = predictor.predict([kernel_of(row) for row in expected["kernels"]])
    assert prediction.kernel_us.tolist() == pytest.approx(expected["kernel_us"], rel=1e-5)
    for name in ("latency_ms", "lower_ms", "upper_ms", "coverage"):
        assert getattr(prediction, name) == pytest.approx(expected[name], rel=1e-5), name


def test_the_page_of_formats_has_every_column_as_the_schema_has_it() -> None:
    page = (HERE.parents[1] / "docs" / "formats.md").read_text()
    for name, kind, meaning in COLUMNS:
        assert f"| `{name}` | {str(kind).replace('item: ', '')} | {meaning} |" in page, name
    assert f"| {SCHEMA_VERSION} | " in page, "a new schema needs its line in the history"
    for version in range(1, SCHEMA_VERSION + 1):
        assert (HERE / f"table-schema-{version}.parquet").exists()


def test_the_golden_table_has_the_columns_that_its_schema_promised() -> None:
    """A promise: no column of schema 1 is ever renamed, retyped or gone."""
    promised = pq.read_schema(HERE / "table-schema-1.parquet")
    for field in promised:
        assert SCHEMA.field(field.name).type == field.type, field.name
