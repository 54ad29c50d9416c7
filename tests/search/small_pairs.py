"""A small stage: cells of NAS-Bench-201 with few channels, on two pipelines' worth of genes, all pairs of which can be tried."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from layerclock.devices.accelerators.designs import load_design_space
from layerclock.devices.accelerators.fpga_pairs import FpgaPairs
from layerclock.plugins import load_space
from layerclock.search.objective import Objective
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.space import GenomeArray

CELLS = load_space("nas-bench-201:channels=8,cells=1,resolution=8")
DESIGNS = """
kind: fpga
boards:
  - {dsp: 300, bram: 300, bus_bits: 512, bandwidth_gb_s: 12.8, clock_mhz: 200, static_w: 1.0}
stages:
  count: [1, 2]
  each:
    tm: [8, 16]
    tn: [4, 12]
    input_port: 4
    weight_port: [2, 8]
    output_port: 4
    input_words: 576
"""


_INDEX = SiteIndex.of(CELLS)


@cache
def small_pairs() -> FpgaPairs:
    """The pairs' costs. Loop nests come from exported networks: called in tests, which have a cache of their own."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "designs.yaml"
        path.write_text(DESIGNS)
        return FpgaPairs(CELLS, load_design_space(path))


def _evaluate(genomes: GenomeArray) -> FloatArray:
    varied = np.sin(genomes @ np.array([3.0, 5.0, 7.0, 11.0, 13.0, 17.0]))
    quality: FloatArray = 90.0 + np.log(_INDEX.macs(genomes) / 1e5) + 0.3 * varied
    return quality


# A made-up accuracy that grows with a network's work, and varies: none is free.
QUALITY = Objective("top1_percent", _evaluate, maximise=True)
