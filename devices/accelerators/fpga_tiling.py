"""The closed-form model of tiled convolution on an FPGA: cycles, resources and energy of loop nests on engines.

Zhang et al., "Optimizing FPGA-based Accelerator Design for Deep Convolutional Neural Networks", FPGA 2015 (sections 3 and 4): an
engine of Tm x Tn multipliers works on tiles of Tr x Tc output pixels, and double buffers overlap loading, computing and storing. With
ports of Ip, Wp and Op elements a cycle, as in Jiang et al., "Hardware/Software Co-Exploration of Neural Architectures"
(arXiv:1907.04650) and "Standing on the Shoulders of Giants: Hardware and Neural Architecture Co-Search with Hot Start" (HotNAS,
TCAD 2020), for M output and N input channels, an R x C output and Fy x Fx taps::

    compute = Fy Fx Tr Tc    load = max(ceil(Tn Hr Hc / Ip), ceil(Tm Tn Fy Fx / Wp))    store = ceil(Tm Tr Tc / Op)
    phase   = max(compute, load)
    tile    = max(ceil(N / Tn) phase, store)
    cycles  = batch groups ceil(R / Tr) ceil(C / Tc) ceil(M / Tm) tile + phase + store

``Hr = (Tr - 1) stride + (Fy - 1) dilation + 1`` input rows are read for a tile; where a layer has fewer channels than the engine, only
those are moved. A depthwise convolution runs on lanes of their own, Td channels at once, with no loop over N. Where an engine has no
lanes, its groups run one after another on the multipliers. Transfers take whole cycles (the papers divide without rounding).

Left out: element-wise operators, pooling, what one layer could leave on the chip for the next, and all control.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.accelerators.horowitz import DRAM_PJ_PER_BYTE, SRAM_PJ_PER_BYTE, mac_pj
from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.devices.accelerators.workload import LoopNest

__all__ = ["AUTO", "BRAM_BITS", "EngineColumns", "NestCosts", "Ports", "TileBudget", "TileChoice", "best_tile", "dsp_per_mac", "nest_costs"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# The tile side that stands for "the best one for each layer".
AUTO = 0
# A block of memory as FPGA makers count it.
BRAM_BITS = 18 * 1024
# Pairs of a design and a tile that are worked on at once: small enough to stay in the processor's cache.
_AT_ONCE = 60_000
# Engines that are tried first when the best is sought; their best rules out most others.
_FIRST = 32
_NEVER = np.iinfo(np.int64).max

# Multiplier blocks for a multiply-accumulate: five in floating point (Zhang et al., 2015), one in 16 bits, and two or four products in
# one block at 8 and 4 bits (Xilinx WP486 and WP521).
_DSP_PER_MAC = {4: 0.25, 8: 0.5, 16: 1.0, 32: 5.0}


def dsp_per_mac(bits: npt.ArrayLike) -> FloatArray:
    """Multiplier blocks that one multiply-accumulate a cycle takes, for element widths in bits (4, 8, 16 or 32)."""
    widths, positions = np.unique(np.asarray(bits), return_inverse=True)
    return np.array([_DSP_PER_MAC[int(width)] for width in widths])[positions]


@dataclass(frozen=True, slots=True)
class Ports:
    """Elements that move between the engine and off-chip memory in a cycle."""

    input: int
    weight: int
    output: int


@dataclass(frozen=True, slots=True)
class EngineColumns:
    """``D`` engines as columns, int64[D] each.

    ``tm`` x ``tn`` multipliers (0: none) and ``lanes`` for depthwise convolutions (0: none); ``tr`` and ``tc``, the tile's sides, or
    :data:`AUTO`; the ports in elements a cycle; the depth of each buffer bank in elements: ``tn`` banks of ``input_words``, ``tm`` of
    ``output_words`` and ``tm * tn`` of ``weight_words``, each twice, and ``lanes`` of each for the lanes; ``bits`` an element.
    """

    tm: IntArray
    tn: IntArray
    lanes: IntArray
    tr: IntArray
    tc: IntArray
    input_port: IntArray
    weight_port: IntArray
    output_port: IntArray
    input_words: IntArray
    weight_words: IntArray
    output_words: IntArray
    bits: IntArray

    def __len__(self) -> int:
        return len(self.tm)

    @property
    def dsp(self) -> IntArray:
        """Multiplier blocks of each engine."""
        return np.ceil(dsp_per_mac(self.bits) * (self.tm * self.tn + self.lanes)).astype(np.int64)

    @property
    def bram(self) -> IntArray:
        """Memory blocks of each engine: both halves of a double buffer share a bank's blocks, one port fills and one reads."""
        blocks = [_ceil(2 * words * self.bits, BRAM_BITS) for words in (self.input_words, self.weight_words, self.output_words)]
        dense = self.tn * blocks[0] + self.tm * self.tn * blocks[1] + self.tm * blocks[2]
        total: IntArray = np.where(self.tm * self.tn > 0, dense, 0) + self.lanes * (blocks[0] + blocks[1] + blocks[2])
        return total

    @property
    def port_bits(self) -> IntArray:
        """Bits that each engine moves in a cycle at most."""
        return (self.input_port + self.weight_port + self.output_port) * self.bits


@dataclass(frozen=True, slots=True)
class NestCosts:
    """Costs of L loop nests on D engines, float64[L, D] each: infinite where an engine cannot run one.

    ``tr`` and ``tc`` int64[L, D] are the tiles' sides (0 where infeasible); ``moved_words`` are the elements that pass the ports.
    """

    cycles: FloatArray
    energy_pj: FloatArray
    moved_words: FloatArray
    tr: IntArray
    tc: IntArray


def nest_costs(nests: Sequence[LoopNest], engines: EngineColumns) -> NestCosts:
    """Cycles and energy of every loop nest on every engine, with the tile that takes the fewest cycles where it is :data:`AUTO`.

    The energy is that of multiply-accumulates, of the buffers (an input element for each column of multipliers and cycle, a partial
    sum read and written for each row, a weight once for each tile) and of off-chip transfers; see
    :mod:`~layerclock.devices.accelerators.horowitz`. Static power is the design's.
    """
    shape = (len(nests), len(engines))
    cycles, energy, moved = (np.full(shape, np.inf) for _ in range(3))
    tr, tc = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    automatic = (engines.tr == AUTO) | (engines.tc == AUTO)
    for row, nest in enumerate(nests):
        tiles = _spatial_tiles(nest.out_y, nest.out_x, *_window(nest))
        chunk = max(1, _AT_ONCE // len(tiles))
        for columns in _chunks(np.flatnonzero(automatic), chunk):
            _choose(nest, engines, columns, tiles[None], (cycles[row], energy[row], moved[row], tr[row], tc[row]))
        for columns in _chunks(np.flatnonzero(~automatic), _AT_ONCE):
            fixed = _with_areas(np.minimum(engines.tr[columns], nest.out_y), np.minimum(engines.tc[columns], nest.out_x), nest)
            _choose(nest, engines, columns, fixed[:, None], (cycles[row], energy[row], moved[row], tr[row], tc[row]))
    return NestCosts(cycles, energy, moved, tr, tc)


def _choose(
    nest: LoopNest, engines: EngineColumns, columns: IntArray, tiles: IntArray, into: tuple[npt.NDArray[np.float64 | np.int64], ...]
) -> None:
    """Write the costs on the engines ``columns`` with the best of ``tiles`` int64[1 or D, P, 5] into the rows of the result."""
    part = EngineColumns(*(getattr(engines, name)[columns, None] for name in EngineColumns.__dataclass_fields__))
    lanes = nest.depthwise & (part.lanes > 0)
    tm, tn = np.where(lanes, part.lanes, part.tm), np.where(lanes, 1, part.tn)
    runs = (tm > 0) & (tn > 0) & (nest.filter_y * nest.filter_x <= part.weight_words)
    safe = _Engine(np.maximum(tm, 1), np.maximum(tn, 1), lanes, part.input_port, part.weight_port, part.output_port)
    costs = _tiled(nest, safe, tiles)
    fits = runs & (tiles[..., 3] <= part.input_words) & (tiles[..., 2] <= part.output_words)
    feasible = np.where(fits, costs.cycles, np.inf)
    best = feasible.argmin(axis=1)
    picked = np.arange(len(columns)), best
    cycles = feasible[picked]
    fine = np.isfinite(cycles)
    bytes_each = part.bits[:, 0] / 8
    moved, buffered = costs.moved[picked], costs.buffered[picked]
    picojoules = nest.macs * mac_pj(part.bits[:, 0]) + bytes_each * (moved * DRAM_PJ_PER_BYTE + buffered * SRAM_PJ_PER_BYTE)
    sides = np.broadcast_to(tiles, (len(columns), *tiles.shape[1:]))[picked]
    for target, values in zip(into, (cycles, picojoules, moved, sides[:, 0], sides[:, 1]), strict=True):
        target[columns[fine]] = values[fine]


def _chunks(numbers: IntArray, size: int) -> list[IntArray]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


@dataclass(frozen=True, slots=True)
class _Engine:
    """What the formulas need of engines, in shapes that broadcast with the tiles'."""

    tm: IntArray
    tn: IntArray
    lanes: npt.NDArray[np.bool_]
    input_port: IntArray | int
    weight_port: IntArray | int
    output_port: IntArray | int


@dataclass(frozen=True, slots=True)
class _Tiled:
    cycles: IntArray
    moved: IntArray
    buffered: IntArray


def _tiled(nest: LoopNest, engine: _Engine, tiles: IntArray) -> _Tiled:
    """The formulas at the top; ``tiles`` int64[..., 5] are Tr, Tc, output area, input area and tiles in the layer."""
    out_area, in_area, trips = tiles[..., 2], tiles[..., 3], tiles[..., 4]
    lanes, taps = engine.lanes, nest.filter_y * nest.filter_x
    outs = np.where(lanes, nest.out_channels, nest.out_channels // nest.groups)
    depth = np.where(lanes, 1, nest.in_channels // nest.groups)
    repeats = nest.batch * np.where(lanes, 1, nest.groups)
    held_m = np.minimum(engine.tm, outs)
    held_n = np.minimum(engine.tn, depth)
    read = np.where(lanes, held_m, held_n)  # a lane has an input channel of its own
    rounds = _ceil(depth, engine.tn)
    compute = taps * out_area
    input_words, weight_words, output_words = read * in_area, held_m * held_n * taps, held_m * out_area
    load = np.maximum(_ceil(input_words, engine.input_port), _ceil(weight_words, engine.weight_port))
    store = _ceil(output_words, engine.output_port)
    phase = np.maximum(compute, load)
    passes = repeats * _ceil(outs, engine.tm) * trips
    cycles = passes * np.maximum(rounds * phase, store) + phase + store
    moved = passes * (rounds * (input_words + weight_words) + output_words)
    buffered = passes * rounds * (weight_words + compute * (read + 2 * held_m))
    return _Tiled(cycles, moved, buffered)


def _ceil(numerator: IntArray, denominator: IntArray | int) -> IntArray:
    quotient: IntArray = -(-numerator // denominator)
    return quotient


def _window(nest: LoopNest) -> tuple[int, int, int, int]:
    """Along y and x: input rows that an output row adds, and those that a single one needs."""
    reach_y, reach_x = (nest.filter_y - 1) * nest.dilation_y + 1, (nest.filter_x - 1) * nest.dilation_x + 1
    return nest.stride_y, nest.stride_x, reach_y, reach_x


def _with_areas(tr: IntArray, tc: IntArray, nest: LoopNest) -> IntArray:
    return _areas(tr, tc, nest.out_y, nest.out_x, *_window(nest))


def _areas(tr: IntArray, tc: IntArray, rows: int, columns: int, stride_y: int, stride_x: int, reach_y: int, reach_x: int) -> IntArray:
    inputs = ((tr - 1) * stride_y + reach_y) * ((tc - 1) * stride_x + reach_x)
    trips = -(-rows // tr) * -(-columns // tc)
    return np.stack([tr, tc, tr * tc, inputs, trips], axis=-1)


@lru_cache(maxsize=4096)
def _spatial_tiles(rows: int, columns: int, stride_y: int, stride_x: int, reach_y: int, reach_x: int) -> IntArray:
    """The tiles among which the best one is, whatever the engine: int64[P, 5], the fewest tiles in the layer first.

    Costs grow with the output area, the input area and the number of tiles, and depend on the sides through nothing else. So a
    side is the smallest that needs so many tiles, and of two tiles neither is worse in all three.
    """
    grid = np.array([(r, c) for r in _sides(rows) for c in _sides(columns)], dtype=np.int64)
    tiles = _areas(grid[:, 0], grid[:, 1], rows, columns, stride_y, stride_x, reach_y, reach_x)
    tiles = tiles[np.unique(tiles[:, 2:], axis=0, return_index=True)[1]]
    worth = tiles[:, 2:]
    beaten = (worth[None] <= worth[:, None]).all(axis=2).sum(axis=1) > 1
    kept: IntArray = tiles[~beaten]
    ordered: IntArray = kept[np.lexsort((kept[:, 3], kept[:, 4]))]
    return ordered


@lru_cache(maxsize=4096)
def _sides(size: int) -> tuple[int, ...]:
    """The smallest number for each number of parts that ``size`` can be cut into."""
    return tuple(sorted({-(-size // parts) for parts in range(1, size + 1)}))


@dataclass(frozen=True, slots=True)
class TileBudget:
    """What one engine may take: multiplier blocks, memory blocks, ports, and the width of an element in bits."""

    dsp: int
    bram: int
    ports: Ports
    bits: int = 16


@dataclass(frozen=True, slots=True)
class TileChoice:
    """The best tiling of one loop nest: for depthwise convolutions ``tm`` counts lanes and ``tn`` is 1."""

    tm: int
    tn: int
    tr: int
    tc: int
    cycles: int
    dsp: int
    bram: int


def best_tile(nest: LoopNest, budget: TileBudget) -> TileChoice:
    """The tiling <Tm, Tn, Tr, Tc> of fewest cycles within the budget, of all that there are: an engine made for this one layer.

    Among equals, the one with the fewest multipliers. Raises :class:`ArgumentError` if not even a single multiplier fits.
    """
    lanes, taps = nest.depthwise, nest.filter_y * nest.filter_x
    repeats, outs, depth = (1, nest.out_channels, 1) if lanes else _per_group(nest)
    sides_m, sides_n = np.array(_sides(outs)), np.array(_sides(depth))
    tm, tn = np.repeat(sides_m, len(sides_n)), np.tile(sides_n, len(sides_m))
    used = np.ceil(_DSP_PER_MAC[budget.bits] * tm * tn).astype(np.int64)
    tiles = _spatial_tiles(nest.out_y, nest.out_x, *_window(nest))
    blocks = _ceil(2 * budget.bits * tiles[:, [3, 2]], BRAM_BITS)
    weight_blocks = -(-2 * budget.bits * taps // BRAM_BITS)
    # Of those that fit with the smallest tile, by multipliers; then only those whose computing alone is not beyond the best of a few.
    least_bram = (tm if lanes else tn) * blocks[:, 0].min() + tm * blocks[:, 1].min() + tm * tn * weight_blocks
    order = np.flatnonzero((used <= budget.dsp) & (least_bram <= budget.bram))
    order = order[np.argsort(used[order], kind="stable")]
    least = nest.batch * repeats * _ceil(np.array(outs), tm[order]) * _ceil(np.array(depth), tn[order]) * taps * nest.out_y * nest.out_x

    def tried(pairs: IntArray) -> tuple[IntArray, IntArray]:
        """Cycles and memory blocks of pairs of Tm and Tn with every tile: int64[pairs, tiles]."""
        m, n = tm[pairs, None], tn[pairs, None]
        bram = (m if lanes else n) * blocks[:, 0] + m * blocks[:, 1] + m * n * weight_blocks
        engine = _Engine(m, n, np.array(lanes), budget.ports.input, budget.ports.weight, budget.ports.output)
        return np.where(bram <= budget.bram, _tiled(nest, engine, tiles).cycles, _NEVER), bram

    first, _ = tried(order[np.argsort(least)[:_FIRST]])
    order = order[least <= first.min(initial=_NEVER)]
    cycles, bram = tried(order)
    if not cycles.size or cycles.min() == _NEVER:
        raise ArgumentError(f"{nest.key} fits into no engine of {budget.dsp} DSP and {budget.bram} BRAM blocks", "allow more of either")
    row, column = divmod(int(cycles.argmin()), len(tiles))
    chosen = order[row]
    sides = tiles[column]
    return TileChoice(
        int(tm[chosen]), int(tn[chosen]), int(sides[0]), int(sides[1]), int(cycles[row, column]), int(used[chosen]), int(bram[row, column])
    )


def _per_group(nest: LoopNest) -> tuple[int, int, int]:
    return nest.groups, nest.out_channels // nest.groups, nest.in_channels // nest.groups
