"""Pairs cost what their parts cost: the same numbers as design by design."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerclock.devices.accelerators.array_pairs import ArrayPairs
from layerclock.devices.accelerators.designs import load_design, load_design_space
from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaDesign
from layerclock.devices.accelerators.fpga_pairs import FpgaPairs
from layerclock.devices.accelerators.fpga_tiling import nest_costs
from layerclock.devices.accelerators.pair_costs import accelerator_designs
from layerclock.devices.accelerators.pipeline import pipeline_costs
from layerclock.pairs import AcceleratorDesigns
from layerclock.plugins import load_space
from layerclock.space import SiteIndex, sample

EXAMPLES = Path(__file__).parents[3] / "examples"
CELLS = "nas-bench-201:channels=8,cells=1,resolution=8"
ARRAYS = """
kind: array
rows: [8, 16]
columns: 8
dataflow: [weight-stationary, output-stationary]
input_sram_kb: 64
weight_sram_kb: 64
output_sram_kb: 64
clock_mhz: 200
"""


def test_a_pair_costs_what_its_network_costs_on_its_design(tmp_path: Path) -> None:
    space = load_space(CELLS)
    pairs = accelerator_designs(EXAMPLES / "fpga-pipeline.yaml", space)
    assert isinstance(pairs, FpgaPairs)
    assert isinstance(pairs, AcceleratorDesigns)
    index = SiteIndex.of(space)
    generator = np.random.default_rng(0)
    networks, designs = sample(index, 12, generator), sample(SiteIndex(pairs.genes, pairs.sites), 12, generator)
    built, costs = pairs.build(designs), pairs.costs(networks, designs)
    for row in range(12):
        pairs.write(designs[row], tmp_path / "design.yaml")
        design = load_design(tmp_path / "design.yaml")
        assert isinstance(design, FpgaDesign)
        assert (built.shortfall[row] == 0) == (not design.shortfalls)
        batch = FpgaBatch.of([design])
        sequence = pairs.nests.sequences(index, networks[row : row + 1])
        alone = pipeline_costs(sequence, nest_costs(pairs.nests.nests, batch.engines), batch)
        assert costs.energy_mj[row] == pytest.approx(alone.energy_pj[0] * 1e-9)
        assert costs.interval_ms[row] == pytest.approx(alone.interval_ns[0] * 1e-6)
        assert costs.cycles[row] == pytest.approx(alone.cycles[0])
    assert np.isfinite(costs.energy_mj).any()


def test_arrays_are_pairs_too(tmp_path: Path) -> None:
    pytest.importorskip("zigzag", reason="costs of arrays need zigzag-dse, which the extra zigzag brings")
    path = tmp_path / "arrays.yaml"
    path.write_text(ARRAYS)
    space = load_space(CELLS)
    pairs = ArrayPairs(space, load_design_space(path))
    assert isinstance(pairs, AcceleratorDesigns)
    networks = np.array([[1, 1, 1, 1, 1, 1], [2, 1, 1, 3, 1, 1], [3, 3, 3, 3, 3, 3], [3, 0, 0, 0, 0, 0]])
    designs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    least, costs = pairs.bounds(networks, designs), pairs.costs(networks, designs)
    for name in ("cycles", "interval_ms", "latency_ms", "energy_mj"):
        assert (getattr(least, name) <= getattr(costs, name)).all()
        assert np.isfinite(getattr(costs, name)).all()
    assert (costs.utilisation < 1).all()
    np.testing.assert_array_equal(costs.latency_ms, costs.cycles / 200e3)
    assert pairs.build(designs).resources["multipliers"].tolist() == [64, 64, 128, 128]
    pairs.write(designs[2], tmp_path / "array.yaml")
    assert load_design(tmp_path / "array.yaml").rows == 16  # type: ignore[union-attr]
