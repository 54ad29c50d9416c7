"""Splitting devices: sets of the sizes asked for, with less in common than sets drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from layerclock.errors import ArgumentError
from layerclock.predictors.transfer.partition import device_correlations, partition
from layerclock.predictors.transfer.problem import Sources

if TYPE_CHECKING:
    import numpy.typing as npt


def _families() -> Sources:
    """Twelve devices of two families of six in alternation, 200 networks; the last device has measured half of them."""
    rng = np.random.default_rng(0)
    families = rng.standard_normal((200, 2))
    logarithms = families[:, np.arange(12) % 2] + 0.3 * rng.standard_normal((200, 12))
    latency_ms = np.exp(logarithms)
    latency_ms[::2, 11] = np.nan
    return Sources(np.arange(200)[:, None], latency_ms, tuple(f"device{number}" for number in range(12)))


def _family(names: tuple[str, ...]) -> set[int]:
    return {int(name.removeprefix("device")) % 2 for name in names}


@pytest.mark.parametrize("seed", range(5))
def test_families_are_told_apart(seed: int) -> None:
    found = partition(_families(), 6, 6, seed)
    assert (len(found.train), len(found.test)) == (6, 6)
    assert _family(found.train) | _family(found.test) == {0, 1}
    assert len(_family(found.train)) == len(_family(found.test)) == 1
    few = partition(_families(), 3, 2, seed)
    assert (len(few.train), len(few.test)) == (3, 2)
    assert not _family(few.train) & _family(few.test)


def test_the_correlations_that_are_told_are_those_of_the_names() -> None:
    sources = _families()
    found = partition(sources, 4, 3)
    for row, learn in enumerate(found.train):
        for column, judge in enumerate(found.test):
            pair = sources.latency_ms[:, [sources.devices.index(learn), sources.devices.index(judge)]]
            both = pair[np.isfinite(pair).all(axis=1)]
            assert found.correlations[row, column] == pytest.approx(spearmanr(both[:, 0], both[:, 1]).statistic)
    assert found.mean_correlation == pytest.approx(found.correlations.mean())


@pytest.mark.parametrize(("train", "test"), [(1, 1), (9, 3), (2, 10), (11, 1), (5, 7)])
def test_sets_have_the_sizes_that_were_asked_for(train: int, test: int) -> None:
    found = partition(_families(), train, test)
    assert (len(found.train), len(found.test)) == (train, test)
    assert not set(found.train) & set(found.test)


def test_no_exchange_of_two_devices_separates_families_better() -> None:
    correlations = device_correlations(_families())
    found = partition(_families(), 6, 6)
    learn = [int(name.removeprefix("device")) for name in found.train]
    judge = [int(name.removeprefix("device")) for name in found.test]

    def between(left: list[int], right: list[int]) -> float:
        return float(correlations[np.ix_(left, right)].sum())

    for row in range(6):
        for column in range(6):
            left = [*learn[:row], judge[column], *learn[row + 1 :]]
            right = [*judge[:column], learn[row], *judge[column + 1 :]]
            assert between(learn, judge) < between(left, right)


@pytest.mark.parametrize("space", ["nb201", "fbnet"])
def test_measured_devices_have_less_in_common_than_random_sets(space: str, request: pytest.FixtureRequest) -> None:
    every: Sources = request.getfixturevalue(space)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(every.genomes))[:500]
    sources = Sources(every.genomes[rows], every.latency_ms[rows], every.devices)
    correlations = device_correlations(sources)

    def random_mean(order: npt.NDArray[np.int64]) -> float:
        return float(correlations[np.ix_(order[:5], order[5:10])].mean())

    at_random = [random_mean(rng.permutation(len(every.devices))) for _ in range(200)]
    for seed in range(3):
        assert partition(sources, 5, 5, seed).mean_correlation < np.quantile(at_random, 0.05)


def test_what_cannot_be_split_is_refused() -> None:
    sources = _families()
    for train, test in ((0, 3), (3, 0), (7, 6)):
        with pytest.raises(ArgumentError, match=f"12 devices do not make sets of {train} and {test}"):
            partition(sources, train, test)
    apart = sources.latency_ms.copy()
    apart[1::2, 0], apart[::2, 1] = np.nan, np.nan
    with pytest.raises(ArgumentError, match="device0 and device1: 0 networks in common"):
        partition(Sources(sources.genomes, apart, sources.devices), 3, 3)
