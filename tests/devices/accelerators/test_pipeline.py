"""The cut of a network over stages is the best of all cuts, and its costs are sums of its layers' costs."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest

from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaBoard, FpgaDesign, FpgaStage
from layerclock.devices.accelerators.fpga_tiling import nest_costs
from layerclock.devices.accelerators.pipeline import cut, pipeline_costs
from layerclock.devices.accelerators.workload import LoopNest
from layerclock.errors import ArgumentError

BOARD = FpgaBoard(dsp=4000, bram=8000, bus_bits=4096, bandwidth_gb_s=400, clock_mhz=100, static_w=2.0)
DENSE = FpgaStage(16, 8, 8, 8, 8)
LANES = FpgaStage(0, 0, 8, 8, 8, lanes=16)
NESTS = [LoopNest(1, 16, 8, 8, 8, 3, 3), LoopNest(1, 16, 16, 8, 8, 3, 3, groups=16), LoopNest(1, 32, 16, 8, 8, 1, 1)]


def exhaustive(times: np.ndarray) -> float:
    """The least largest sum over all ways to cut one network."""
    layers, stages = times.shape
    best = np.inf
    for inner in combinations_with_replacement(range(layers + 1), stages - 1):
        starts = (0, *inner, layers)
        best = min(best, max(times[starts[stage] : starts[stage + 1], stage].sum() for stage in range(stages)))
    return float(best)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_the_cut_is_the_best_of_all(stages: int) -> None:
    generator = np.random.default_rng(stages)
    times = generator.integers(0, 20, (60, 7, stages)).astype(float)
    times[generator.random(times.shape) < 0.1] = np.inf
    found = cut(times)
    assert found.slowest.tolist() == [exhaustive(one) for one in times]
    assert np.isfinite(found.slowest).any()
    for one, starts, slowest in zip(times, found.starts, found.slowest, strict=True):
        sums = [one[starts[stage] : starts[stage + 1], stage].sum() for stage in range(stages)]
        assert max(sums) == slowest
        assert starts[0] == 0
        assert (np.diff(starts) >= 0).all()


def test_times_that_are_none_are_refused() -> None:
    for wrong in (np.zeros((2, 3)), np.zeros((1, 2, 0)), np.full((1, 1, 1), -1.0), np.full((1, 1, 1), np.nan)):
        with pytest.raises(ArgumentError, match="layers on stages"):
            cut(wrong)


def test_a_pipeline_costs_what_its_layers_cost() -> None:
    design = FpgaDesign((BOARD,), (DENSE, LANES, DENSE))
    batch = FpgaBatch.of([design])
    assert design.shortfalls == ()
    costs = nest_costs(NESTS, batch.engines)
    found = pipeline_costs(np.array([[0, 1, 2, -1]]), costs, batch)
    dense, lanes = batch.engine[0, 0], batch.engine[0, 1]
    times = [costs.cycles[0, dense] * 10, costs.cycles[1, lanes] * 10, costs.cycles[2, dense] * 10]
    assert found.feasible.all()
    assert found.interval_ns[0] == max(times)
    assert found.latency_ns[0] == sum(times)
    assert found.throughput_per_s[0] == pytest.approx(1e9 / max(times))
    assert found.utilisation[0] == pytest.approx(sum(times) / (3 * max(times)))
    dynamic = costs.energy_pj[0, dense] + costs.energy_pj[1, lanes] + costs.energy_pj[2, dense]
    assert found.energy_pj[0] == pytest.approx(dynamic + 2.0 * max(times) * 1e3)


def test_what_no_stage_can_run_in_its_turn_is_not_feasible() -> None:
    pointwise = FpgaStage(16, 8, 8, 8, 8, weight_words=1)
    batch = FpgaBatch.of([FpgaDesign((BOARD,), (LANES, pointwise))])
    costs = nest_costs(NESTS, batch.engines)
    found = pipeline_costs(np.array([[1, 2], [2, 1], [0, 2]]), costs, batch)
    assert found.feasible.tolist() == [True, False, False]  # the second has the stages' order against it, the third no stage
    assert np.isinf(found.interval_ns[1:]).all()
    assert found.throughput_per_s[1:].tolist() == [0.0, 0.0]
    assert found.utilisation[1:].tolist() == [0.0, 0.0]


def test_a_design_beyond_its_board_is_not_feasible() -> None:
    small = FpgaBoard(dsp=200, bram=100, bus_bits=256, bandwidth_gb_s=1, clock_mhz=100)
    design = FpgaDesign((small,), (DENSE, LANES))
    assert [text.split(",")[0] for text in design.shortfalls] == ["board 0 has 100 BRAM", "board 0 has 80 port bits a cycle"]
    batch = FpgaBatch.of([design, FpgaDesign((BOARD, small), (DENSE, LANES))])
    assert batch.feasible.tolist() == [False, True]
    assert batch.dsp.tolist() == [[144, 0], [144, 0]]
    found = pipeline_costs(np.array([[0, 1, 2]]), nest_costs(NESTS, batch.engines), batch)
    assert found.feasible.tolist() == [False, True]
    assert np.isinf(found.energy_pj[0])
