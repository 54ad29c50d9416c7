"""The first population, crossover and mutation."""

from __future__ import annotations

import numpy as np
import pytest

from layerclock.network import Layer
from layerclock.search.algorithms.nsga2 import Nsga2
from layerclock.search.objective import Objective
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.search.task import Task
from layerclock.search.variation import Variation
from layerclock.space import Gene, GenomeArray, Site, SiteIndex, sample


def flat_index(genes: int, choices: int) -> SiteIndex:
    """A space without depth: every gene always matters."""

    def layer(position: int, value: int) -> Layer:
        return Layer("op", (), (), (("at", position), ("size", value)), macs=1 + value, params=1)

    named = [Gene(f"g{number}", tuple(range(choices))) for number in range(genes)]
    return SiteIndex(named, [Site.of(f"s{n}", [gene], lambda value, n=n: layer(n, value)) for n, gene in enumerate(named)])


@pytest.fixture(scope="module")
def ofa() -> SiteIndex:
    return SiteIndex.of(ofa_mobilenetv3())


def rows(genomes: GenomeArray) -> set[bytes]:
    return {row.tobytes() for row in genomes}


def test_mutation_changes_one_gene_on_average_to_another_choice() -> None:
    index = flat_index(genes=40, choices=3)
    parents = sample(index, 4000, np.random.default_rng(0))
    children = Variation(index).mutate(parents, np.random.default_rng(1))
    changed = parents != children
    assert changed.sum(axis=1).mean() == pytest.approx(1.0, abs=0.06)  # the standard error is 0.016
    assert changed.mean(axis=0).max() < 2 / 40  # no gene is favoured
    step = (children - parents)[changed] % 3
    assert (step == 1).mean() == pytest.approx(0.5, abs=0.05)


def test_mutation_counts_only_genes_that_matter(ofa: SiteIndex) -> None:
    parents = sample(ofa, 3000, np.random.default_rng(0))
    before, after = parents, Variation(ofa).mutate(parents, np.random.default_rng(1))
    still = ofa.active(before) & ofa.active(after)
    depth = np.array([gene.name.endswith("depth") for gene in ofa.genes])
    same_depth = (before == after)[:, depth].all(axis=1)
    assert (before != after)[:, depth].sum() + (same_depth[:, None] & still & (before != after)).sum() > 0.8 * len(parents)
    assert ((before != after) & still).sum(axis=1).mean() == pytest.approx(1.0, abs=0.08)
    np.testing.assert_array_equal(ofa.canonical(after), after)


def test_children_of_the_algorithm_differ_from_their_parent_by_as_much() -> None:
    # One parent: crossover changes nothing, and a child without any mutation is a known network and is dropped. Of
    # 1 / (1 - (1 - 1/G)**G) = 1.58 mutated genes on average, pymoo's own defaults would give hardly any.
    index = flat_index(genes=80, choices=5)
    parent = np.full((1, 80), 2, dtype=np.int64)
    counts: list[int] = []
    for seed in range(10):
        objectives = tuple(Objective(name, lambda genomes: np.zeros(len(genomes))) for name in ("a", "b"))
        algorithm = Nsga2(Task(index, Variation(index), objectives, 2, (), 100, 20, seed, parent[:0]))
        algorithm.propose()
        algorithm.tell(parent, np.array([[1.0, 1.0]]), np.zeros(1))
        children = algorithm.propose()
        assert len(children) == 20
        counts.extend((children != parent).sum(axis=1).tolist())
    assert min(counts) == 1
    assert np.mean(counts) == pytest.approx(1.58, abs=0.2)


def test_blocks_that_come_into_being_are_not_always_the_smallest(ofa: SiteIndex) -> None:
    shallow = np.zeros((2000, len(ofa.genes)), dtype=np.int64)
    children = Variation(ofa).mutate(shallow, np.random.default_rng(0))
    born = ofa.active(children) & ~ofa.active(shallow)
    assert born.any()
    assert np.bincount(children[born], minlength=3) / born.sum() == pytest.approx([1 / 3] * 3, abs=0.08)


def test_crossover_exchanges_genes_and_ignores_choices_nobody_made(ofa: SiteIndex) -> None:
    rng = np.random.default_rng(0)
    first, second = sample(ofa, 200, rng)[:100], sample(ofa, 200, rng)[100:]
    left, right = np.split(Variation(ofa).cross(first, second, rng, probability=1.0), 2)
    one, two = ofa.active(first), ofa.active(second)
    for child in (left, right):
        assert np.where(one & two, (child == first) | (child == second), True).all()
        assert (child == first)[one & ~two].all()
        assert (child == second)[two & ~one].all()
    differ = one & two & (first != second)
    assert (left == second)[differ].mean() == pytest.approx(0.5, abs=0.05)
    assert (left + right == first + second)[one & two].all()
    unchanged = Variation(ofa).cross(first, second, rng, probability=0.0)[:100]
    assert (unchanged == first)[one].all()


def test_extremes_are_the_smallest_and_the_largest_network(ofa: SiteIndex) -> None:
    found = Variation(ofa).extremes(np.random.default_rng(3))
    smallest = np.zeros((1, len(ofa.genes)), dtype=np.int64)
    np.testing.assert_array_equal(ofa.macs(found), ofa.macs(np.concatenate([smallest, smallest + 2])))


def test_the_first_population_reaches_from_the_smallest_to_the_largest_network(ofa: SiteIndex) -> None:
    population = Variation(ofa).first_population(40, np.random.default_rng(0))
    assert len(rows(population)) == len(population) == 40
    np.testing.assert_array_equal(ofa.canonical(population), population)
    macs = ofa.macs(population)
    ends = ofa.macs(Variation(ofa).extremes(np.random.default_rng(1)))
    assert (macs.min(), macs.max()) == (ends[0], ends[1])
    assert (np.histogram(macs, bins=8)[0] >= 3).all()
    uniform = ofa.macs(sample(ofa, 40, np.random.default_rng(0)))
    assert (np.histogram(uniform, bins=8, range=(ends[0], ends[1]))[0] == 0).any()  # the reason for not drawing uniformly


def test_a_first_population_larger_than_its_space_holds_every_network_once() -> None:
    index = flat_index(genes=3, choices=2)
    assert len(rows(Variation(index).first_population(50, np.random.default_rng(0)))) == 8


def test_unseen_networks_are_new_and_run_out_exactly(ofa: SiteIndex) -> None:
    small, rng = flat_index(genes=4, choices=3), np.random.default_rng(0)
    seen: set[bytes] = set()
    for _ in range(4):
        drawn = Variation(small).unseen(25, rng, seen)
        assert not rows(drawn) & seen
        seen |= rows(drawn)
    assert len(seen) == 81
    assert Variation(small).unseen(25, rng, seen).shape == (0, 4)
    large = Variation(ofa).unseen(7, rng, rows(sample(ofa, 100, rng)))
    assert len(rows(large)) == 7
