"""One predictor object serves as a plain function, a regressor, and an objective of pymoo and of Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from pymoo.problems.functional import FunctionalProblem
from sklearn.metrics import mean_absolute_percentage_error, r2_score

from layerclock.errors import GenomeError
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
