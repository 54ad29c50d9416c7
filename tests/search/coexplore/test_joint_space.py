"""Networks and designs as one space: nothing of either side is lost or mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_pairs import CELLS, small_pairs

from layerclock.errors import SpaceError
from layerclock.interfaces import SearchSpace
from layerclock.pairs import AcceleratorDesigns
from layerclock.search.coexplore.joint_space import JointSpace
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.devices.accelerators.fpga_pairs import FpgaPairs


@pytest.fixture(scope="module")
def cells() -> SearchSpace:
    return CELLS


@pytest.fixture(scope="module")
def pairs() -> FpgaPairs:
    return small_pairs()


def test_a_pair_is_canonical_where_both_sides_are(cells: SearchSpace, pairs: FpgaPairs) -> None:
    space = JointSpace(cells, pairs)
    assert isinstance(space, SearchSpace)
    assert isinstance(pairs, AcceleratorDesigns)
    index, own = SiteIndex.of(space), SiteIndex.of(cells)
    drawn = np.random.default_rng(0).integers(0, index.cardinality, (500, len(index.genes)))
    networks, designs = space.split(index.canonical(drawn))
    np.testing.assert_array_equal(networks, own.canonical(drawn[:, : len(cells.genes)]))
    np.testing.assert_array_equal(designs, pairs.designs.canonical(drawn[:, len(cells.genes) :]))
    np.testing.assert_array_equal(space.pair(networks, designs), index.canonical(drawn))
    np.testing.assert_array_equal(index.macs(drawn), own.macs(networks))  # designs add no work
    assert {gene.name for gene in pairs.genes} == {f"design.{gene.name}" for gene in pairs.designs.genes}


def test_one_design_stands_for_all_networks(cells: SearchSpace, pairs: FpgaPairs) -> None:
    space = JointSpace(cells, pairs)
    networks = np.zeros((3, len(cells.genes)), dtype=np.int64)
    joined = space.pair(networks, np.ones((1, len(pairs.genes)), dtype=np.int64))
    assert joined.shape == (3, len(space.genes))
    assert joined[:, len(cells.genes) :].all()


def test_the_network_of_a_pair_is_built(cells: SearchSpace, pairs: FpgaPairs) -> None:
    space = JointSpace(cells, pairs)
    genome = np.ones(len(space.genes), dtype=np.int64)
    assert str(space.build(genome)) == str(cells.build(genome[: len(cells.genes)]))
    assert space.inputs == cells.inputs


def test_genes_of_one_name_are_refused(pairs: FpgaPairs) -> None:
    class Namesake:
        name, sites, inputs = "namesake", pairs.sites, ()
        genes = pairs.genes

        def build(self, genome: object) -> None:
            raise NotImplementedError

    with pytest.raises(SpaceError, match=r"both have a gene 'design\."):
        JointSpace(Namesake(), pairs)  # type: ignore[arg-type]
