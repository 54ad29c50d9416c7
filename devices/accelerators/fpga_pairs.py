"""What the networks of a search space cost on each design of a space of FPGA designs: the closed-form model, cut into pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.accelerators.design_sites import design_genes, design_sites
from layerclock.devices.accelerators.designs import DesignSpace, dump_design
from layerclock.devices.accelerators.fpga_tiling import EngineColumns, NestCosts, nest_costs
from layerclock.devices.accelerators.pipeline import pipeline_costs
from layerclock.devices.accelerators.roofline import least_costs
from layerclock.devices.accelerators.space_nests import SpaceNests, space_nests
from layerclock.pairs import Buildable, PairCosts
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.devices.accelerators.fpga_design import FpgaBatch
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["FpgaPairs"]

FloatArray = npt.NDArray[np.float64]

# Engines whose costs are remembered: 100 loop nests on them take some 80 MB.
_MOST_ENGINES = 50_000
# Pairs whose bounds are worked on at once.
_AT_ONCE = 2048
# The bound divides by the number of stages, the model adds up: what rounding makes of equal numbers must not look like more.
_ROUNDING = 1 - 1e-12


class FpgaPairs:
    """The networks of ``space`` on the FPGA designs of ``designs``: an :class:`~layerclock.pairs.AcceleratorDesigns`.

    ``nests`` are those of the space, by default read from its exported networks. Raises
    :class:`~layerclock.errors.SpaceError` if they cannot be told.
    """

    resources = ("dsp", "bram", "port_bits")

    def __init__(self, space: SearchSpace, designs: DesignSpace, nests: SpaceNests | None = None) -> None:
        self.name = f"fpga-{designs.digest}"
        self.genes = design_genes(designs)
        self.sites = design_sites(designs)
        self.designs = designs
        self.nests = space_nests(space) if nests is None else nests
        self.index = SiteIndex.of(space)
        self._layer_nests = self.nests.counts
        self._model = _Remembered(self._modelled)
        self._roof = _Remembered(self._bounded)
        self._last: tuple[bytes, FpgaBatch] | None = None

    def build(self, designs: GenomeArray) -> Buildable:
        """DSP blocks, memory blocks and port bits over all boards; the shortfall is of each board by itself."""
        batch = self._batch(designs)
        totals = {name: getattr(batch, name).sum(axis=1).astype(np.float64) for name in self.resources}
        return Buildable(totals, batch.shortfall)

    def bounds(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """Costs by the roofline: every layer on the stage that is best for it, and all stages equally busy."""
        batch = self._batch(designs)
        cycles, energy = self._roof(batch.engines)
        counts = self.index.counts(networks) @ self._layer_nests
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(networks), _AT_ONCE)] or [slice(0, 0)]
        found = [_bounds(counts[part], batch.engine[part], batch.clock_mhz[part], cycles, energy) for part in parts]
        total_cycles, interval, latency, picojoules = (np.concatenate(column) for column in zip(*found, strict=True))
        picojoules = picojoules + batch.static_w * interval * 1e3
        return PairCosts(total_cycles, interval * 1e-6, latency * 1e-6, picojoules * 1e-9, np.ones(len(networks)))

    def costs(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """Costs by the closed-form model of the best cut of each network over the stages of its design."""
        batch = self._batch(designs)
        cycles, energy = self._model(batch.engines)
        nothing = np.zeros((0, 0))
        nests = NestCosts(cycles, energy, nothing, nothing.astype(np.int64), nothing.astype(np.int64))
        found = pipeline_costs(self.nests.sequences(self.index, networks), nests, batch)
        return PairCosts(found.cycles, found.interval_ns * 1e-6, found.latency_ns * 1e-6, found.energy_pj * 1e-9, found.utilisation)

    def write(self, design: GenomeArray, path: Path) -> None:
        """Write one design int64[H] as a file for ``sim:fpga-tiling@FILE``."""
        dump_design(self.designs.design(design), path)

    def _batch(self, designs: GenomeArray) -> FpgaBatch:
        """The designs as columns; the last ones are kept, for one search asks for resources, bounds and costs of the same."""
        key = designs.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self.designs.batch(designs)
        return self._last[1]

    def _modelled(self, engines: EngineColumns) -> tuple[FloatArray, FloatArray]:
        found = nest_costs(self.nests.nests, engines)
        return found.cycles, found.energy_pj

    def _bounded(self, engines: EngineColumns) -> tuple[FloatArray, FloatArray]:
        found = least_costs(self.nests.nests, engines)
        return found.cycles * _ROUNDING, found.energy_pj * _ROUNDING


def _bounds(
    counts: npt.NDArray[np.int64], engine: npt.NDArray[np.int64], clock_mhz: FloatArray, cycles: FloatArray, energy: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Cycles, interval and latency in ns, and pJ, float64[B], of B networks as ``counts`` int64[B, U] of their loop nests."""
    stage = np.maximum(engine, 0)
    absent = (engine < 0)[:, :, None]
    least_cycles = np.where(absent, np.inf, cycles.T[stage])
    used = counts > 0
    # Least over the stages, [B, U]: not all the least are of one stage, but no cut is below.
    times = (least_cycles * (1e3 / np.where(engine < 0, 1.0, clock_mhz))[:, :, None]).min(axis=1)
    picojoules = np.where(absent, np.inf, energy.T[stage]).min(axis=1)
    sums = [np.where(used, each, 0.0) for each in (least_cycles.min(axis=1), times, picojoules)]
    total_cycles, latency, total_energy = ((counts * each).sum(axis=1) for each in sums)
    interval = np.maximum(sums[1].max(axis=1), latency / (engine >= 0).sum(axis=1)) * _ROUNDING
    return total_cycles, interval, latency * _ROUNDING, total_energy


class _Remembered:
    """Cycles and energy of all loop nests, float64[U, D] each, computed once for each distinct engine."""

    def __init__(self, compute: Callable[[EngineColumns], tuple[FloatArray, FloatArray]]) -> None:
        self._compute = compute
        self._known: dict[bytes, FloatArray] = {}

    def __call__(self, engines: EngineColumns) -> tuple[FloatArray, FloatArray]:
        rows = np.stack([getattr(engines, name) for name in EngineColumns.__dataclass_fields__], axis=1)
        keys = [row.tobytes() for row in rows]
        fresh = [number for number, key in enumerate(keys) if key not in self._known]
        if len(self._known) + len(fresh) > _MOST_ENGINES:
            self._known.clear()
            fresh = list(range(len(keys)))
        if fresh:
            both = np.stack(self._compute(EngineColumns(*rows[fresh].T)))
            self._known |= {keys[number]: both[:, :, column] for column, number in enumerate(fresh)}
        found = np.stack([self._known[key] for key in keys], axis=-1)
        return found[0], found[1]
