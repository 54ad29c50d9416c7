"""Networks cut over the stages of a pipeline, so that the slowest stage is as fast as can be.

Layers stay in order, and each stage takes a run of them, possibly none. The least largest sum is found by dynamic programming over
stages; what the first k layers take on the first s stages grows with k, and the rest on the next stage shrinks, so that the best cut is
where the two cross, and is found by bisection: O(S L log L) for a network, all networks at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.devices.accelerators.fpga_design import FpgaBatch
    from layerclock.devices.accelerators.fpga_tiling import NestCosts

__all__ = ["Cuts", "PipelineCosts", "cut", "pipeline_costs"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# Pairs that are cut at once, so that the memory needed does not grow with their number.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Cuts:
    """``starts`` int64[B, S + 1]: stage s takes the layers from starts[s] to starts[s + 1]; ``slowest`` float64[B] is the largest sum."""

    starts: IntArray
    slowest: FloatArray


def cut(times: FloatArray) -> Cuts:
    """Cut B networks of L layers over S stages; ``times`` float64[B, L, S], infinite where a stage cannot run a layer.

    ``slowest`` is infinite where no cut runs all layers. Raises :class:`ArgumentError` unless times are three-dimensional and positive
    or zero.
    """
    if times.ndim != 3 or not times.shape[2] or not (times >= 0).all():
        raise ArgumentError(f"times of shape {times.shape} are not those of layers on stages", "float64[networks, layers, stages], >= 0")
    networks, layers, stages = times.shape
    impossible = np.isinf(times)
    zeros = np.zeros((networks, 1, stages))
    total = np.concatenate([zeros, np.where(impossible, 0.0, times).cumsum(axis=1)], axis=1)
    blocked = np.concatenate([zeros, impossible.cumsum(axis=1)], axis=1)
    # So far: what the first l layers take at best, and where the last stage's run then begins.
    best = np.where(np.arange(layers + 1) > 0, np.inf, 0.0)[None].repeat(networks, axis=0)
    begins = np.zeros((stages, networks, layers + 1), dtype=np.int64)
    ends = np.broadcast_to(np.arange(layers + 1), (networks, layers + 1))

    def run(start: IntArray, stage: int) -> FloatArray:
        """Time of the layers from ``start`` to each end on a stage."""
        sums, walls = total[:, :, stage], blocked[:, :, stage]
        free = walls == np.take_along_axis(walls, start, axis=1)
        return np.where(free, np.maximum(sums - np.take_along_axis(sums, start, axis=1), 0.0), np.inf)

    for stage in range(stages):
        low, high = np.zeros_like(ends), ends.copy()
        for _ in range(int(layers).bit_length() + 1):
            middle = (low + high) // 2
            crossed = np.take_along_axis(best, middle, axis=1) >= run(middle, stage)
            low, high = np.where(crossed, low, np.minimum(middle + 1, ends)), np.where(crossed, middle, high)
        before = np.maximum(high - 1, 0)
        costs = [np.maximum(np.take_along_axis(best, start, axis=1), run(start, stage)) for start in (high, before)]
        begins[stage] = np.where(costs[1] <= costs[0], before, high)
        best = np.minimum(costs[0], costs[1])
    starts = np.zeros((networks, stages + 1), dtype=np.int64)
    starts[:, stages] = layers
    for stage in reversed(range(stages)):
        starts[:, stage] = begins[stage, np.arange(networks), starts[:, stage + 1]]
    return Cuts(starts, best[:, layers])


@dataclass(frozen=True, slots=True)
class PipelineCosts:
    """What B pairs of a network and a design cost, float64[B] each, infinite (throughput: 0) where the pair is not feasible.

    ``interval_ns`` is the slowest stage's time, the reciprocal of the throughput; ``latency_ns`` that of one input through all stages,
    and ``cycles`` those of its layers, each on its stage;
    ``utilisation`` the share of the stages' time in which they work; ``energy_pj`` one input's, static power over one interval
    included. ``starts`` as in :class:`Cuts`.
    """

    interval_ns: FloatArray
    latency_ns: FloatArray
    cycles: FloatArray
    throughput_per_s: FloatArray
    utilisation: FloatArray
    energy_pj: FloatArray
    starts: IntArray
    feasible: npt.NDArray[np.bool_]


def pipeline_costs(sequences: IntArray, costs: NestCosts, batch: FpgaBatch) -> PipelineCosts:
    """Costs of B pairs: ``sequences`` int64[B, L] numbers each network's loop nests in order (-1: none), one design of ``batch`` each.

    ``costs`` are those of all loop nests on ``batch.engines``. One row of either side may stand for all of the other's. Transfers
    between stages and boards are those of the engines' own ports; a link between boards is not modelled.
    """
    pairs = max(len(sequences), len(batch))
    numbers = np.broadcast_to(sequences, (pairs, sequences.shape[1]))
    engine = np.broadcast_to(batch.engine, (pairs, batch.engine.shape[1]))
    clock = np.broadcast_to(batch.clock_mhz, engine.shape)
    static, fits = np.broadcast_to(batch.static_w, pairs), np.broadcast_to(batch.feasible, pairs)
    parts = [slice(start, start + _AT_ONCE) for start in range(0, pairs, _AT_ONCE)] or [slice(0, 0)]
    found = [_costs(numbers[part], costs, engine[part], clock[part], static[part], fits[part]) for part in parts]
    return PipelineCosts(*(np.concatenate([getattr(one, field.name) for one in found]) for field in fields(PipelineCosts)))


def _costs(
    numbers: IntArray, costs: NestCosts, engine: IntArray, clock: FloatArray, static_w: FloatArray, fits: npt.NDArray[np.bool_]
) -> PipelineCosts:
    where = numbers[:, :, None], np.maximum(engine, 0)[:, None, :]
    absent, nothing = engine[:, None, :] < 0, numbers[:, :, None] < 0
    taken = np.where(nothing, 0.0, np.where(absent, np.inf, costs.cycles[where]))
    times = taken * 1e3 / clock[:, None, :]
    cuts = cut(times)
    layer = np.arange(numbers.shape[1])[:, None]
    placed = (layer >= cuts.starts[:, None, :-1]) & (layer < cuts.starts[:, None, 1:])
    latency, cycles = (np.where(placed, each, 0.0).sum(axis=(1, 2)) for each in (times, taken))
    feasible = np.isfinite(cuts.slowest) & fits
    energy = np.where(placed & ~nothing, costs.energy_pj[where], 0.0).sum(axis=(1, 2))
    interval = np.where(feasible, cuts.slowest, np.inf)
    working = (engine >= 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        utilisation = np.where(feasible & (interval > 0), latency / (working * interval), 0.0)
        # A watt over a nanosecond is a thousand picojoules.
        energy = np.where(feasible, energy + static_w * interval * 1e3, np.inf)
        throughput = np.where(feasible, 1e9 / interval, 0.0)
    latency, cycles = (np.where(feasible, each, np.inf) for each in (latency, cycles))
    return PipelineCosts(interval, latency, cycles, throughput, utilisation, energy, cuts.starts, feasible)
