"""The Gaussian process over sums of layers is the one of the book, and learns layers from few networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.base import clone

from layerclock.plugins import load_space
from layerclock.predictors import additive
from layerclock.predictors.additive import MATERN_LENGTH, AdditiveRegressor
from layerclock.predictors.endtoend import EndToEnd
from layerclock.predictors.matern import matern
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.predictors.transfer.problem import Sources

GROUPS = (3, 5)


def _problem(number: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    columns = generator.standard_normal((number, 8)) / np.repeat(np.sqrt(GROUPS), GROUPS)
    values = columns @ np.array([1.0, -2.0, 0.5, 0, 0, 0, 0, 0]) + noise * generator.standard_normal(number)
    return columns, (values - values.mean()) / values.std()


@pytest.mark.parametrize("curved", [0, 1])
def test_the_mean_is_that_of_the_covariance(curved: int) -> None:
    """Equation 2.25 of Rasmussen and Williams, with every network's covariance written out."""
    columns, values = _problem(7)
    new = np.random.default_rng(1).standard_normal((4, 8))
    regressor = AdditiveRegressor(GROUPS, curved)
    *scales, noise = regressor._weights(columns, values)

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        among: np.ndarray = 10.0 + scales[0] * one[:, :3] @ other[:, :3].T + scales[1] * one[:, 3:] @ other[:, 3:].T
        return among + scales[2] * matern(one[:, :3], other[:, :3], MATERN_LENGTH) if curved else among

    expected = covariance(new, columns) @ np.linalg.solve(covariance(columns, columns) + noise * np.eye(7), values)
    assert regressor.fit(columns, values).predict(new) == pytest.approx(expected, rel=1e-6)


def test_more_networks_than_columns_have_the_same_mean() -> None:
    columns, values = _problem(60)
    by_columns = AdditiveRegressor(GROUPS).fit(columns, values)
    *scales, noise = by_columns._weights(columns, values)
    variances = np.repeat(scales, GROUPS)
    covariance = 10.0 + (columns * variances) @ columns.T + noise * np.eye(60)
    solved = np.linalg.solve(covariance, values)
    assert by_columns.coef_ == pytest.approx(variances * (columns.T @ solved), rel=1e-5, abs=1e-7)
    assert by_columns.intercept_ == pytest.approx(10.0 * solved.sum(), abs=1e-6)


def test_the_slope_of_the_evidence_is_its_derivative() -> None:
    columns, values = _problem(20)
    among = np.array([columns[:, :3] @ columns[:, :3].T, columns[:, 3:] @ columns[:, 3:].T, np.eye(20)])
    expected = np.array([-1.0, -1.0, -4.0])

    def cost(at: np.ndarray) -> float:
        return additive._cost(at, among, values, expected)[0]

    def slope(at: np.ndarray) -> np.ndarray:
        return additive._cost(at, among, values, expected)[1]

    assert check_grad(cost, slope, expected) < 1e-3
    assert check_grad(cost, slope, np.array([0.5, -6.0, -2.0])) < 1e-3


def test_the_group_that_tells_the_values_weighs_most() -> None:
    telling, idle, noise = AdditiveRegressor(GROUPS)._weights(*_problem(60))
    assert telling > 20 * idle
    assert noise == pytest.approx(0.05**2 / (np.array([1.0, -2.0, 0.5]) ** 2).sum() * 3, rel=0.5)


def test_a_curved_one_follows_values_that_saturate() -> None:
    generator = np.random.default_rng(2)
    columns = generator.standard_normal((150, 8))
    values = np.tanh(2 * columns[:, 0])
    straight, curved = (AdditiveRegressor(GROUPS, groups).fit(columns[:100], values[:100]).predict(columns[100:]) for groups in (0, 1))
    off = [float(np.abs(told - values[100:]).mean()) for told in (straight, curved)]
    assert off[1] < 0.5 * off[0]


def test_many_networks_are_learnt_from_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, values = _problem(400)
    monkeypatch.setattr(additive, "_MOST_CURVED", 50)
    monkeypatch.setattr(additive, "_MOST_FOR_WEIGHTS", 40)
    assert len(AdditiveRegressor(GROUPS, 1).fit(columns, values).known_) == 50
    straight = AdditiveRegressor(GROUPS).fit(columns, values)
    assert np.abs(straight.predict(columns) - values).mean() < 0.05


def test_it_is_cloned_as_scikit_learn_does() -> None:
    copy = clone(AdditiveRegressor(GROUPS, 1))
    assert (copy.groups, copy.curved) == (GROUPS, 1)


@pytest.mark.parametrize("device", ["raspi4", "fpga", "1080ti_1"])
def test_fifty_networks_of_fbnet_tell_real_devices(device: str, fbnet: Sources) -> None:
    """On published latencies of FBNet: the error is below 0.6 of what a ridge regression of the same networks has."""
    index = SiteIndex.of(load_space("fbnet:layout=cifar,resolution=32,classes=100"))
    latency_ms = fbnet.latency_ms[:, fbnet.devices.index(device)]
    order = np.random.default_rng(0).permutation(len(latency_ms))[:1050]
    given, rest = order[:50], order[50:]
    off = {}
    for name in ("ridge", "additive"):
        told = EndToEnd.choose(index, fbnet.genomes[given], latency_ms[given], (name,)).predict(fbnet.genomes[rest])
        off[name] = float(np.abs(told / latency_ms[rest] - 1).mean())
    assert off["additive"] < 0.6 * off["ridge"]
