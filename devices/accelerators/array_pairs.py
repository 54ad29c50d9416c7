"""What the networks of a search space cost on each design of a space of arrays: by ZigZag, layer after layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.devices.accelerators.array_design import ArrayDesign
from layerclock.devices.accelerators.design_sites import design_genes, design_sites
from layerclock.devices.accelerators.designs import DesignSpace, dump_design
from layerclock.devices.accelerators.horowitz import mac_pj
from layerclock.devices.accelerators.space_nests import SpaceNests, space_nests
from layerclock.errors import MissingExtraError
from layerclock.pairs import Buildable, PairCosts
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["ArrayPairs"]

FloatArray = npt.NDArray[np.float64]


class ArrayPairs:
    """The networks of ``space`` on the arrays of ``designs``: an :class:`~layerclock.pairs.AcceleratorDesigns`.

    An array works on one layer after the other: throughput is the reciprocal of the latency. Costs of a layer on a design are kept
    on disk; a new one takes some 50 ms. Raises :class:`~layerclock.errors.MissingExtraError` when asked for costs without zigzag-dse.
    """

    resources = ("multipliers", "sram_kb", "dram_bits")

    def __init__(self, space: SearchSpace, designs: DesignSpace, nests: SpaceNests | None = None) -> None:
        self.name = f"array-{designs.digest}"
        self.genes = design_genes(designs)
        self.sites = design_sites(designs)
        self.designs = designs
        self.nests = space_nests(space) if nests is None else nests
        self._index = SiteIndex.of(space)
        self._layer_nests = self.nests.counts

    def build(self, designs: GenomeArray) -> Buildable:
        """Multipliers, kilobytes of SRAM and bits a cycle to DRAM; nothing limits them but constraints."""
        arrays = self._arrays(designs)
        return Buildable(
            {
                "multipliers": np.array([one.rows * one.columns for one in arrays], dtype=np.float64),
                "sram_kb": np.array([one.input_sram_kb + one.weight_sram_kb + one.output_sram_kb for one in arrays], dtype=np.float64),
                "dram_bits": np.array([one.dram_bits for one in arrays], dtype=np.float64),
            },
            np.zeros(len(arrays)),
        )

    def bounds(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """Costs by the multipliers alone, all of them busy in every cycle."""
        arrays = self._arrays(designs)
        macs = self._macs(networks)
        cycles = macs / np.array([one.rows * one.columns for one in arrays], dtype=np.float64)
        energy = macs * mac_pj(np.array([one.bits for one in arrays], dtype=np.int64))
        return self._pairs(arrays, cycles, energy, np.ones(len(arrays)))

    def costs(self, networks: GenomeArray, designs: GenomeArray) -> PairCosts:
        """Costs by ZigZag: the sum over the layers."""
        try:
            from layerclock.devices.accelerators.zigzag_model import zigzag_costs
        except ModuleNotFoundError as error:
            raise MissingExtraError("zigzag-dse", "zigzag", "a space of arrays") from error
        distinct, numbers = np.unique(designs, axis=0, return_inverse=True)
        counts = self._index.counts(networks) @ self._layer_nests
        used = counts.sum(axis=0) > 0
        found = zigzag_costs([nest for nest, some in zip(self.nests.nests, used, strict=True) if some], self._arrays(distinct))
        # A loop nest that the network does not have costs it nothing, not even where the design could not run it.
        present = counts[:, used]
        columns = [np.where(present > 0, present * each[:, numbers.ravel()].T, 0.0).sum(axis=1) for each in (found.cycles, found.energy_pj)]
        arrays = self._arrays(designs)
        multipliers = np.array([one.rows * one.columns for one in arrays], dtype=np.float64)
        return self._pairs(arrays, columns[0], columns[1], self._macs(networks) / (columns[0] * multipliers))

    def write(self, design: GenomeArray, path: Path) -> None:
        """Write one design int64[H] as a file for ``sim:zigzag@FILE``."""
        dump_design(self.designs.design(design), path)

    def _macs(self, networks: GenomeArray) -> FloatArray:
        """Multiply-accumulates of the loop nests: what the cost model sees of a network."""
        macs = np.array([nest.macs for nest in self.nests.nests], dtype=np.float64)
        total: FloatArray = (self._index.counts(networks) @ self._layer_nests) @ macs
        return total

    def _arrays(self, designs: GenomeArray) -> list[ArrayDesign]:
        made = [self.designs.design(genome) for genome in designs]
        return [design for design in made if isinstance(design, ArrayDesign)]

    @staticmethod
    def _pairs(arrays: list[ArrayDesign], cycles: FloatArray, energy_pj: FloatArray, utilisation: FloatArray) -> PairCosts:
        interval_ms = cycles / np.array([one.clock_mhz * 1e3 for one in arrays], dtype=np.float64)
        return PairCosts(cycles, interval_ms, interval_ms, energy_pj * 1e-9, utilisation)
