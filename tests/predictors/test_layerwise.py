"""The layer-wise predictor is a sum of look-ups, whatever the file looks like inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from layerclock.datasets.schema import SCHEMA
from layerclock.errors import CoverageError, TableError, UnknownNameError
from layerclock.plugins import load_space
from layerclock.predictors.evaluate import evaluate
from layerclock.predictors.fitting import conformal_half_width, fit
from layerclock.predictors.layerwise import fit_terms
from layerclock.space import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import SiteIndex


@pytest.fixture(scope="module")
def predictor(fake_table: LatencyTable) -> OnnxPredictor:
    return fit(fake_table)


def test_it_is_a_loop_of_look_ups_over_the_sites(
    predictor: OnnxPredictor, fake_table: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex
) -> None:
    rows_us = fake_table.layer_latencies_us()
    overhead_ms, scale = predictor.card.parameters["overhead_ms"], predictor.card.parameters["scale"]
    genomes = np.random.default_rng(0).integers(0, tiny_index.cardinality, (200, len(tiny_index.genes)))
    expected = []
    for genome in genomes:
        chosen = {gene.name: value for gene, value in zip(tiny_space.genes, genome.tolist(), strict=True)}
        total_us = 0.0
        for site in tiny_space.sites:
            option = 0
            for gene in site.genes:
                option = option * len(gene.choices) + chosen[gene.name]
            layer = site.layers[option]
            total_us += rows_us[layer.key] if layer is not None else 0.0
        expected.append(overhead_ms + scale * total_us / 1e3)
    predictions = predictor.predict(genomes)
    assert predictions.latency_ms == pytest.approx(np.array(expected), rel=2e-6)
    assert predictions.coverage.tolist() == [1.0] * 200
    # Every genome of one network gets one answer.
    assert np.array_equal(predictor.predict(tiny_index.canonical(genomes)).latency_ms, predictions.latency_ms)


def test_it_recovers_what_the_fake_device_computes(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    # The fake device adds 20 us to the sum of its kernels.
    assert predictor.card.parameters == pytest.approx({"overhead_ms": 0.020, "scale": 1.0}, rel=0.15)
    evaluation = evaluate(predictor, fake_table)
    assert evaluation.networks == 8
    assert evaluation.mean_error < 0.003
    assert evaluation.largest_error < 0.006
    assert evaluation.spearman > 0.95


def _fitted_to_shorter(table: LatencyTable, share: float) -> tuple[dict[str, float], float]:
    """What is fitted where every network takes less than its layers by ``share`` of the smallest, and that share in ms."""
    position = SCHEMA.get_field_index("latency_us")
    rows = table.rows
    less_us = share * table.networks().latency_ms.min() * 1e3
    shorter = pc.if_else(pc.equal(rows["level"], "network"), pc.subtract(rows["latency_us"], less_us), rows["latency_us"])
    parameters = fit(replace(table, rows=rows.set_column(position, SCHEMA.field(position), shorter))).card.parameters
    return dict(parameters), less_us / 1e3


def test_large_networks_may_be_slower_than_their_layers_and_small_ones_faster(fake_table: LatencyTable) -> None:
    parameters, less_ms = _fitted_to_shorter(fake_table, 0.3)
    assert parameters == pytest.approx({"overhead_ms": 0.020 - less_ms, "scale": 1.0}, rel=0.15)


def test_an_overhead_below_zero_leaves_every_network_a_time(fake_table: LatencyTable) -> None:
    parameters, less_ms = _fitted_to_shorter(fake_table, 0.8)
    assert -0.65 * less_ms < parameters["overhead_ms"] < -0.5 * less_ms, "half of the smallest network's sum"
    assert 0.3 < parameters["scale"] < 1.0


def test_the_time_to_fetch_weights_is_told_where_networks_are_many_and_show_it() -> None:
    generator = np.random.default_rng(0)
    sums_ms, weights_mb = generator.uniform(1, 2, 60), generator.uniform(15, 26, 60)
    noise = 1 + 0.003 * generator.standard_normal(60)
    terms = fit_terms(sums_ms, weights_mb * 1e6 / 4, (1.05 * sums_ms + 0.01 * weights_mb - 0.2) * noise)
    assert terms.overhead_ms == pytest.approx(-0.2, abs=0.03)
    assert terms.scale == pytest.approx(1.05, abs=0.02)
    assert terms.fetch_ms_a_mb == pytest.approx(0.01, abs=0.001)
    # Of 29 networks it is not asked; where large networks are faster than their rows, it is no time to fetch.
    assert fit_terms(sums_ms[:29], weights_mb[:29] * 1e6 / 4, (1.05 * sums_ms + 0.01 * weights_mb - 0.2)[:29]).fetch_ms_a_mb == 0
    assert fit_terms(sums_ms, weights_mb * 1e6 / 4, (1.05 * sums_ms - 0.01 * weights_mb + 0.5) * noise).fetch_ms_a_mb == 0


def test_a_few_networks_on_a_busy_machine_are_fitted_all_the_same() -> None:
    # Times that go up and down by half where networks differ by a tenth: the scale is as often below zero as above.
    below_zero, weights = 0, np.full(14, 1e6)
    for seed in range(200):
        generator = np.random.default_rng(seed)
        sums_ms = generator.uniform(1, 1.1, 14)
        latency_ms = sums_ms * generator.uniform(1, 2, 14)
        below_zero += bool(np.polyfit(sums_ms, latency_ms, 1)[0] < 0)
        terms = fit_terms(sums_ms, weights, latency_ms)
        assert terms.scale > 0
        assert (terms.overhead_ms + terms.scale * sums_ms > 0).all()
    assert below_zero > 50
    # A scale that is seen is fitted, and one clearly below zero is told.
    sums_ms = np.linspace(1, 2, 14)
    assert fit_terms(sums_ms, weights, 0.1 + 1.1 * sums_ms).scale == pytest.approx(1.1)
    assert fit_terms(sums_ms, weights, 3 - sums_ms).scale < 0


def test_fetched_weights_are_part_of_each_layer(fake_table: LatencyTable, tiny_index: SiteIndex, tiny_space: SearchSpace) -> None:
    rows = fake_table.rows.to_pylist()
    networks = [row for row in rows if row["level"] == "network"]
    per_mb_us = 400.0
    for row in networks:
        counts = tiny_index.counts(np.array([row["genome"]]))[0]
        row["role"] = "profiled"
        row["latency_us"] += per_mb_us * float(counts @ [layer.params for layer in tiny_index.vocabulary]) * 4 / 1e6
    extra = [{**row, "role": "calibration", "key": f"{row['key']}x"} for row in networks[:12]]
    table = replace(fake_table, rows=pa.Table.from_pylist([*rows, *extra], schema=SCHEMA))
    predictor = fit(table, tiny_space)
    assert predictor.card.parameters["fetch_us_a_mb"] == pytest.approx(per_mb_us, rel=0.1)
    told = predictor.predict(table.networks().genomes).latency_ms
    assert told == pytest.approx(table.networks().latency_ms, rel=0.01)


def test_the_interval_is_calibrated_on_the_networks_of_the_fit(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    assert predictor.card.interval_half_width >= predictor.card.noise_floor
    assert predictor.card.noise_floor == pytest.approx(np.mean(fake_table.networks().noise_floor))
    # Conformal: at least the level, but for the chance of as few as 14 networks; and not simply wide.
    assert evaluate(predictor, fake_table, "profiled").interval_coverage >= 0.85
    assert predictor.card.interval_half_width < 0.01


def _with_calibration(table: LatencyTable, factors: Sequence[float] | npt.NDArray[np.float64]) -> LatencyTable:
    """All but the first ten networks for calibration, or held out where the factor of their times is NaN."""
    rows = table.rows.to_pylist()
    networks = [row for row in rows if row["level"] == "network"]
    for row, factor in zip(networks[10:], factors, strict=True):
        row["role"] = "holdout" if np.isnan(factor) else "calibration"
        row["latency_us"] *= np.nan_to_num(factor, nan=1.0)
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))


def test_networks_for_calibration_set_the_interval_of_an_endtoend_predictor_and_nothing_else(fake_table: LatencyTable) -> None:
    as_it_is, slower = (_with_calibration(fake_table, [factor] * 12) for factor in (1.0, 1.5))
    too_few = _with_calibration(fake_table, [1.5] * 2 + [np.nan] * 10)
    one, two, three = (fit(table, kind="endtoend:model=ridge") for table in (as_it_is, slower, too_few))
    genomes = as_it_is.networks("calibration").genomes
    assert np.array_equal(one.predict(genomes).latency_ms, two.predict(genomes).latency_ms)
    residuals = slower.networks("calibration").latency_ms / two.predict(genomes).latency_ms - 1
    assert two.card.interval_half_width == pytest.approx(float(np.sort(np.abs(residuals))[-1]), rel=1e-4)
    assert one.card.interval_half_width < 0.5 * two.card.interval_half_width
    assert three.card.interval_half_width < 0.5 * two.card.interval_half_width, "two say nothing: the profiled ones' residuals stand in"


def test_networks_for_calibration_take_part_in_a_layerwise_fit_and_are_left_out_one_by_one(fake_table: LatencyTable) -> None:
    factors = 1 + 0.1 * np.sin(np.arange(12))
    fitted = fit(_with_calibration(fake_table, factors))
    left_out = []
    for number in range(12):
        without = _with_calibration(fake_table, np.where(np.arange(12) == number, np.nan, factors))
        one = without.networks("holdout")
        left_out.append(float(one.latency_ms[0] * factors[number] / fit(without).predict(one.genomes).latency_ms[0] - 1))
    assert fitted.card.interval_half_width == pytest.approx(np.abs(left_out).max(), rel=1e-3)
    assert fitted.card.fitted_on_networks == 22
    alone = fit(_with_calibration(fake_table, [np.nan] * 12))
    assert fitted.card.parameters["scale"] != pytest.approx(alone.card.parameters["scale"], rel=1e-3)


def test_held_out_networks_are_never_looked_at(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    rows = fake_table.rows.to_pylist()
    for row in rows:
        if row["role"] == "holdout":
            row.update(latency_us=1.0, noise_floor=5.0)
    spoiled = replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))
    for kind in ("layerwise", "endtoend"):
        own, other = fit(fake_table, kind=kind).card, fit(spoiled, kind=kind).card
        assert replace(other, table_hash=own.table_hash) == own


def test_a_layer_that_nobody_measured_is_told_by_the_others_and_flagged(
    predictor: OnnxPredictor, fake_table: LatencyTable, tiny_index: SiteIndex
) -> None:
    missing = tiny_index.vocabulary[7].key
    without = replace(fake_table, rows=fake_table.rows.filter(pc.not_equal(fake_table.rows["key"], missing)))
    partial = fit(without)
    assert partial.card.parameters["missing_layers"] == 1
    assert 0 < partial.card.parameters["missing_error"] < 0.5
    genomes = sample(tiny_index, 200, np.random.default_rng(0))
    has = tiny_index.counts(genomes)[:, 7] > 0
    assert has.any()
    assert not has.all()
    told, whole = partial.predict(genomes), predictor.predict(genomes)
    assert (told.coverage[has] < 1).all()
    assert told.coverage[~has] == pytest.approx(1.0, abs=1e-6)
    assert told.latency_ms == pytest.approx(whole.latency_ms, rel=0.05)
    widths = (told.upper_ms - told.lower_ms) / told.latency_ms
    assert widths[has].min() > widths[~has].max()


def test_too_few_measured_layers_raise_and_one_is_named(fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    layers = pc.equal(fake_table.rows["level"], "layer")
    few = pa.concat_tables([fake_table.rows.filter(layers).slice(0, 6), fake_table.rows.filter(pc.invert(layers))])
    with pytest.raises(CoverageError, match=r"89 of the 95 layers of digits-mobilenetv3.* have no measurement, mbconv"):
        fit(replace(fake_table, rows=few))
    # Of a kind that was never measured, nothing can be told.
    head = tiny_index.vocabulary[-1]
    without = fake_table.rows.filter(pc.invert(pc.and_(layers, pc.equal(fake_table.rows["op"], head.op))))
    with pytest.raises(CoverageError, match="of other kinds"):
        fit(replace(fake_table, rows=without))


def test_a_table_of_another_space_or_of_too_few_networks_is_refused(fake_table: LatencyTable) -> None:
    for kind in ("layerwise", "endtoend"):
        with pytest.raises(TableError, match=r"was measured on the space 'digits-mobilenetv3:width=0\.25,resolution=32', not on 'digits"):
            fit(fake_table, load_space("digits-mobilenetv3"), kind)
        profiled = pc.and_(pc.equal(fake_table.rows["level"], "network"), pc.equal(fake_table.rows["role"], "profiled"))
        few = fake_table.rows.filter(pc.invert(profiled))
        kept = fake_table.rows.filter(profiled).slice(0, 4)
        with pytest.raises(TableError, match="has 4 measured networks, a fit needs 5"):
            fit(replace(fake_table, rows=pa.concat_tables([few, kept])), kind=kind)


def test_an_unknown_kind_suggests_the_near_ones(fake_table: LatencyTable) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown predictor 'layerwize'.*layerwise"):
        fit(fake_table, kind="layerwize")


def test_the_card_says_what_the_predictor_is_valid_for(predictor: OnnxPredictor, fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    card = predictor.card
    assert (card.kind, card.space, card.space_digest) == ("layerwise", fake_table.space, tiny_index.digest)
    assert (card.genes, card.target, predictor.target) == (tiny_index.genes, fake_table.target, fake_table.target)
    assert (card.table_hash, card.fitted_on_networks, card.interval_level) == (fake_table.content_hash, 14, 0.9)


def test_fitting_twice_gives_the_same_file(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    assert fit(fake_table).model == predictor.model


def test_intervals_are_in_order(predictor: OnnxPredictor, tiny_index: SiteIndex) -> None:
    predictions = predictor.predict(sample(tiny_index, 300, np.random.default_rng(1)))
    assert len(predictions) == 300
    assert (predictions.lower_ms < predictions.latency_ms).all()
    assert (predictions.latency_ms < predictions.upper_ms).all()
    width = predictor.card.interval_half_width
    assert predictions.upper_ms == pytest.approx(predictions.latency_ms * (1 + width), rel=1e-6)
    assert predictions.lower_ms == pytest.approx(predictions.latency_ms * (1 - width), rel=1e-6)


def test_the_half_width_is_the_conformal_quantile_and_no_less_than_the_noise() -> None:
    residuals = np.array([0.01, -0.02, 0.03, -0.04, 0.05, -0.06, 0.07, -0.08, 0.09, -0.10] * 2)
    # 21 x 0.9 = 18.9: the 19th of the 20 smallest.
    assert conformal_half_width(residuals, 0.001) == pytest.approx(0.10)
    assert conformal_half_width(residuals * 0.1, 0.02) == 0.02
    # 0.9 of 10 networks and one more: all of them.
    assert conformal_half_width(np.linspace(0.01, 0.05, 9), 0.0) == 0.05
    wide = np.concatenate([np.full(98, 0.01), [5.0, 7.0]])
    assert conformal_half_width(wide, 0.0) == pytest.approx(0.01)


def test_times_that_fall_as_the_layers_sums_rise_are_refused(fake_table: LatencyTable) -> None:
    rows = fake_table.rows.to_pylist()
    networks = [row for row in rows if row["level"] == "network"]
    most = max(row["latency_us"] for row in networks)
    for row in networks:
        row["latency_us"] = 1.1 * most - row["latency_us"]
    with pytest.raises(TableError, match="do not grow with the sums of their layers"):
        fit(replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA)))


def test_coverage_is_a_share_whatever_the_overhead(fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    position = SCHEMA.get_field_index("latency_us")
    less_us = 0.4 * fake_table.networks().latency_ms.min() * 1e3
    rows = fake_table.rows
    shorter = pc.if_else(pc.equal(rows["level"], "network"), pc.subtract(rows["latency_us"], less_us), rows["latency_us"])
    rows = rows.set_column(position, SCHEMA.field(position), shorter)
    kept = {layer.op: layer.key for layer in tiny_index.vocabulary} | {layer.key: layer.key for layer in tiny_index.vocabulary[::3]}
    known = pc.or_(pc.not_equal(rows["level"], "layer"), pc.is_in(rows["key"], pa.array(list(kept.values()))))
    predictor = fit(replace(fake_table, rows=rows.filter(known)))
    assert predictor.card.parameters["overhead_ms"] < 0
    coverage = predictor.predict(sample(tiny_index, 300, np.random.default_rng(0))).coverage
    assert 0 < coverage.min() < coverage.max() < 1
