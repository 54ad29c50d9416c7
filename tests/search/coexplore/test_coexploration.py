"""Searches among pairs: what is trained, what is not, and whether the best is found where all pairs are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_pairs import CELLS, QUALITY, small_pairs

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.search.coexplore.baselines import architecture_first, hardware_aware
from layerclock.search.coexplore.fixed_designs import FixedDesign, gain_percent, gains, middle_design, ranked_designs, similar_designs
from layerclock.search.coexplore.problem import Coexploration
from layerclock.search.coexplore.redesign import redesign
from layerclock.search.coexplore.two_level import TwoLevel
from layerclock.search.variation import Variation
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.devices.accelerators.fpga_pairs import FpgaPairs
    from layerclock.interfaces import SearchSpace
    from layerclock.search.loop import Search
    from layerclock.search.objective import FloatArray, Objective
    from layerclock.space import GenomeArray

SPECIFICATION = ("throughput_per_s>=8000", "energy_mj<=1")


@pytest.fixture(scope="module")
def cells() -> SearchSpace:
    return CELLS


@pytest.fixture(scope="module")
def pairs() -> FpgaPairs:
    return small_pairs()


@pytest.fixture
def quality() -> Objective:
    return QUALITY


def finished(search: Search) -> Search:
    while not search.stopped:
        search.step()
    return search


@pytest.mark.parametrize("algorithm", ["two-level", "nsga2", "random"])
def test_what_misses_the_specification_is_never_trained(cells: SearchSpace, pairs: FpgaPairs, quality: Objective, algorithm: str) -> None:
    trained: list[GenomeArray] = []

    def evaluate(genomes: GenomeArray) -> FloatArray:
        trained.append(genomes)
        return np.asarray(quality.evaluate(genomes), dtype=np.float64)

    problem = Coexploration(cells, pairs, ["throughput_per_s", replace(quality, evaluate=evaluate)], SPECIFICATION)
    search = finished(problem.search(algorithm, 40, seed=1))
    result = search.result()
    assert len(result) == 40
    assert result.feasible.all()
    networks = np.concatenate(trained)
    assert len({row.tobytes() for row in networks}) == len(networks) == problem.trainings  # each network once
    assert {row.tobytes() for row in networks} == {row.tobytes() for row in problem.space.split(result.genomes)[0]}
    networks, designs = problem.space.split(result.genomes)
    costs = pairs.costs(networks, designs)
    assert (costs.throughput_per_s >= 8000).all()
    assert (costs.energy_mj <= 1).all()
    again = Coexploration(cells, pairs, ["throughput_per_s", quality], SPECIFICATION)
    np.testing.assert_array_equal(finished(again.search(algorithm, 40, seed=1)).result().genomes, result.genomes)


def test_two_levels_come_near_the_best_of_all_pairs_at_an_accuracy(cells: SearchSpace, pairs: FpgaPairs, quality: Objective) -> None:
    networks = np.array(list(np.ndindex(*[5] * 6)), dtype=np.int64)
    networks = networks[quality.evaluate(networks) >= 92.0]
    designs = Variation(SiteIndex(pairs.genes, pairs.sites)).unseen(1000, np.random.default_rng(0), set())
    first = np.unique(pairs.nests.sequences(pairs.index, networks), axis=0, return_index=True)[1]
    every = [(networks[row], design) for row in first for design in designs[pairs.build(designs).shortfall == 0]]
    optimum = pairs.costs(np.array([one[0] for one in every]), np.array([one[1] for one in every])).throughput_per_s.max()
    problem = Coexploration(cells, pairs, ["throughput_per_s"], ["top1_percent>=92"], [quality])
    search = finished(problem.search("two-level", 120, 25, seed=0))
    result = search.result()
    assert isinstance(search.algorithm, TwoLevel)
    assert result.values[result.feasible].max() >= optimum / 1.25
    assert problem.trainings < 0.5 * len(search.algorithm.networks)
    assert search.algorithm.sampled >= len(search.algorithm.networks)


def test_a_warm_start_is_evaluated_first(cells: SearchSpace, pairs: FpgaPairs, quality: Objective) -> None:
    problem = Coexploration(cells, pairs, ["throughput_per_s", quality])
    start = problem.search("random", 20, seed=3).ask()[:4]
    result = finished(problem.search("two-level", 20, seed=0, start=start)).result()
    np.testing.assert_array_equal(result.genomes[:4], start)


def test_an_interrupted_search_trains_nothing_twice(cells: SearchSpace, pairs: FpgaPairs, quality: Objective, tmp_path: Path) -> None:
    def problem() -> Coexploration:
        return Coexploration(cells, pairs, ["throughput_per_s", quality], SPECIFICATION)

    first = problem().search("two-level", 40, seed=2, folder=tmp_path)
    first.step()
    first.step()
    first.result().write(tmp_path)
    held = len(first.result())
    going_on = problem()
    result = finished(going_on.search("two-level", 40, seed=2, folder=tmp_path)).result()
    whole = finished(problem().search("two-level", 40, seed=2)).result()
    assert 0 < held < 40
    np.testing.assert_array_equal(result.genomes, whole.genomes)
    np.testing.assert_array_equal(result.measured, whole.measured)


def test_what_is_not_a_measure_is_named(cells: SearchSpace, pairs: FpgaPairs, quality: Objective) -> None:
    with pytest.raises(UnknownNameError, match="measure of pairs 'throughput'"):
        Coexploration(cells, pairs, ["throughput"])
    with pytest.raises(UnknownNameError, match="'area'"):
        Coexploration(cells, pairs, ["throughput_per_s"], ["area<=3"])
    problem = Coexploration(cells, pairs, ["throughput_per_s"])
    with pytest.raises(ArgumentError, match="no objective of networks"):
        architecture_first(problem, middle_design(pairs), quality.name)


def test_redesign_keeps_networks_and_only_improves(cells: SearchSpace, pairs: FpgaPairs, quality: Objective) -> None:
    problem = Coexploration(cells, pairs, ["throughput_per_s", quality], ["energy_mj<=5"])
    search = finished(problem.search("random", 20, seed=0))
    result = search.result()
    before = problem.trainings
    own = len(cells.genes)
    seen = {row.tobytes() for row in result.genomes}
    found, values = redesign(
        search.task, result.genomes, result.measured * search.task.signs, own, seen, np.random.default_rng(0)
    )  # fmt: skip
    assert len(found)
    assert problem.trainings == before
    assert {row[:own].tobytes() for row in found} <= {row[:own].tobytes() for row in result.genomes}
    assert not seen & {row.tobytes() for row in found}
    np.testing.assert_array_equal(values[:, 1], -quality.evaluate(found[:, :own]))
    old = result.minimised
    for row in values[:, :2]:
        assert not (old <= row).all(axis=1).any()


def test_baselines_hold_one_side_fixed(cells: SearchSpace, pairs: FpgaPairs, quality: Objective) -> None:
    middle = middle_design(pairs)
    problem = Coexploration(cells, pairs, ["throughput_per_s", quality])
    fixed = problem.space.split(finished(hardware_aware(problem, middle, "random", 30)).result().genomes)
    assert (fixed[1] == middle).all()
    assert len(np.unique(fixed[0], axis=0)) == 30
    first = problem.space.split(finished(architecture_first(problem, middle, quality.name, "random", 30)).result().genomes)
    assert len(np.unique(first[0], axis=0)) == 1
    assert len(np.unique(first[1], axis=0)) == len(first[1]) > 5
    judged = problem.judged[quality.name]
    assert judged.values.max() == quality.evaluate(first[0][:1])[0]


def test_fixed_designs_are_of_equal_resources_and_gains_are_of_equal_accuracy(
    cells: SearchSpace, pairs: FpgaPairs, quality: Objective
) -> None:
    middle = middle_design(pairs)
    assert pairs.build(middle[None]).shortfall[0] == 0
    similar = similar_designs(pairs, middle, 6)
    taken, wanted = pairs.build(similar).resources["dsp"], pairs.build(middle[None]).resources["dsp"][0]
    assert len(similar)
    assert (pairs.build(similar).shortfall == 0).all()
    assert np.abs(taken[0] / wanted - 1) <= 0.1
    problem = Coexploration(cells, pairs, ["throughput_per_s", "energy_mj", quality])
    result = finished(problem.search("nsga2", 200, seed=0)).result()
    networks = problem.judged[quality.name].networks
    best, median, worst = (
        one.measures(problem, networks)["energy_mj"].min() for one in ranked_designs(problem, middle, networks, "energy_mj", 8)
    )
    assert best <= median <= worst
    found = gains(problem, result, ["throughput_per_s", "energy_mj"], quality.name, [91.0, 99.0], [FixedDesign("middle", pairs, middle)], 8)
    assert {gain.accuracy for gain in found} == {91.0}  # nothing reaches the other
    assert {gain.against for gain in found} == {"the best of the sample", "the median", "the worst", "middle"}
    for gain in found:
        column = 0 if gain.measure == "throughput_per_s" else 1
        assert result.values[gain.evaluation, column] == gain.ours
        assert result.values[gain.evaluation, 2] >= 91.0
        assert gain.percent == pytest.approx(gain_percent(gain.ours, gain.theirs, column == 0))
    assert gain_percent(3.0, 2.0, maximise=True) == pytest.approx(50.0)
    assert gain_percent(2.0, 3.0, maximise=False) == pytest.approx(50.0)
