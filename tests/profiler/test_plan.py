from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.network import Layer
from layerclock.plugins import load_space
from layerclock.profiler.plan import make_plan
from layerclock.space import Gene, Site, SiteIndex

if TYPE_CHECKING:
    from layerclock.profiler.plan import Plan


@pytest.fixture(scope="module")
def ofa() -> SiteIndex:
    return SiteIndex.of(load_space("ofa-mobilenetv3"))


@pytest.fixture(scope="module")
def plan(ofa: SiteIndex) -> Plan:
    return make_plan(ofa, networks=12, holdout=20, seed=0)


def _rows(genomes: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> set[tuple[int, ...]]:
    return set(map(tuple, genomes.tolist()))


def test_twelve_networks_cover_every_layer_of_ofa_mobilenetv3(plan: Plan, ofa: SiteIndex) -> None:
    counts = plan.coverage(ofa)
    assert counts.shape == (len(ofa.vocabulary),)
    assert counts.tolist() == [sum(bool(ofa.counts(genome[None])[0, number]) for genome in plan.profiled) for number in range(len(counts))]
    assert counts.min() >= 1
    # Random networks, as many, leave layers unmeasured: covering is worth its effort.
    drawn = np.random.default_rng(0).integers(0, ofa.cardinality, (12, len(ofa.genes)))
    assert (ofa.counts(drawn).sum(axis=0) == 0).any()


def test_more_networks_cover_every_layer_twice(ofa: SiteIndex) -> None:
    assert make_plan(ofa, networks=30).coverage(ofa).min() >= 2


def test_networks_are_distinct_canonical_and_held_out_ones_are_never_profiled(plan: Plan, ofa: SiteIndex) -> None:
    assert (len(_rows(plan.profiled)), len(_rows(plan.holdout))) == (12, 20)
    assert not _rows(plan.profiled) & _rows(plan.holdout)
    for genomes in (plan.profiled, plan.holdout):
        assert np.array_equal(ofa.canonical(genomes), genomes)


def test_networks_for_calibration_are_others_than_all(ofa: SiteIndex) -> None:
    plan = make_plan(ofa, networks=12, holdout=20, seed=0, calibration=15)
    assert [len(part) for part in (plan.profiled, plan.holdout, plan.calibration)] == [12, 20, 15]
    assert len({genome.tobytes() for part in (plan.profiled, plan.holdout, plan.calibration) for genome in part}) == 47


def test_a_plan_depends_on_its_seed_alone(plan: Plan, ofa: SiteIndex) -> None:
    again, other = (make_plan(ofa, networks=12, holdout=20, seed=seed) for seed in (0, 1))
    assert np.array_equal(plan.profiled, again.profiled)
    assert np.array_equal(plan.holdout, again.holdout)
    assert not np.array_equal(plan.profiled, other.profiled)


def test_a_small_space_is_profiled_whole_and_leaves_nothing_to_hold_out() -> None:
    gene = Gene("kernel", (3, 5, 7))
    layers = tuple(Layer("conv", (), (), (("k", size),), macs=size, params=size) for size in (3, 5, 7))
    index = SiteIndex((gene,), (Site("only", (gene,), layers),))
    plan = make_plan(index, networks=10, holdout=4)
    assert _rows(plan.profiled) == {(0,), (1,), (2,)}
    assert plan.holdout.shape == (0, 1)
