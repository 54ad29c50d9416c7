"""One predictor object serves as a plain function, a regressor, and an objective of pymoo and of Optuna."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pandas as pd
import pytest
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from pymoo.problems.functional import FunctionalProblem
from sklearn.metrics import get_scorer, mean_absolute_percentage_error, r2_score

from layerclock.errors import ArgumentError, GenomeError
from layerclock.predictors.fitting import fit

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.predictors.portable import OnnxPredictor
    from layerclock.space import SiteIndex


@pytest.fixture(scope="module")
def predictor(fake_table: LatencyTable) -> OnnxPredictor:
    return fit(fake_table)


def test_as_a_plain_function(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    genomes = fake_table.networks().genomes
    expected = predictor.predict(genomes).latency_ms
    assert predictor(genomes).tolist() == expected.tolist()
    assert predictor(genomes[0]) == expected[0]
    assert predictor(genomes.astype(float)).tolist() == expected.tolist()
    assert min(genomes.tolist(), key=predictor) == genomes[np.argmin(expected)].tolist()
    with pytest.raises(GenomeError):
        predictor(genomes + 0.5)


def test_as_a_regressor_of_scikit_learn(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    truth = fake_table.networks("holdout")
    predicted = predictor.predict(truth.genomes)
    assert predictor.score(truth.genomes, truth.latency_ms) == pytest.approx(r2_score(truth.latency_ms, predicted))
    assert mean_absolute_percentage_error(truth.latency_ms, predicted) < 0.05
    assert np.asarray(predicted).tolist() == predicted.latency_ms.tolist()


def test_as_an_objective_of_pymoo(predictor: OnnxPredictor, tiny_index: SiteIndex) -> None:
    genes = len(tiny_index.genes)
    problem = FunctionalProblem(genes, [predictor], xl=np.zeros(genes), xu=tiny_index.cardinality - 1, vtype=int)
    algorithm = GA(
        pop_size=16, sampling=IntegerRandomSampling(), mutation=PM(vtype=float, repair=RoundingRepair()), repair=RoundingRepair()
    )
    found = minimize(problem, algorithm, ("n_gen", 15), seed=1)
    random = predictor(np.random.default_rng(0).integers(0, tiny_index.cardinality, (100, genes)))
    assert found.F[0] < np.quantile(random, 0.05)
    assert predictor(found.X) == pytest.approx(found.F[0])


def test_as_an_objective_of_optuna(predictor: OnnxPredictor) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(predictor, n_trials=12)
    assert predictor(predictor.encode(study.best_params)) == pytest.approx(study.best_value)


def test_a_data_frame_may_have_its_genes_in_any_order(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    truth = fake_table.networks("holdout")
    frame = pd.DataFrame(truth.genomes, columns=[gene.name for gene in predictor.card.genes])
    assert predictor(frame[sorted(frame.columns)]).tolist() == predictor(truth.genomes).tolist()
    assert predictor.predict(pd.DataFrame(truth.genomes)).latency_ms.tolist() == predictor(truth.genomes).tolist()


def test_scores_take_a_column_and_nothing_else_than_a_time_for_each_genome(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    truth = fake_table.networks("holdout")
    expected = predictor.score(truth.genomes, truth.latency_ms)
    assert predictor.score(truth.genomes, truth.latency_ms[:, None]) == expected
    assert predictor.score(truth.genomes, pd.DataFrame({"latency_ms": truth.latency_ms})) == expected
    assert get_scorer("r2")(predictor, truth.genomes, truth.latency_ms) == pytest.approx(expected)
    assert np.isnan(predictor.score(truth.genomes, np.ones(len(truth))))
    for wrong in (1.0, truth.latency_ms[:1], truth.latency_ms[:, None].repeat(2, axis=1)):
        with pytest.raises(ArgumentError, match="one latency for each genome"):
            predictor.score(truth.genomes, wrong)


def test_it_is_copied_and_sent_to_other_processes_as_its_file(predictor: OnnxPredictor, fake_table: LatencyTable) -> None:
    genomes = fake_table.networks().genomes
    for other in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):  # noqa: S301 - our own bytes
        assert other(genomes).tolist() == predictor(genomes).tolist()
