"""How many genomes a second predictors answer in one call, on one core, beside a loop of look-ups; and what one answer takes.

The predictor is fitted on the computed times of ``fake:cpu``: its speed does not depend on whose times it holds. The
loop does what most search code does: one dictionary look-up a block, in Python. Both run in turn in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from report import finish

import layerclock as lc

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    space = lc.load_space("ofa-mobilenetv3")
    index = lc.SiteIndex.of(space)
    with tempfile.TemporaryDirectory() as folder:
        table = lc.profile(lc.open_device("fake:cpu"), space, folder, networks=14, rounds=2, runs=2)
    predictor, endtoend = lc.fit(table, space), lc.fit(table, space, "endtoend:model=ridge")
    genomes = np.random.default_rng(0).integers(0, index.cardinality, (100_000, len(index.genes)))
    looked_up = _dictionaries(index, table.layer_latencies_us())
    few = genomes[:1000].tolist()
    overhead, scale = predictor.card.parameters["overhead_ms"], predictor.card.parameters["scale"]
    loop = np.array([overhead + scale * _loop(looked_up, genome) / 1e3 for genome in few])
    difference = float(np.abs(loop / predictor.predict(genomes[:1000]).latency_ms - 1).max())
    rates: dict[str, list[float]] = {name: [] for name in ("layerwise", "endtoend", "single", "loop", "reading")}
    for _ in range(5 if arguments.quick else 20):
        rates["layerwise"].append(_rate(len(genomes), lambda: predictor.predict(genomes)))
        rates["endtoend"].append(_rate(len(genomes), lambda: endtoend.predict(genomes)))
        rates["single"].append(_rate(200, lambda: [predictor.predict(genomes[one : one + 1]) for one in range(200)]))
        rates["loop"].append(_rate(len(few), lambda: [_loop(looked_up, genome) for genome in few]))
        rates["reading"].append(_rate(len(genomes), lambda: int(genomes.max())))
    figures = {
        "million_genomes_per_second": float(np.median(rates["layerwise"])) / 1e6,
        "slowest_million_per_second": min(rates["layerwise"]) / 1e6,
        "endtoend_million_per_second": float(np.median(rates["endtoend"])) / 1e6,
        "single_query_us": 1e6 / float(np.median(rates["single"])),
        "loop_million_per_second": float(np.median(rates["loop"])) / 1e6,
        "ratio_to_loop": float(np.median(np.array(rates["layerwise"]) / np.array(rates["loop"]))),
        # What reading every genome once from memory would allow.
        "million_read_per_second": float(np.median(rates["reading"])) / 1e6,
        "largest_relative_difference": difference,
    }
    targets = {
        "million_genomes_per_second": (">=", 5.0),
        "endtoend_million_per_second": (">=", 0.2),
        "single_query_us": ("<=", 50.0),
        "largest_relative_difference": ("<=", 1e-5),
    }
    return finish("query_speed", figures, targets, arguments.quick)


def _rate(number: int, run: Callable[[], object]) -> float:
    """How many a second."""
    start = perf_counter()
    run()
    return number / (perf_counter() - start)


def _dictionaries(index: lc.SiteIndex, latencies_us: dict[str, float]) -> list[tuple[list[int], dict[tuple[int, ...], float]]]:
    """For each site: the columns of its genes, and the latency for each combination of their positions."""
    column = {gene.name: number for number, gene in enumerate(index.genes)}
    tables = []
    for site in index.sites:
        combinations = np.ndindex(*(len(gene.choices) for gene in site.genes))
        rows = {
            combination: 0.0 if layer is None else latencies_us[layer.key]
            for combination, layer in zip(combinations, site.layers, strict=True)
        }
        tables.append(([column[gene.name] for gene in site.genes], rows))
    return tables


def _loop(tables: list[tuple[list[int], dict[tuple[int, ...], float]]], genome: list[int]) -> float:
    total = 0.0
    for columns, rows in tables:
        total += rows[tuple(genome[column] for column in columns)]
    return total


if __name__ == "__main__":
    sys.exit(main())
