"""The end-to-end predictor's file answers what scikit-learn and numpy answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Lasso

from layerclock.datasets.schema import SCHEMA
from layerclock.errors import ArgumentError, PredictorError, TableError
from layerclock.network import Layer
from layerclock.plugins import load_space
from layerclock.predictors.encoding import add_masked_one_hot, features, masked_one_hot
from layerclock.predictors.endtoend import MODELS, EndToEnd, fit_endtoend
from layerclock.predictors.evaluate import evaluate
from layerclock.predictors.fitting import fit
from layerclock.predictors.graph import GraphBuilder
from layerclock.predictors.regressors import REGRESSORS, Candidate, choose_regressor
from layerclock.space import Gene, Site, SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.portable import OnnxPredictor, PredictorCard


@pytest.fixture(scope="module")
def predictor(fake_table: LatencyTable) -> OnnxPredictor:
    return fit(fake_table, kind="endtoend")


@pytest.fixture(scope="module")
def genomes(tiny_index: SiteIndex) -> npt.NDArray[np.int64]:
    """Any genomes, canonical or not."""
    return np.random.default_rng(0).integers(0, tiny_index.cardinality, (300, len(tiny_index.genes)))


@pytest.fixture(scope="module")
def shared_gene_index() -> SiteIndex:
    """A width that several sites share, and a depth that switches a site off together with its own gene."""
    width, depth, kernel = Gene("width", (8, 16, 24)), Gene("depth", (0, 1)), Gene("kernel", (3, 5))

    def layer(*values: int) -> Layer:
        return Layer("conv", (), (), (("values", " ".join(map(str, values))),), macs=sum(values), params=1)

    sites = (
        Site.of("block", (depth, kernel, width), lambda deep, size, broad: layer(deep, size, broad) if deep else None),
        Site.of("tail", (depth, width), lambda deep, broad: layer(9, broad) if deep else None),
    )
    return SiteIndex((width, kernel, depth), sites)


@pytest.mark.parametrize("model", MODELS)
def test_the_file_answers_what_scikit_learn_answers(
    model: str, fake_table: LatencyTable, tiny_index: SiteIndex, genomes: npt.NDArray[np.int64]
) -> None:
    known = fake_table.networks()
    predictor = fit(fake_table, kind=f"endtoend:model={model}")
    fitted = EndToEnd.choose(tiny_index, known.genomes, known.latency_ms, (model,))
    assert predictor.card.model == fitted.chosen.name == model
    assert predictor.predict(genomes).latency_ms == pytest.approx(fitted.predict(genomes), rel=2e-3)


def test_any_regressor_of_scikit_learn_plugs_in(fake_table: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    known = fake_table.networks()
    estimator = Lasso(alpha=0.01)
    predictor = fit_endtoend(fake_table, tiny_space, estimator=estimator)
    assert predictor.card.model == "Lasso"
    mean, deviation = known.latency_ms.mean(), known.latency_ms.std()
    given = features(tiny_index, known.genomes).astype(np.float32)
    expected = Lasso(alpha=0.01).fit(given, (known.latency_ms - mean) / deviation).predict(given) * deviation + mean
    assert predictor.predict(known.genomes).latency_ms == pytest.approx(expected, rel=1e-4)
    with pytest.raises(PredictorError, match="cannot be written as ONNX"):
        fit_endtoend(fake_table, tiny_space, estimator=_Constant())


class _Constant(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """A regressor that no converter knows."""

    def fit(self, _: object, values: npt.NDArray[np.float64]) -> _Constant:
        self.value_ = float(values.mean())
        return self

    def predict(self, given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.full(len(given), self.value_)


def test_cross_validation_chooses_what_errs_least_and_the_cheapest_of_equals() -> None:
    generator = np.random.default_rng(0)
    given = generator.uniform(0, 1, (80, 6))
    candidates = {name: Candidate(make, given) for name, make in REGRESSORS.items()}
    linear = choose_regressor(candidates, 1 + given @ np.arange(6.0))
    assert linear.name == "ridge"
    curved = choose_regressor(candidates, 1 + np.sin(6 * given[:, 0]) ** 2 + given[:, 1] * given[:, 2])
    assert curved.name != "ridge"
    assert curved.errors[curved.name] <= min(curved.errors.values()) * 1.02 + 0.0005
    assert np.abs(curved.left_out / (1 + np.sin(6 * given[:, 0]) ** 2 + given[:, 1] * given[:, 2]) - 1).mean() == pytest.approx(
        curved.errors[curved.name]
    )


def test_unknown_models_and_parameters_are_refused(fake_table: LatencyTable) -> None:
    with pytest.raises(ArgumentError, match="no model 'oracle'"):
        fit(fake_table, kind="endtoend:model=oracle")
    with pytest.raises(ArgumentError, match="no parameter 'depth=3'"):
        fit(fake_table, kind="endtoend:depth=3")


def test_features_are_the_active_choices_and_the_exact_sizes(tiny_index: SiteIndex, genomes: npt.NDArray[np.int64]) -> None:
    encoded = features(tiny_index, genomes)
    choices = int(tiny_index.cardinality.sum())
    assert encoded.shape == (300, choices + 2)
    for genome, row in zip(genomes, encoded, strict=True):
        active = tiny_index.decode(genome)
        expected = [float(active.get(gene.name) == choice) for gene in tiny_index.genes for choice in gene.choices]
        assert row[:choices].tolist() == expected
    assert np.ptp(encoded[:, choices] / tiny_index.macs(genomes)) == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(encoded[:, choices + 1] / tiny_index.params(genomes)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["tiny_index", "shared_gene_index"])
def test_the_masked_one_hot_of_the_graph_is_that_of_numpy(name: str, predictor: OnnxPredictor, request: pytest.FixtureRequest) -> None:
    index: SiteIndex = request.getfixturevalue(name)
    rng = np.random.default_rng(0)
    genomes = rng.integers(0, index.cardinality, (200, len(index.genes)))
    # A weighted sum with weights of no common measure is equal only if every column is.
    weights = rng.uniform(0.5, 1.5, int(index.cardinality.sum())).astype(np.float32)
    graph = GraphBuilder()
    one_hot = add_masked_one_hot(graph, index)
    weighted = graph.add("MatMul", [one_hot, graph.constant("weights", weights)], "weighted")
    columns = graph.sum_columns(one_hot, "columns")
    model = graph.finish(weighted, columns, replace(predictor.card, genes=index.genes))
    expected = masked_one_hot(index, genomes)
    predictions = model.predict(genomes)
    assert predictions.latency_ms == pytest.approx(expected @ weights, rel=1e-5)
    assert predictions.coverage.tolist() == expected.sum(axis=1).tolist()


def test_coverage_is_the_share_of_choices_that_the_fit_has_seen(
    predictor: OnnxPredictor, fake_table: LatencyTable, tiny_index: SiteIndex, genomes: npt.NDArray[np.int64]
) -> None:
    seen = masked_one_hot(tiny_index, fake_table.networks().genomes).any(axis=0)
    encoded = masked_one_hot(tiny_index, genomes)
    assert predictor.predict(genomes).coverage == pytest.approx(encoded @ seen / encoded.sum(axis=1), rel=1e-6)
    assert (predictor.predict(fake_table.networks().genomes).coverage == 1.0).all()


def test_one_network_has_one_answer_and_its_interval_is_in_order(
    predictor: OnnxPredictor, tiny_index: SiteIndex, genomes: npt.NDArray[np.int64]
) -> None:
    predictions = predictor.predict(genomes)
    assert predictor.predict(tiny_index.canonical(genomes)).latency_ms == pytest.approx(predictions.latency_ms, rel=1e-6)
    assert (predictions.lower_ms < predictions.latency_ms).all()
    assert (predictions.latency_ms < predictions.upper_ms).all()


def test_it_knows_more_than_the_mean(predictor: OnnxPredictor, fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    # 14 networks are few for 115 columns: it need not be good, but it must rank the networks that it was fitted on.
    assert evaluate(predictor, fake_table, "profiled").spearman > 0.9
    assert np.ptp(predictor.predict(sample(tiny_index, 20, np.random.default_rng(0))).latency_ms) > 0


def _with_latencies(table: LatencyTable, index: SiteIndex, space: str, number: int, power: float) -> LatencyTable:
    """A table of ``number`` random networks, whose latency in us is 100 and 20,000 times a power of their share of the most MACs."""
    template = next(row for row in table.rows.to_pylist() if row["level"] == "network")
    drawn = sample(index, number, np.random.default_rng(1))
    share = index.macs(drawn) / index.macs(drawn).max()
    rows = [
        {**template, "key": str(row), "role": "profiled", "genome": drawn[row].tolist(), "latency_us": 100 + 2e4 * share[row] ** power}
        for row in range(number)
    ]
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA), space=space, space_digest=index.digest)


@pytest.mark.parametrize("model", ["ridge", "svr"])
def test_no_answer_is_below_half_of_the_fastest_network(model: str, fake_table: LatencyTable) -> None:
    """A line through times that grow with a power ends below zero."""
    space = load_space("nas-bench-201")
    index = SiteIndex.of(space)
    table = _with_latencies(fake_table, index, space.name, 30, 3.0)
    predictor = fit_endtoend(table, space, model)
    lowest_ms = 0.5 * float(table.networks().latency_ms.min())
    assert predictor.card.parameters["lowest_ms"] == pytest.approx(lowest_ms)
    told = predictor.predict(sample(index, 3000, np.random.default_rng(2)))
    assert told.latency_ms.min() == pytest.approx(lowest_ms), "some are held there"
    assert (told.lower_ms <= told.latency_ms).all()
    assert (told.latency_ms <= told.upper_ms).all()


@pytest.mark.parametrize("model", ["additive", "additive-matern"])
@pytest.mark.parametrize("name", ["nas-bench-201", "transformer", "ncf", "bert"])
def test_sums_of_layers_are_written_for_spaces_of_all_kinds(model: str, name: str, fake_table: LatencyTable) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    table = _with_latencies(fake_table, index, space.name, 40, 1.5)
    known, new = table.networks(), np.random.default_rng(5).integers(0, index.cardinality, (500, len(index.genes)))
    fitted = EndToEnd.choose(index, known.genomes, known.latency_ms, (model,))
    lowest_ms = 0.5 * float(known.latency_ms.min())
    predictor = fit_endtoend(table, space, model)
    told = predictor.predict(new).latency_ms
    assert told == pytest.approx(np.maximum(fitted.predict(new), lowest_ms), rel=1e-3)
    assert predictor.predict(index.canonical(new)).latency_ms == pytest.approx(told, rel=1e-4), "one network has one answer"


@pytest.mark.parametrize("model", ["ridge", "additive"])
def test_what_is_linear_is_looked_up(model: str, fake_table: LatencyTable) -> None:
    """Ten times faster than encoding every genome, which the file would then hold the constants of."""
    fitted = fit(fake_table, kind=f"endtoend:model={model}")
    assert b"masked_one_hot" not in fitted.model
    assert b"masked_one_hot" in fit(fake_table, kind="endtoend:model=svr").model


def test_sizes_that_lie_on_a_threshold_of_a_tree_take_one_branch(fake_table: LatencyTable) -> None:
    """The sizes of NAS-Bench-201 are evenly spaced: what lies between two of them is often a third one."""
    space = load_space("nas-bench-201")
    index = SiteIndex.of(space)
    table = _with_latencies(fake_table, index, space.name, 40, 1.0)
    assert fit_endtoend(table, space, "boosting").card.model == "boosting"
    assert fit_endtoend(table, space, "forest").card.model == "forest"


def test_a_model_that_the_file_cannot_hold_gives_way_to_the_next_one(fake_table: LatencyTable, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = fit(fake_table, kind="endtoend").card.model
    write = GraphBuilder.finish

    def refuse(builder: GraphBuilder, latency: str, coverage: str, card: PredictorCard, *rest: Any) -> OnnxPredictor:
        if card.model == chosen:
            raise PredictorError("it answers otherwise", "")
        return write(builder, latency, coverage, card, *rest)

    monkeypatch.setattr(GraphBuilder, "finish", refuse)
    assert fit(fake_table, kind="endtoend").card.model not in ("", chosen)
    with pytest.raises(PredictorError, match="answers otherwise"):
        fit(fake_table, kind=f"endtoend:model={chosen}")


@pytest.mark.parametrize("wrong", [0.0, -3.0, float("nan")])
def test_a_network_without_a_time_is_no_truth(wrong: float, fake_table: LatencyTable, predictor: OnnxPredictor) -> None:
    for role in ("profiled", "holdout"):
        rows = fake_table.rows.to_pylist()
        next(row for row in rows if row["level"] == "network" and row["role"] == role)["latency_us"] = wrong
        table = replace(fake_table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))
        with pytest.raises(TableError, match=f"1 {role} networks of the table have no latency above zero"):
            evaluate(predictor, table) if role == "holdout" else fit(table, kind="layerwise")
