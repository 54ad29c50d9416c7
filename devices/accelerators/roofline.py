"""A lower bound of the closed-form model: what an engine's multipliers and each of its ports need, whatever the tile.

The roofline of Williams et al. (Communications of the ACM 2009), with the unrolling of Zhang et al. (FPGA 2015, section 3.2) and a roof
for each port. Every tile computes at least what it outputs, reads at least an input for each output, its weights once, and writes
its outputs, so that :func:`~layerclock.devices.accelerators.fpga_tiling.nest_costs` is never below: what the bound rules out, the
model would, too. It costs one pass over the pairs, where the model tries tiles for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.accelerators.horowitz import DRAM_PJ_PER_BYTE, SRAM_PJ_PER_BYTE, mac_pj
from layerclock.devices.accelerators.workload import NestColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.devices.accelerators.fpga_tiling import EngineColumns
    from layerclock.devices.accelerators.workload import LoopNest

__all__ = ["Least", "least_costs", "least_cycles"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Least:
    """What each of L loop nests takes at least on each of D engines, float64[L, D]: infinite where an engine cannot multiply for it."""

    cycles: FloatArray
    energy_pj: FloatArray


def least_cycles(nests: Sequence[LoopNest], engines: EngineColumns) -> FloatArray:
    """Cycles that each loop nest takes at least on each engine, float64[L, D]: infinite where the engine has no multipliers for it."""
    return least_costs(nests, engines).cycles


def least_costs(nests: Sequence[LoopNest], engines: EngineColumns) -> Least:
    """Cycles and picojoules that each loop nest takes at least on each engine.

    Energy is that of :func:`~layerclock.devices.accelerators.fpga_tiling.nest_costs`, for the fewest elements that pass ports and buffers.
    """
    columns = NestColumns.of(nests)
    batch, groups, depthwise = (column[:, None] for column in (columns.batch, columns.groups, columns.depthwise))
    out_channels, in_channels = columns.out_channels[:, None], columns.in_channels[:, None]
    pixels = (columns.out_y * columns.out_x)[:, None]
    taps = (columns.filter_y * columns.filter_x)[:, None]
    lanes = depthwise & (engines.lanes > 0)
    tm, tn = np.where(lanes, engines.lanes, engines.tm), np.where(lanes, 1, engines.tn)
    runs = (tm > 0) & (tn > 0) & (taps <= engines.weight_words)
    tm, tn = np.maximum(tm, 1), np.maximum(tn, 1)
    outs = np.where(lanes, out_channels, out_channels // groups)
    depth = np.where(lanes, 1, in_channels // groups)
    passes = batch * np.where(lanes, 1, groups) * -(-outs // tm)
    held_m, held_n = np.minimum(tm, outs), np.minimum(tn, depth)
    rounds = -(-depth // tn)
    read = np.where(lanes, held_m, held_n)
    compute = passes * rounds * taps * pixels
    inputs = passes * rounds * read * pixels
    weights = passes * rounds * held_m * held_n * taps
    outputs = passes * held_m * pixels
    ports = [inputs / engines.input_port, weights / engines.weight_port, outputs / engines.output_port]
    buffered = weights + compute * (read + 2 * held_m)
    moved = (inputs + weights + outputs) * DRAM_PJ_PER_BYTE + buffered * SRAM_PJ_PER_BYTE
    energy = columns.macs[:, None] * mac_pj(engines.bits) + engines.bits / 8 * moved
    cycles = np.maximum.reduce([compute, *ports])
    return Least(np.where(runs, cycles, np.inf), np.where(runs, energy, np.inf))
