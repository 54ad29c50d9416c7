"""The fast level gives the verdicts of the exhaustive table, whatever it spares itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_pairs import CELLS, small_pairs

from layerclock.errors import ArgumentError
from layerclock.search.coexplore.fast_level import FastLevel
from layerclock.search.coexplore.joint_space import JointSpace
from layerclock.search.objective import Constraint
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from layerclock.devices.accelerators.fpga_pairs import FpgaPairs
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray


@pytest.fixture(scope="module")
def cells() -> SearchSpace:
    return CELLS


@pytest.fixture(scope="module")
def pairs() -> FpgaPairs:
    return small_pairs()


@pytest.fixture(scope="module")
def space(cells: SearchSpace, pairs: FpgaPairs) -> JointSpace:
    return JointSpace(cells, pairs)


@pytest.fixture(scope="module")
def drawn(space: JointSpace) -> GenomeArray:
    return sample(SiteIndex.of(space), 1500, np.random.default_rng(0))


def test_the_bounds_are_never_above_the_model(space: JointSpace, pairs: FpgaPairs, drawn: GenomeArray) -> None:
    networks, designs = space.split(drawn)
    least, costs = pairs.bounds(networks, designs), pairs.costs(networks, designs)
    for name in ("cycles", "interval_ms", "latency_ms", "energy_mj"):
        assert (getattr(least, name) <= getattr(costs, name)).all(), name
    assert (least.utilisation >= costs.utilisation).all()
    fine = np.isfinite(costs.interval_ms)
    assert fine.mean() > 0.3
    assert np.median(least.interval_ms[fine] / costs.interval_ms[fine]) > 0.5  # and says something


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_no_pair_that_meets_the_specification_is_dropped(space: JointSpace, pairs: FpgaPairs, drawn: GenomeArray, quantile: float) -> None:
    networks, designs = space.split(drawn)
    costs, built = pairs.costs(networks, designs), pairs.build(designs).shortfall == 0
    fine = built & np.isfinite(costs.interval_ms)
    limits = (
        Constraint("throughput_per_s", ">=", float(np.quantile(costs.throughput_per_s[fine], quantile))),
        Constraint("energy_mj", "<=", float(np.quantile(costs.energy_mj[fine], 1 - quantile / 2))),
        Constraint("dsp", "<=", 250.0),
        Constraint("utilisation", "<=", 0.99),  # of which a bound can say nothing
        Constraint("top1_percent", ">=", 90.0),  # nor is this the fast level's business
    )
    truth = fine & (costs.throughput_per_s >= limits[0].limit) & (costs.energy_mj <= limits[1].limit)
    truth &= (pairs.build(designs).resources["dsp"] <= 250) & (costs.utilisation <= 0.99)
    verdicts = []
    for bounds in (True, False):
        level = FastLevel(space, limits, bounds)
        measures = level.judge(drawn).measures
        kept = measures["shortfall"] == 0
        for limit in limits[:-1]:
            kept &= limit.violation(measures[limit.name]) == 0
        verdicts.append(kept)
        assert level.tally.asked == len(drawn)
        assert level.tally.passed == truth.sum()
        assert (level.tally.bound > 0) == bounds
        passed = np.flatnonzero(kept)
        np.testing.assert_array_equal(measures["energy_mj"][passed], costs.energy_mj[passed])
    np.testing.assert_array_equal(verdicts[0], truth)
    np.testing.assert_array_equal(verdicts[1], truth)
    assert 0 < truth.sum() < len(drawn)


def test_measures_are_finite_even_of_what_cannot_run(space: JointSpace, drawn: GenomeArray) -> None:
    level = FastLevel(space)
    for name in (*level.names, "shortfall"):
        values = level.objective(name).evaluate(drawn)
        assert np.isfinite(values).all()
    assert level.tally.asked == len(drawn)  # once for all measures
    with pytest.raises(ArgumentError, match="no measure 'speed'"):
        level.objective("speed")
