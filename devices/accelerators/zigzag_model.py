"""Costs of loop nests on arrays of processing elements by ZigZag (the package zigzag-dse), with few loop orders instead of all.

ZigZag (Mei et al., IEEE Transactions on Computers 2021) maps a layer on an array and its memories, and counts cycles and accesses. Its
usual search tries every order of up to six loop factors. Here its memory allocator is given the 24 orders of the four blocks {C, G},
{FX, FY}, {OX, OY} and {K, B}, each block with all its factors together; where a layer leaves one empty, others are parted in turn,
which gives at most 60.

A design's registers, memories and DRAM are described to ZigZag with energies of :mod:`~layerclock.devices.accelerators.horowitz`: memory by
the square root of its size from the table's 8 KB. Partial sums have 32 bits. Padding is counted as if it was read. Needs zigzag-dse.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from itertools import permutations
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from zigzag.datatypes import LayerDim
from zigzag.mapping.temporal_mapping import TemporalMapping, TemporalMappingType
from zigzag.opt.loma.engine import LomaEngine, NoValidLoopOrderingFoundException
from zigzag.opt.loma.memory_allocator import MemoryAllocator, MemoryHierarchyTooSmallException, MemoryTooSmallException
from zigzag.parser.accelerator_factory import AcceleratorFactory
from zigzag.parser.accelerator_validator import AcceleratorValidator
from zigzag.parser.workload_factory import LayerNodeFactory
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
from zigzag.stages.results.reduce_stages import MinimalLatencyStage

from layerclock.devices.accelerators.array_design import DATAFLOWS
from layerclock.devices.accelerators.cost_cache import CostCache, Pair
from layerclock.devices.accelerators.designs import design_digest
from layerclock.devices.accelerators.horowitz import DRAM_PJ_PER_BYTE, SRAM_PJ_PER_BYTE, mac_pj
from layerclock.devices.cache import cache_folder
from layerclock.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from layerclock.devices.accelerators.array_design import ArrayDesign
    from layerclock.devices.accelerators.workload import LoopNest

__all__ = ["BLOCKS", "ArrayCosts", "BlockOrders", "ZigzagTimes", "zigzag_cache", "zigzag_cost", "zigzag_costs"]

# Loops that stay together, whatever their order, as long as a layer has loops of all four.
BLOCKS = (("C", "G"), ("FX", "FY"), ("OX", "OY"), ("K", "B"))

# Part of the cache's name: raise it when the same pair has other costs.
_VERSION = 2
_RELEASE = version("zigzag-dse")
_PARTIAL_SUM_BITS = 32
_FACTORS = 6
_DRAM_BITS = 10**12
# Access energy is 10 pJ for 64 bits at 8 KB, and grows with the square root of the size.
_REFERENCE_BYTES = 8 * 1024

logging.getLogger("zigzag").setLevel(logging.ERROR)


class BlockOrders(TemporalMappingGeneratorStage):
    """ZigZag's stage for loop orders, restricted to the orders of :data:`BLOCKS`."""

    def generate_temporal_mappings(self) -> Iterator[TemporalMapping]:
        """The mappings of at most 60 loop orders; raises ZigZag's own error if none fits the memories."""
        engine = LomaEngine(
            accelerator=self.accelerator,
            layer=self.layer,
            spatial_mapping=self.spatial_mapping,
            mapping_type=self.mapping_type,
            **self.kwargs,
        )
        engine.temporal_loop_dim_size = engine.get_temporal_loops()
        engine.update_min_lpf_factor(engine.temporal_loop_dim_size)
        engine.get_prime_factors()
        loops = {name: [loop for loop in engine.lpfs if loop[0] == LayerDim(name)] for block in BLOCKS for name in block}
        orders = dict.fromkeys(
            tuple(loop for block in order for loop in block)
            for blocks in _partings([[loops[name] for name in block] for block in BLOCKS])
            for order in permutations(blocks)
        )
        fits = False
        for order in orders or {tuple(engine.lpfs): None}:
            try:
                mapping = MemoryAllocator(self.accelerator, self.layer, self.spatial_mapping, list(order), self.mapping_type).run()
            except (MemoryHierarchyTooSmallException, MemoryTooSmallException):
                continue
            fits = True
            yield mapping
        if not fits:
            raise NoValidLoopOrderingFoundException(f"no order of the blocks of {self.layer} fits the memories")


class CheckedCosts(CostModelStage):
    """ZigZag's cost model without the mappings at which a check of its own fails (release 3.9.1 has such: of small layers, mostly)."""

    def run(self) -> Iterator[tuple[Any, None]]:
        """The cost of the mapping, or nothing."""
        try:
            yield from super().run()
        except AssertionError:
            return


def _partings(given: list[list[list[Any]]]) -> list[list[list[Any]]]:
    """The sets of blocks whose orders are tried, each block a list of loops; ``given`` are the loops of each block's two dimensions.

    Where a layer leaves a block empty there is room to part the filters, and in depthwise convolutions, which have no {K, B} and differ
    most from the full search, the outputs or the channels: each is what one dataflow or another needs.
    """
    whole = [[loop for dimension in block for loop in dimension] for block in given]
    if all(whole):
        return [whole]
    channels, filters, outputs, kernels = whole
    middle = len(channels) // 2
    candidates = [[channels, *given[1], outputs, kernels]]
    if not kernels:
        candidates += [[channels, filters, *given[2]], [channels[:middle], channels[middle:], filters, outputs]]
    return [[block for block in blocks if block] for blocks in candidates]


@dataclass(frozen=True, slots=True)
class ArrayCosts:
    """Costs of L loop nests on D designs, float64[L, D] each; infinite where a design's memories do not hold the least of a layer."""

    cycles: npt.NDArray[np.float64]
    energy_pj: npt.NDArray[np.float64]


def zigzag_costs(nests: Sequence[LoopNest], designs: Sequence[ArrayDesign], cache: CostCache | None = None) -> ArrayCosts:
    """Cycles and energy of every loop nest on every design; each pair is computed once and kept in ``cache`` (the user's, if None)."""
    cache = zigzag_cache() if cache is None else cache
    keys, digests = [nest.key for nest in nests], [design_digest(design) for design in designs]
    costs = np.empty((2, len(nests), len(designs)))
    fresh: dict[Pair, tuple[float, float]] = {}
    for column, (design, digest) in enumerate(zip(designs, digests, strict=True)):
        for row, (nest, key) in enumerate(zip(nests, keys, strict=True)):
            pair = (digest, key)
            known = cache.get(pair) or fresh.get(pair)
            if known is None:
                known = fresh[pair] = zigzag_cost(nest, design)
            costs[:, row, column] = known
    cache.add(fresh)
    return ArrayCosts(costs[0], costs[1])


def zigzag_cache() -> CostCache:
    """The user's cache for this version of ZigZag."""
    return CostCache(cache_folder() / "zigzag" / f"{_RELEASE}-{_VERSION}")


def zigzag_cost(nest: LoopNest, design: ArrayDesign, every_order: bool = False) -> tuple[float, float]:
    """Cycles and picojoules of a loop nest, computed anew: infinite if it does not fit. ``every_order`` takes ZigZag's usual search.

    Raises DeviceError if ZigZag's own checks fail for every mapping.
    """
    orders = TemporalMappingGeneratorStage if every_order else BlockOrders
    search = MinimalLatencyStage(
        [SpatialMappingGeneratorStage, MinimalLatencyStage, orders, CheckedCosts],
        accelerator=_accelerator(design), layer=_layer(nest, design), loma_lpf_limit=_FACTORS, loma_show_progress_bar=False,
        temporal_mapping_type=TemporalMappingType.UNEVEN, access_same_data_considered_as_no_access=True,
    )  # fmt: skip
    try:
        ((best, _),) = search.run()
    except NoValidLoopOrderingFoundException:
        return inf, inf
    except AssertionError as error:
        raise DeviceError(
            f"ZigZag {_RELEASE} has no cost for {nest.key}: its own checks fail", "change the layer or the design a little"
        ) from error
    return float(best.latency_total2), float(best.energy_total)


class ZigzagTimes:
    """Times on an array design, layer after layer; what was computed before is in the user's cache."""

    version = f"{_RELEASE}-{_VERSION}"

    def __init__(self, design: ArrayDesign) -> None:
        self._design = design

    def times_ns(self, nests: Sequence[LoopNest]) -> npt.NDArray[np.float64]:
        """Times of a network's loop nests, float64[L]; infinite for what does not fit the design's memories."""
        times: npt.NDArray[np.float64] = zigzag_costs(nests, [self._design]).cycles[:, 0] * 1e3 / self._design.clock_mhz
        return times


def _layer(nest: LoopNest, design: ArrayDesign) -> Any:
    sizes = {
        "B": nest.batch, "G": nest.groups, "K": nest.out_channels // nest.groups, "C": nest.in_channels // nest.groups,
        "OY": nest.out_y, "OX": nest.out_x, "FY": nest.filter_y, "FX": nest.filter_x,
    }  # fmt: skip
    node = {
        "id": 0,
        "name": nest.key,
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [
            f"ix={nest.stride_x}*ox+{nest.dilation_x}*fx",
            f"iy={nest.stride_y}*oy+{nest.dilation_y}*fy",
        ],
        "loop_dims": list(sizes),
        "loop_sizes": list(sizes.values()),
        "operand_precision": {"W": design.bits, "I": design.bits, "O": _PARTIAL_SUM_BITS, "O_final": design.bits},
        "operand_source": {"W": 0, "I": 0},
    }
    rows, columns = DATAFLOWS[design.dataflow]
    mapping = {
        "name": "Conv",
        "spatial_mapping": {"D1": [f"{rows}, {design.rows}"], "D2": [f"{columns}, {design.columns}"]},
        "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
    }
    return LayerNodeFactory(node, [mapping]).create()


def _accelerator(design: ArrayDesign) -> Any:
    registers = {"I1": design.bits, "I2": design.bits, "O": _PARTIAL_SUM_BITS}
    kilobytes = {"I1": design.input_sram_kb, "I2": design.weight_sram_kb, "O": design.output_sram_kb}
    memories = {}
    for operand, width in registers.items():
        memories[f"registers_{operand}"] = _memory([operand], design.register_bytes, width, [])
    for operand, size in kilobytes.items():
        memories[f"sram_{operand}"] = _memory([operand], size * 1024, design.sram_bits, ["D1", "D2"])
    memories["dram"] = _memory(list(registers), _DRAM_BITS // 8, design.dram_bits, ["D1", "D2"], DRAM_PJ_PER_BYTE)
    data = {
        "name": "array",
        "memories": memories,
        "operational_array": {
            "unit_energy": float(mac_pj(design.bits)),
            "unit_area": 1.0,
            "dimensions": ["D1", "D2"],
            "sizes": [design.rows, design.columns],
        },
    }
    return AcceleratorFactory(AcceleratorValidator(data).data).create()


def _memory(operands: list[str], size_bytes: int, width: int, served: list[str], pj_per_byte: float | None = None) -> dict[str, Any]:
    """A memory as ZigZag describes one: with a read and a write port for each operand, or one port for all that share it."""
    if pj_per_byte is None:
        pj_per_byte = SRAM_PJ_PER_BYTE * sqrt(size_bytes / _REFERENCE_BYTES)
    cost = pj_per_byte * width / 8
    if len(operands) > 1:
        moves = [f"{operand}, {way}" for operand in operands for way in (("fh", "tl", "fl", "th") if operand == "O" else ("fh", "tl"))]
        ports = [("rw_port_1", "read_write", moves)]
    else:
        (operand,) = operands
        reads, writes = (["tl", "th"], ["fh", "fl"]) if operand == "O" else (["tl"], ["fh"])
        ports = [
            ("r_port_1", "read", [f"{operand}, {way}" for way in reads]),
            ("w_port_1", "write", [f"{operand}, {way}" for way in writes]),
        ]
    return {
        "size": size_bytes * 8,
        "r_cost": cost,
        "w_cost": cost,
        "area": 0.0,
        "latency": 1,
        "operands": operands,
        "ports": [
            {"name": name, "type": kind, "bandwidth_min": min(width, 64), "bandwidth_max": width, "allocation": moves}
            for name, kind, moves in ports
        ],
        "served_dimensions": served,
    }
