from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from layerclock.datasets.schema import SCHEMA
from layerclock.errors import TableError, TargetMismatchError
from layerclock.predictors.evaluate import evaluate
from layerclock.predictors.fitting import fit

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.predictors.portable import OnnxPredictor


@pytest.fixture(scope="module")
def predictor(fake_table: LatencyTable) -> OnnxPredictor:
    return fit(fake_table)


def test_every_figure_is_what_its_name_says(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    """Against a table whose held-out times are the predictions, moved by known shares."""
    width = predictor.card.interval_half_width
    assert 1e-5 < width < 0.04
    shares = np.array([0.0, 0.0, width / 2, -0.04, 0.06, -0.08, 0.2, -width / 2])
    genomes = fake_table.networks("holdout").genomes.tolist()
    predicted_us = predictor.predict(np.array(genomes)).latency_ms * 1e3
    truth_us = dict(zip(map(tuple, genomes), predicted_us / (1 + shares), strict=True))
    rows = fake_table.rows.to_pylist()
    for row in rows:
        if row["role"] == "holdout":
            row.update(latency_us=truth_us[tuple(row["genome"])], noise_floor=0.003)
    evaluation = evaluate(predictor, replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA)))
    assert evaluation.networks == 8
    assert evaluation.mean_error == pytest.approx(np.abs(shares).mean(), abs=1e-6)
    assert evaluation.largest_error == pytest.approx(0.2, abs=1e-6)
    assert evaluation.within_5_percent == 5 / 8
    assert evaluation.within_10_percent == 7 / 8
    assert evaluation.noise_floor == pytest.approx(0.003)
    assert evaluation.interval_level == 0.9
    # What nobody told is not known, and no average of nothing.
    untold = [row | {"noise_floor": None} for row in rows]
    assert np.isnan(evaluate(predictor, replace(fake_table, rows=pa.Table.from_pylist(untold, schema=SCHEMA))).noise_floor)
    assert evaluation.interval_coverage == 4 / 8
    ranks = np.argsort(np.argsort(predicted_us)), np.argsort(np.argsort(predicted_us / (1 + shares)))
    assert evaluation.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert set(evaluation.to_dict()) >= {"mean_error", "kendall"}


def test_a_table_of_another_target_is_refused_and_says_what_differs(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    other = replace(fake_table.target, threads=8)
    position = fake_table.rows.schema.get_field_index("target_id")
    ids = pa.array([other.id] * len(fake_table), pa.string())
    table = replace(fake_table, rows=fake_table.rows.set_column(position, SCHEMA.field(position), ids), targets={other.id: other})
    with pytest.raises(TargetMismatchError, match="the predictor and the table: the targets differ in threads: 1 against 8"):
        evaluate(predictor, table)


def test_a_table_of_another_space_is_refused(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    with pytest.raises(TableError, match=r"the predictor is for the space 'digits-mobilenetv3.*the table for 'another'"):
        evaluate(predictor, replace(fake_table, space="another", space_digest="4567"))


def test_too_few_networks_to_judge_by_are_refused(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    without = replace(fake_table, rows=fake_table.rows.filter(pc.not_equal(fake_table.rows["role"], "holdout")))
    with pytest.raises(TableError, match="the table has 0 holdout networks"):
        evaluate(predictor, without)
    assert evaluate(predictor, without, "profiled").networks == 14
