"""Choosing networks to measure: distinct, the same for one seed, and by what each sampler promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.plugins import load_space
from layerclock.predictors.transfer.samplers import SAMPLERS, Candidates, candidates_of, choose
from layerclock.predictors.transfer.variance import mean_variance, radial_factor, reduce_variance
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.predictors.transfer.problem import Sources


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    """300 networks of FBNet, with invented latencies on three devices."""
    space = load_space("fbnet")
    index = SiteIndex.of(space)
    rng = np.random.default_rng(0)
    genomes = sample(index, 300, rng)
    seconds_a_layer = rng.uniform(0.1, 1.0, (len(index.vocabulary), 3))
    return candidates_of(space, genomes, source_latency_ms=index.counts(genomes) @ seconds_a_layer)


@pytest.mark.parametrize("name", SAMPLERS)
def test_distinct_networks_come_back_and_the_same_for_one_seed(name: str, candidates: Candidates) -> None:
    for number in (1, 20, 300):
        chosen = choose(name, candidates, number, seed=3)
        assert chosen.dtype == np.int64
        assert len(set(chosen.tolist())) == number
        assert 0 <= chosen.min() <= chosen.max() < 300
        assert np.array_equal(choose(name, candidates, number, seed=3), chosen)


@pytest.mark.parametrize("name", SAMPLERS)
def test_networks_that_are_alike_do_not_upset_a_sampler(name: str, candidates: Candidates) -> None:
    assert candidates.source_log_latency is not None
    rows = np.arange(40) % 4
    alike = Candidates(candidates.encoded[rows], candidates.params[rows], candidates.source_log_latency[rows])
    chosen = choose(name, alike, 10)
    assert len(set(chosen.tolist())) == 10
    if name not in ("random", "parameter-stratified"):
        assert set(chosen[:4] % 4) == {0, 1, 2, 3}, "the four that differ come first"


def test_strata_of_parameters_have_one_network_each(candidates: Candidates) -> None:
    ranks = np.argsort(np.argsort(candidates.params, kind="stable"))
    chosen = choose("parameter-stratified", candidates, 20)
    assert sorted(ranks[chosen] // 15) == list(range(20))
    assert not np.array_equal(choose("parameter-stratified", candidates, 20, seed=1), chosen)


def test_cosine_similarity_is_smaller_than_between_random_networks(candidates: Candidates) -> None:
    unit = candidates.encoded / np.linalg.norm(candidates.encoded, axis=1, keepdims=True)

    def largest(chosen: npt.NDArray[np.int64]) -> float:
        return float(np.max((unit[chosen] @ unit[chosen].T)[np.triu_indices(len(chosen), 1)]))

    chosen = choose("encoding-cosine", candidates, 12)
    assert largest(chosen) < min(largest(choose("random", candidates, 12, seed)) for seed in range(20))
    # Greedy: each is the one least like those before it.
    for number in range(1, 12):
        similarity = (unit @ unit[chosen[:number]].T).max(axis=1)
        assert similarity[chosen[number]] == pytest.approx(np.delete(similarity, chosen[:number]).min())


@pytest.mark.parametrize("name", ["k-means", "source-latencies"])
def test_every_network_is_near_a_representative(name: str, candidates: Candidates) -> None:
    points = candidates.encoded if name == "k-means" else candidates.source_log_latency
    assert points is not None
    standard = points if name == "k-means" else (points - points.mean(axis=0)) / points.std(axis=0)

    def spread(chosen: npt.NDArray[np.int64]) -> float:
        return float((((standard[:, None] - standard[chosen]) ** 2).sum(axis=2)).min(axis=1).mean())

    assert spread(choose(name, candidates, 15)) < min(spread(choose("random", candidates, 15, seed)) for seed in range(10))


def test_variance_reduction_is_greedy_by_the_definition() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((60, 8)) * np.linspace(2, 0.1, 8)
    noise, chosen = 0.05, reduce_variance(factor, 0.05, 9)
    covariance = factor @ factor.T
    for number in range(9):
        seen = chosen[:number]
        left = {row: mean_variance(factor, noise, [*seen, row]) for row in set(range(60)) - set(seen.tolist())}
        assert left[int(chosen[number])] == pytest.approx(min(left.values()), rel=1e-9)
        # The mean variance itself, by the textbook's formula (Rasmussen and Williams 2006, equation 2.26).
        among = covariance[np.ix_(seen, seen)] + noise * np.eye(number)
        posterior = covariance - covariance[:, seen] @ np.linalg.solve(among, covariance[seen])
        assert mean_variance(factor, noise, seen) == pytest.approx(np.trace(posterior) / 60)


def test_the_radial_factor_is_one_of_the_radial_covariance() -> None:
    encoded = np.random.default_rng(0).standard_normal((80, 5)) * np.arange(1, 6)
    factor = radial_factor(encoded, np.random.default_rng(1), rank=80)
    standard = (encoded - encoded.mean(axis=0)) / encoded.std(axis=0)
    squared = ((standard[:, None] - standard) ** 2).sum(axis=2)
    width = np.median(squared[np.triu_indices(80, 1)])
    assert factor @ factor.T == pytest.approx(np.exp(-squared / 2 / width), abs=1e-6)


def test_variance_reduction_knows_more_of_all_cells_than_random_ones(nb201: Sources) -> None:
    space = load_space("nas-bench-201")
    every = candidates_of(space, nb201.genomes, ("one-hot", "live-operations"))
    factor = radial_factor(every.encoded, np.random.default_rng(0), rank=200)
    chosen = choose("variance-reduction", replace(every, factor=factor), 20)
    random = [mean_variance(factor, every.noise, choose("random", every, 20, seed)) for seed in range(10)]
    assert mean_variance(factor, every.noise, chosen) < 0.95 * min(random)


def test_what_a_sampler_cannot_do_it_says(candidates: Candidates) -> None:
    blind = replace(candidates, source_log_latency=None)
    for name in ("source-latencies", "source-variance-reduction"):
        with pytest.raises(ArgumentError, match="no latencies on other devices"):
            choose(name, blind, 5)
        assert candidates.source_log_latency is not None
        few = np.where(np.arange(300)[:, None] < 4, candidates.source_log_latency, np.nan)
        with pytest.raises(ArgumentError, match="4 of 300 networks are known"):
            choose(name, replace(candidates, source_log_latency=few), 5)
        assert set(choose(name, replace(candidates, source_log_latency=few), 3)) <= {0, 1, 2, 3}
    with pytest.raises(UnknownNameError, match="did you mean k-means"):
        choose("kmeans", candidates, 5)
    for number in (0, 301):
        with pytest.raises(ArgumentError, match=f"cannot choose {number} of 300"):
            choose("random", candidates, number)
    with pytest.raises(ArgumentError, match="noise of 0"):
        choose("variance-reduction", replace(candidates, noise=0.0), 5)
    with pytest.raises(ArgumentError, match="one row a network"):
        replace(candidates, params=candidates.params[:5])
