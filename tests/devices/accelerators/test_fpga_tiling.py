"""The closed-form model: against cases worked on paper, against loops that walk every tile, and against exhaustive search."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np
import pytest

from layerclock.devices.accelerators.fpga_tiling import AUTO, EngineColumns, Ports, TileBudget, best_tile, dsp_per_mac, nest_costs
from layerclock.devices.accelerators.workload import LoopNest
from layerclock.errors import ArgumentError

PLENTY = 1_000_000
DENSE = LoopNest(1, 8, 6, 4, 4, 3, 3)
DEPTHWISE = LoopNest(1, 8, 8, 4, 4, 3, 3, groups=8)


def engine(
    tm: int,
    tn: int,
    tr: int,
    tc: int,
    ports: tuple[int, int, int],
    lanes: int = 0,
    words: tuple[int, int, int] = (PLENTY,) * 3,
    bits: int = 16,
) -> EngineColumns:
    numbers = (tm, tn, lanes, tr, tc, *ports, *words, bits)
    return EngineColumns(*(np.array([number], dtype=np.int64) for number in numbers))


def walked(nest: LoopNest, tm: int, tn: int, tr: int, tc: int, ports: tuple[int, int, int], lanes: bool = False) -> int:
    """Cycles of a layer by walking over its tiles, one after another; ``tm`` counts lanes if they work."""
    groups = 1 if lanes else nest.groups
    outs, depth = nest.out_channels // groups, 1 if lanes else nest.in_channels // groups
    ys = [y * nest.stride_y + f * nest.dilation_y for y in range(tr) for f in range(nest.filter_y)]
    xs = [x * nest.stride_x + f * nest.dilation_x for x in range(tc) for f in range(nest.filter_x)]
    area = (max(ys) - min(ys) + 1) * (max(xs) - min(xs) + 1)
    moved_m, moved_n = min(tm, outs), min(tn, depth)
    compute = sum(1 for _ in product(range(nest.filter_y), range(nest.filter_x), range(tr), range(tc)))
    inputs, weights = (moved_m if lanes else moved_n) * area, moved_m * moved_n * nest.filter_y * nest.filter_x
    phase = max(compute, ceil(inputs / ports[0]), ceil(weights / ports[1]))
    store = ceil(moved_m * tr * tc / ports[2])
    total = 0
    for _ in product(range(nest.batch), range(groups), range(0, nest.out_y, tr), range(0, nest.out_x, tc), range(0, outs, tm)):
        total += max(sum(phase for _ in range(0, depth, tn)), store)
    return total + phase + store


# fmt: off
ON_PAPER = [
    # 4x4 inputs for a 2x2 tile. Inputs 3*16/2 = 24, weights 4*3*9/3 = 36, compute 9*4 = 36: phase 36. Store 4*4/1 = 16.
    # Two rounds of 36 = 72 > 16; 2*2*2 tiles of 72 = 576; + 36 + 16.
    (DENSE, engine(4, 3, 2, 2, (2, 3, 1)), 628),
    # Wide ports: phase is compute, 36; store 4*4/16 = 1. 8*72 = 576; + 36 + 1.
    (DENSE, engine(4, 3, 2, 2, (64, 64, 16)), 613),
    # Whole layer in one tile: inputs 6*36/4 = 54, weights 8*6*9/4 = 108, compute 9*16 = 144: 144. Store 8*16/4 = 32. 144 + 144 + 32.
    (DENSE, engine(8, 6, 4, 4, (4, 4, 4)), 320),
    # Larger than the layer: only 8 and 6 channels are moved, so as before.
    (DENSE, engine(64, 64, 4, 4, (4, 4, 4)), 320),
    # Storing binds: phase max(9, inputs 6*9/8 = 7, weights 8*6*9/64 = 7) = 9; store 8/1 = 8; 16*9 = 144; + 9 + 8.
    (DENSE, engine(8, 6, 1, 1, (8, 64, 1)), 161),
    # 1x1 filter, so storing binds more than computing: compute 4, inputs 4*4/4 = 4, weights 4*4/4 = 4, store 4*4/1 = 16.
    # 2*2*2 tiles of max(1*4, 16) = 128; + 4 + 16.
    (LoopNest(1, 8, 4, 4, 4, 1, 1), engine(4, 4, 2, 2, (4, 4, 1)), 148),
    # Stride 2: a 2x2 tile reads (2-1)*2+3 = 5x5. Inputs 3*25/1 = 75 bind over 36. 8 tiles of 2*75 = 1200; + 75 + 16.
    (LoopNest(1, 8, 6, 4, 4, 3, 3, 2, 2), engine(4, 3, 2, 2, (1, 64, 1)), 1291),
    # Dilation 2: (2-1)+(3-1)*2+1 = 6x6. Inputs 3*36/1 = 108. 8*216 = 1728; + 108 + 16.
    (LoopNest(1, 8, 6, 4, 4, 3, 3, dilation_y=2, dilation_x=2), engine(4, 3, 2, 2, (1, 64, 1)), 1852),
    # Batch 3: 3*576 and one fill.
    (LoopNest(3, 8, 6, 4, 4, 3, 3), engine(4, 3, 2, 2, (2, 3, 1)), 1780),
    # Ragged tiles count whole: ceil(4/3)^2 = 4 spatial tiles, ceil(8/5) = 2, ceil(6/4) = 2 rounds. Compute 9*9 = 81, inputs 4*25/8 = 13,
    # weights 5*4*9/8 = 23; store 5*9/8 = 6. 8*162 = 1296; + 81 + 6.
    (DENSE, engine(5, 4, 3, 3, (8, 8, 8)), 1383),
    # A product: 1000 x 1280 on 64 x 16. Weights 64*16/16 = 64 bind; store 64/4 = 16. ceil(1000/64) = 16 tiles of 80*64 = 81920; + 64 + 16.
    (LoopNest(1, 1000, 1280, 1, 1, 1, 1), engine(64, 16, 1, 1, (8, 16, 4)), 82000),
    # Lanes: four channels at once, 4*16/2 = 32 inputs, 4*9/3 = 12 weights, compute 36; store 16. 2*2*2 tiles of 36 = 288; + 36 + 16.
    (DEPTHWISE, engine(4, 3, 2, 2, (2, 3, 1), lanes=4), 340),
    # No lanes: eight groups of one channel each. Inputs 16/2 = 8, weights 9/3 = 3, compute 36; store 4/1 = 4. 8*4 tiles of 36; + 36 + 4.
    (DEPTHWISE, engine(4, 3, 2, 2, (2, 3, 1)), 1192),
    # Lanes alone, storing binds: compute 9, inputs 8*9/64 = 2, store 8/1 = 8. 16 tiles of 9; + 9 + 8.
    (DEPTHWISE, engine(0, 0, 1, 1, (64, 64, 1), lanes=8), 161),
    # Two groups of 4 -> 4 channels, each a convolution on 4 x 4: compute 36, inputs 4*16/16 = 4, weights 16*9/16 = 9; store 16/16 = 1.
    # 2*4 tiles of 36 = 288; + 36 + 1.
    (LoopNest(1, 8, 8, 4, 4, 3, 3, groups=2), engine(4, 4, 2, 2, (16, 16, 16)), 325),
    # A channel multiplier of 2: 16 outputs of 8 groups, 8 lanes, one tile of 4x4: compute 144; store 128/8 = 16. 2*144 + 144 + 16.
    (LoopNest(1, 16, 8, 4, 4, 3, 3, groups=8), engine(0, 0, 4, 4, (64, 64, 8), lanes=8), 448),
    # One axis: 1x5 filter over 16 pixels, tile 8: reads 12. Compute 40, inputs 2*12/1 = 24, weights 4*2*5/8 = 5; store 4*8/8 = 4.
    # 2 spatial tiles, 1 of outputs, 3 rounds of 40 = 120: 240; + 40 + 4.
    (LoopNest(1, 4, 6, 1, 16, 1, 5), engine(4, 2, 1, 8, (1, 8, 8)), 284),
    # AlexNet's first layer on the engine of Zhang et al. (64 x 7, tiles of 8 x 8) with ports that never bind: 7*7*1*(121*64) + 7744 + 1.
    (LoopNest(1, 48, 3, 55, 55, 11, 11, 4, 4), engine(64, 7, 8, 8, (4096, 4096, 4096)), 387201),
    # Their second, N = 48 -> M = 128, 27x27, 5x5: ceil(27/8)^2 = 16, 2 of 64, 7 rounds of 25*64 = 1600: 358400; + 1600 + 1.
    (LoopNest(1, 128, 48, 27, 27, 5, 5), engine(64, 7, 8, 8, (65536, 65536, 4096)), 360001),
    # Their third, 256 -> 192 at 13x13: 4 * 3 * 37 rounds of 9*64 = 576: 255744; + 576 + 1.
    (LoopNest(1, 192, 256, 13, 13, 3, 3), engine(64, 7, 8, 8, (65536, 65536, 4096)), 256321),
]
# fmt: on


@pytest.mark.parametrize(("nest", "on", "cycles"), ON_PAPER)
def test_a_layer_takes_what_was_worked_on_paper(nest: LoopNest, on: EngineColumns, cycles: int) -> None:
    assert nest_costs([nest], on).cycles.tolist() == [[cycles]]


def test_layers_take_what_a_walk_over_their_tiles_takes() -> None:
    generator = np.random.default_rng(0)
    for _ in range(60):
        groups = int(generator.choice([1, 1, 2, 4]))
        out, inner = groups * int(generator.integers(1, 9)), groups * int(generator.integers(1, 5))
        batch, *sizes = [int(generator.integers(1, high)) for high in (3, 9, 9, 4, 4, 3, 3, 3, 3)]
        numbers = [batch, out, inner, *sizes, groups]
        nest = LoopNest(*numbers)
        tm, tn, lanes = (int(generator.integers(1, 7)) for _ in range(3))
        tr, tc = int(generator.integers(1, nest.out_y + 1)), int(generator.integers(1, nest.out_x + 1))
        ports = (int(generator.integers(1, 9)), int(generator.integers(1, 9)), int(generator.integers(1, 9)))
        found = nest_costs([nest], engine(tm, tn, tr, tc, ports, lanes)).cycles[0, 0]
        expected = walked(nest, lanes, 1, tr, tc, ports, lanes=True) if nest.depthwise else walked(nest, tm, tn, tr, tc, ports)
        assert found == expected, nest


@pytest.mark.parametrize("nest", [DENSE, DEPTHWISE, LoopNest(2, 8, 6, 9, 5, 3, 1, 2, 1), LoopNest(1, 7, 5, 12, 12, 1, 1, 2, 2)])
def test_an_automatic_tile_is_the_best_of_all_that_fit(nest: LoopNest) -> None:
    ports, words = (3, 4, 2), (40, 9, 20)
    found = nest_costs([nest], engine(3, 2, AUTO, AUTO, ports, 3, words))
    alone = [
        nest_costs([nest], engine(3, 2, tr, tc, ports, 3, words)).cycles[0, 0]
        for tr, tc in product(range(1, nest.out_y + 1), range(1, nest.out_x + 1))
    ]
    assert found.cycles[0, 0] == min(alone) < max(alone)
    chosen = engine(3, 2, int(found.tr[0, 0]), int(found.tc[0, 0]), ports, 3, words)
    assert nest_costs([nest], chosen).cycles[0, 0] == found.cycles[0, 0]


@pytest.mark.parametrize("nest", [LoopNest(1, 6, 4, 5, 5, 3, 3), LoopNest(1, 6, 6, 5, 4, 3, 3, groups=6), LoopNest(1, 5, 3, 4, 6, 1, 1)])
@pytest.mark.parametrize(("dsp", "bram"), [(PLENTY, PLENTY), (7, PLENTY), (12, 20)])
def test_the_best_tiling_is_that_of_an_exhaustive_search(nest: LoopNest, dsp: int, bram: int) -> None:
    best = best_tile(nest, TileBudget(dsp, bram, Ports(3, 5, 2)))
    lanes = nest.depthwise
    depth = 1 if lanes else nest.in_channels
    cycles = []
    for tm, tn, tr, tc in product(range(1, nest.out_channels + 1), range(1, depth + 1), range(1, nest.out_y + 1), range(1, nest.out_x + 1)):
        # All tiles of these layers fit one memory block a bank, both halves together.
        blocks = (tm if lanes else tn) + tm + tm * tn
        if tm * tn <= dsp and blocks <= bram:
            cycles.append(walked(nest, tm, tn, tr, tc, (3, 5, 2), lanes))
    assert best.cycles == min(cycles)
    assert best.dsp <= dsp
    assert best.bram <= bram
    assert best.cycles == walked(nest, best.tm, best.tn, best.tr, best.tc, (3, 5, 2), lanes)


def test_what_fits_no_engine_is_said() -> None:
    with pytest.raises(ArgumentError, match="fits into no engine"):
        best_tile(DENSE, TileBudget(100, 2, Ports(1, 1, 1)))


def test_an_engine_that_cannot_run_a_layer_takes_for_ever() -> None:
    ports = (4, 4, 4)
    assert np.isinf(nest_costs([DENSE], engine(0, 0, AUTO, AUTO, ports, lanes=8)).cycles)  # no multipliers
    assert np.isinf(nest_costs([DENSE], engine(4, 4, AUTO, AUTO, ports, words=(PLENTY, 8, PLENTY))).cycles)  # nine taps
    assert np.isinf(nest_costs([DENSE], engine(4, 4, AUTO, AUTO, ports, words=(8, 9, PLENTY))).cycles)  # nine inputs of a pixel
    assert np.isinf(nest_costs([DENSE], engine(4, 4, 2, 2, ports, words=(PLENTY, 9, 3))).energy_pj)  # four outputs
    assert np.isfinite(nest_costs([DENSE], engine(4, 4, AUTO, AUTO, ports, words=(9, 9, 1))).cycles)


def test_energy_is_that_of_its_parts() -> None:
    # One tile, as in the third case on paper: 6*36 inputs, 8*6*9 weights and 8*16 outputs move; the weights are read once, and in 144
    # cycles 6 inputs and 8 sums, read and written, each.
    macs, moved, buffered = 16 * 8 * 6 * 9, 216 + 432 + 128, 432 + 144 * (6 + 16)
    expected = macs * (3.1 / 4 + 0.1 / 2) + 2 * (moved * 162.5 + buffered * 1.25)
    costs = nest_costs([DENSE], engine(8, 6, 4, 4, (4, 4, 4)))
    assert costs.energy_pj[0, 0] == pytest.approx(expected)
    assert costs.moved_words[0, 0] == moved


def test_resources_by_hand() -> None:
    # 8 x 4 multipliers at 8 bits: 16 blocks, and 3 lanes 1.5: 18. A bank of 1152 words, twice, is 2*1152*8 bits = 1 block, of 1153 two.
    one = engine(8, 4, AUTO, AUTO, (8, 4, 2), 3, (1153, 9, 1152), bits=8)
    assert one.dsp.tolist() == [18]
    assert one.bram.tolist() == [4 * 2 + 32 * 1 + 8 * 1 + 3 * (2 + 1 + 1)]
    assert one.port_bits.tolist() == [14 * 8]
    assert dsp_per_mac([4, 8, 16, 32]).tolist() == [0.25, 0.5, 1.0, 5.0]


def test_many_at_once_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(1)
    count = 40
    columns = [generator.integers(low, high, count) for low, high in ((0, 9), (0, 5), (0, 9), (0, 3), (0, 3), (1, 9), (1, 9), (1, 9))]
    words = [generator.integers(low, high, count) for low, high in ((5, 60), (5, 60), (1, 30))]
    numbers = [*columns, *words, generator.choice([4, 8, 16, 32], count)]
    engines = EngineColumns(*numbers)
    nests = [DENSE, DEPTHWISE, LoopNest(1, 8, 6, 7, 9, 3, 3, 2, 2), LoopNest(1, 4, 8, 1, 1, 1, 1)]
    together = nest_costs(nests, engines)
    names = list(EngineColumns.__dataclass_fields__)
    for number in range(count):
        single = EngineColumns(*(getattr(engines, name)[number : number + 1] for name in names))
        for row, nest in enumerate(nests):
            alone = nest_costs([nest], single)
            assert alone.cycles[0, 0] == together.cycles[row, number]
            assert alone.energy_pj[0, 0] == together.energy_pj[row, number]
    assert np.isinf(together.cycles).any()
    assert np.isfinite(together.cycles).any()
