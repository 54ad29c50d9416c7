"""The cost models of accelerators: how near few loop orders come to ZigZag's full search, and what each model's answer costs.

``zigzag``: layers of OFA-MobileNetV3 and all those of NAS-Bench-201, each on a weight-stationary array and on one for depthwise
convolutions, mapped with at most 60 loop orders and with the full search (CPU seconds of this process, the first layer left out); then
10,000 pairs from a cache that is read anew. ``fpga-tiling``: all tilings of each layer, and pairs of a layer and a design a second;
that it is exact is for the hand-worked cases of its tests to show.

``python benchmarks/coexplore_models.py [--quick]``, four minutes; needs the extra ``zigzag``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np
from report import finish

from layerclock.devices.accelerators.array_design import ArrayDesign
from layerclock.devices.accelerators.cost_cache import CostCache
from layerclock.devices.accelerators.designs import design_digest, load_design, load_design_space
from layerclock.devices.accelerators.fpga_tiling import Ports, TileBudget, best_tile, nest_costs
from layerclock.devices.accelerators.pipeline import pipeline_costs
from layerclock.devices.accelerators.space_nests import SpaceNests, space_nests
from layerclock.devices.accelerators.zigzag_model import zigzag_cost, zigzag_costs
from layerclock.plugins import load_space
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from layerclock.devices.accelerators.workload import LoopNest

EXAMPLES = Path(__file__).parents[1] / "examples"
PAIRS = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="15 layers on one array, and fewer designs")
    arguments = parser.parse_args()
    space = load_space("ofa-mobilenetv3")
    mobile, cells = space_nests(space), space_nests(load_space("nas-bench-201"))
    weights = load_design(EXAMPLES / "array.yaml")
    if not isinstance(weights, ArrayDesign):
        raise SystemExit("examples/array.yaml holds no array")
    figures: dict[str, float] = {}
    figures |= _agreement(mobile, cells, weights, arguments.quick)
    figures |= _from_the_cache(mobile, weights)
    figures |= _tilings([*mobile.nests, *cells.nests])
    figures |= _pairs(mobile, SiteIndex.of(space), 500 if arguments.quick else 4000)
    targets = {
        "zigzag_cold_layer_ms_median": ("<=", 100.0),
        "zigzag_latency_difference_median": ("<=", 0.02),
        "zigzag_latency_difference_worst": ("<=", 0.05),
        "zigzag_layers": (">=", 30.0),
        "zigzag_10000_cached_pairs_s": ("<=", 5.0),
        "fpga_all_tilings_ms_mean": ("<=", 1.0),
        "fpga_all_tilings_ms_worst": ("<=", 1.0),
    }
    return finish("coexplore_models", figures, targets, arguments.quick)


def _agreement(mobile: SpaceNests, cells: SpaceNests, weights: ArrayDesign, quick: bool) -> dict[str, float]:
    chosen = np.random.default_rng(0).permutation(len(mobile.nests))[: 3 if quick else 20]
    layers = [*(mobile.nests[number] for number in chosen), *cells.nests]
    designs = [weights] if quick else [weights, replace(weights, dataflow="depthwise")]
    zigzag_cost(layers[0], weights)
    few, full, latency, energy = [], [], [], []
    for design in designs:
        for layer in layers:
            start = process_time()
            cycles, picojoules = zigzag_cost(layer, design)
            middle = process_time()
            best_cycles, best_picojoules = zigzag_cost(layer, design, every_order=True)
            few.append(middle - start)
            full.append(process_time() - middle)
            latency.append(cycles / best_cycles - 1)
            energy.append(picojoules / best_picojoules - 1)
            print(
                f"{design.dataflow:<18} {layer.key:<56} {latency[-1]:+.2%} {few[-1] * 1e3:6.0f} ms {full[-1] * 1e3:6.0f} ms",
                file=sys.stderr,
            )
    return {
        "zigzag_layers": len(layers),
        "zigzag_cold_layer_ms_median": float(np.median(few)) * 1e3,
        "zigzag_cold_layer_ms_worst": max(few) * 1e3,
        "zigzag_full_search_ms_median": float(np.median(full)) * 1e3,
        "zigzag_times_faster_median": float(np.median(np.array(full) / np.array(few))),
        "zigzag_latency_difference_median": float(np.median(np.abs(latency))),
        "zigzag_latency_difference_worst": float(np.abs(latency).max()),
        "zigzag_energy_difference_median": float(np.median(np.abs(energy))),
        "zigzag_energy_difference_worst": float(np.abs(energy).max()),
    }


def _from_the_cache(mobile: SpaceNests, weights: ArrayDesign) -> dict[str, float]:
    """Seconds to open a cache of made-up costs and to answer from it: each pair is there, so that none is computed."""
    nests = mobile.nests[:100]
    designs = [replace(weights, clock_mhz=float(100 + number)) for number in range(PAIRS // len(nests))]
    with tempfile.TemporaryDirectory() as folder:
        digests = [design_digest(design) for design in designs]
        for number, digest in enumerate(digests):
            CostCache(Path(folder)).add({(digest, nest.key): (float(number), 1.0) for nest in nests})
        start = perf_counter()
        costs = zigzag_costs(nests, designs, CostCache(Path(folder)))
        seconds = perf_counter() - start
    if not np.array_equal(costs.cycles, np.broadcast_to(np.arange(len(designs)), costs.cycles.shape)):
        raise SystemExit("the cache answered for other pairs")
    return {"zigzag_10000_cached_pairs_s": seconds}


def _tilings(nests: list[LoopNest]) -> dict[str, float]:
    budget = TileBudget(dsp=2520, bram=1824, ports=Ports(12, 12, 8))
    milliseconds = []
    for nest in nests:
        best_tile(nest, budget)  # the tiles' sides, which are the same for every engine, are kept
        milliseconds.append(min(_ms(nest, budget) for _ in range(3)))
    return {"fpga_all_tilings_ms_mean": float(np.mean(milliseconds)), "fpga_all_tilings_ms_worst": max(milliseconds)}


def _ms(nest: LoopNest, budget: TileBudget) -> float:
    start = process_time()
    best_tile(nest, budget)
    return (process_time() - start) * 1e3


def _pairs(mobile: SpaceNests, index: SiteIndex, number: int) -> dict[str, float]:
    """Costs of all layers on random pipelines, and of as many networks, one on each."""
    generator = np.random.default_rng(0)
    space = load_design_space(EXAMPLES / "fpga-pipeline.yaml")
    batch = space.batch(space.canonical(generator.integers(0, space.cardinality, (number, len(space.genes)))))
    start = process_time()
    costs = nest_costs(mobile.nests, batch.engines)
    middle = process_time()
    pairs = pipeline_costs(mobile.sequences(index, sample(index, number, generator)), costs, batch)
    end = process_time()
    return {
        "fpga_million_layer_design_pairs_per_s": costs.cycles.size / (middle - start) / 1e6,
        "fpga_thousand_network_design_pairs_per_s": number / (end - middle) / 1e3,
        "fpga_feasible_share": float(pairs.feasible.mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
