"""The costs by ZigZag: near its full search, kept between processes, and infinite where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from layerclock.devices.accelerators.array_design import DATAFLOWS, ArrayDesign
from layerclock.devices.accelerators.cost_cache import CostCache
from layerclock.devices.accelerators.designs import design_digest
from layerclock.devices.accelerators.workload import LoopNest
from layerclock.devices.conformance import check_device
from layerclock.plugins import open_device

if TYPE_CHECKING:
    from layerclock.interfaces import ModelFile

pytest.importorskip("zigzag", reason="needs zigzag-dse: pip install 'layerclock[zigzag]'")

from layerclock.devices.accelerators.zigzag_model import zigzag_cache, zigzag_cost, zigzag_costs

ARRAY = Path(__file__).parents[3] / "examples" / "array.yaml"
DESIGN = ArrayDesign(16, 16, "weight-stationary", 64, 64, 64, 200.0)
SMALL = LoopNest(1, 32, 16, 8, 8, 3, 3)
DEPTHWISE = LoopNest(1, 32, 32, 8, 8, 3, 3, groups=32)


@pytest.mark.parametrize("nest", [LoopNest(1, 24, 16, 4, 4, 1, 1), LoopNest(1, 10, 32, 1, 1, 1, 1)])
def test_few_orders_come_near_the_full_search(nest: LoopNest) -> None:
    cycles, energy = zigzag_cost(nest, DESIGN)
    best_cycles, best_energy = zigzag_cost(nest, DESIGN, every_order=True)
    assert best_cycles <= cycles <= 1.05 * best_cycles
    assert energy == pytest.approx(best_energy, rel=0.2)


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
def test_no_dataflow_is_faster_than_its_multipliers(dataflow: str) -> None:
    design = replace(DESIGN, dataflow=dataflow)
    for nest in (SMALL, DEPTHWISE):
        cycles, energy = zigzag_cost(nest, design)
        assert nest.macs / 256 <= cycles < np.inf
        assert energy > 0.2 * nest.macs


def test_dataflows_are_good_at_what_they_are_for() -> None:
    depthwise = replace(DESIGN, dataflow="depthwise")
    assert zigzag_cost(DEPTHWISE, depthwise)[0] < zigzag_cost(DEPTHWISE, DESIGN)[0] / 4
    assert zigzag_cost(SMALL, DESIGN)[0] < zigzag_cost(SMALL, depthwise)[0] / 4


def test_more_hardware_costs_fewer_cycles() -> None:
    cycles = [zigzag_cost(SMALL, replace(DESIGN, dram_bits=bits))[0] for bits in (16, 64, 256)]
    assert cycles[0] > cycles[1] > cycles[2]


def test_what_fits_no_memory_takes_for_ever_and_is_remembered(tmp_path: Path) -> None:
    # The weights of one tap of a whole array are 64 x 64 bytes, and the memory for them has 1 kB.
    tight = replace(DESIGN, rows=64, columns=64, weight_sram_kb=1)
    nest = LoopNest(1, 64, 64, 4, 4, 1, 1)
    costs = zigzag_costs([nest], [tight], CostCache(tmp_path))
    assert np.isinf(costs.cycles).all()
    assert CostCache(tmp_path).get((design_digest(tight), nest.key)) == (np.inf, np.inf)


def test_pairs_are_computed_once(tmp_path: Path) -> None:
    other = replace(DESIGN, dram_bits=128)
    costs = zigzag_costs([SMALL, DEPTHWISE, SMALL], [DESIGN, other], CostCache(tmp_path))
    again = CostCache(tmp_path)
    assert len(again) == 4
    again.add({(design_digest(DESIGN), SMALL.key): (1.0, 1.0)})  # known already: nothing changes
    assert np.array_equal(zigzag_costs([SMALL, DEPTHWISE, SMALL], [DESIGN, other], again).cycles, costs.cycles)
    assert costs.cycles[0, 0] == zigzag_cost(SMALL, DESIGN)[0]
    assert len(list(tmp_path.iterdir())) == 1


def test_many_parts_become_one_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    cache = CostCache(tmp_path)
    for number in range(40):
        cache.add({("design", str(number)): (float(number), 1.0)})
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    assert len(CostCache(tmp_path)) == 40
    (part,) = tmp_path.glob("*.parquet")
    assert pa.parquet.read_table(part).num_rows == 40


def test_an_array_is_a_device_that_keeps_every_rule(tiny_model: ModelFile) -> None:
    device = open_device(f"sim:zigzag@{ARRAY}")
    assert [finding for finding in check_device(device, tiny_model) if not finding.kept] == []
    assert device.target.precision == "int8"
    session = device.load(tiny_model)
    assert session.run() == pytest.approx(session.kernel_times(1).samples_ns.sum(), abs=1)
    assert len(zigzag_cache()) > 0
