"""The bound is never above the model, and near it where nothing but the multipliers or one port binds."""

from __future__ import annotations

import numpy as np

from layerclock.devices.accelerators.fpga_tiling import EngineColumns, nest_costs
from layerclock.devices.accelerators.roofline import least_costs, least_cycles
from layerclock.devices.accelerators.workload import LoopNest


def test_no_engine_is_faster_than_its_roofline() -> None:
    generator = np.random.default_rng(0)
    nests = []
    for _ in range(60):
        groups = int(generator.choice([1, 1, 2, 8]))
        channels = groups * generator.integers(1, 9, 2)
        numbers = [int(generator.integers(1, 3)), *map(int, channels), *map(int, generator.integers(1, [12, 12, 4, 4, 3, 3, 3, 3])), groups]
        nests.append(LoopNest(*numbers))
    ranges = ((0, 9), (0, 5), (0, 9), (0, 4), (0, 4), (1, 9), (1, 9), (1, 9), (5, 90), (1, 60), (1, 30))
    columns = [generator.integers(low, high, 200) for low, high in ranges] + [np.full(200, 16)]
    engines = EngineColumns(*columns)
    least, found = least_cycles(nests, engines), nest_costs(nests, engines)
    cycles = found.cycles
    energy = least_costs(nests, engines).energy_pj
    assert (energy <= found.energy_pj).all()
    assert np.median(energy[np.isfinite(cycles)] / found.energy_pj[np.isfinite(cycles)]) > 0.2
    assert (least <= cycles).all()
    both = np.isfinite(cycles)
    assert 0.1 < both.mean() < 1
    assert np.median(least[both] / cycles[both]) > 0.5


def test_where_only_the_multipliers_bind_the_bound_is_the_compute_time() -> None:
    # 16 pixels x 9 taps x 2 rounds x 2 passes; the model takes tiles of one pixel, and adds a phase of 9 and a store of 1.
    engine = EngineColumns(*(np.array([number]) for number in (4, 3, 0, 0, 0, 512, 512, 512, 1000, 9, 1000, 16)))
    nest = LoopNest(1, 8, 6, 4, 4, 3, 3)
    assert least_cycles([nest], engine).tolist() == [[576.0]]
    assert nest_costs([nest], engine).cycles[0, 0] == 576 + 9 + 1
