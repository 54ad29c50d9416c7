"""Networks as graphs: cells with their dead edges cut off, and chains of sites for every other space."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_space import EVERY_TINY, TINY

from layerclock.errors import GenomeError, SpaceError
from layerclock.network import Layer
from layerclock.plugins import load_space
from layerclock.predictors.neural.cells import NOTHING, GraphEncoder
from layerclock.search.spaces.nasbench201 import nas_bench_201
from layerclock.space import Gene, Site, SiteIndex, sample


def test_a_cell_is_a_graph_of_its_edges() -> None:
    space = nas_bench_201()
    encoder = GraphEncoder.of(space)
    assert (encoder.vertices, encoder.operations) == (8, 7)
    full, dead, nothing = (
        space.from_arch_string(text)
        for text in (
            "|nor_conv_1x1~0|+|nor_conv_3x3~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_1x1~2|",
            # The edge 0-1 leads to node 1, from which nothing goes on.
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_1x1~2|",
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        )
    )
    graphs = encoder(np.stack([full, dead, nothing]))
    # Vertices: input, edges 01 02 12 03 13 23, output.
    joined = [np.argwhere(one).tolist() for one in graphs.adjacency]
    assert joined[0] == [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 6], [3, 6], [4, 7], [5, 7], [6, 7]]
    assert joined[1] == [[0, 2], [2, 6], [6, 7]]
    assert joined[2] == []
    assert graphs.codes[:, 1:-1].tolist() == [full.tolist(), dead.tolist(), nothing.tolist()]
    assert set(graphs.codes[:, 0]) == {5}
    assert set(graphs.codes[:, -1]) == {6}


def test_what_is_joined_is_what_is_live() -> None:
    space = nas_bench_201()
    genomes = sample(SiteIndex.of(space), 500, np.random.default_rng(0))
    graphs = GraphEncoder.of(space)(genomes)
    assert np.array_equal(graphs.adjacency.any(axis=1)[:, 1:-1], space.live_operations(genomes) != NOTHING)
    assert np.array_equal(graphs.adjacency.any(axis=2)[:, 1:-1], space.live_operations(genomes) != NOTHING)
    assert not np.tril(graphs.adjacency).any(), "a vertex reads only from those before it"


def test_any_other_space_is_a_chain_of_its_sites() -> None:
    encoder, index = GraphEncoder.of(TINY), SiteIndex.of(TINY)
    graphs = encoder(EVERY_TINY)
    assert encoder.vertices == len(index.sites) + 2
    assert encoder.operations == len(index.vocabulary) + 3
    assert np.array_equal(graphs.adjacency, np.repeat(np.eye(encoder.vertices, k=1)[None], len(EVERY_TINY), axis=0))
    layers = index.layers(EVERY_TINY)
    assert np.array_equal(graphs.codes[:, 1:-1] == NOTHING, layers < 0)
    assert len(np.unique(graphs.codes, axis=0)) == len(EVERY_TINY), "networks that differ have codes that differ"
    pairs = {(int(layer), int(code)) for layer, code in zip(layers.ravel(), graphs.codes[:, 1:-1].ravel(), strict=True)}
    assert len(pairs) == len({layer for layer, _ in pairs}) == len({code for _, code in pairs}), "one code a layer"


def test_sites_that_never_change_are_left_out() -> None:
    space = load_space("fbnet")
    encoder = GraphEncoder.of(space)
    assert encoder.vertices == 22 + 2
    assert encoder(np.zeros((3, 22), dtype=np.int64)).codes.max() == encoder.operations - 1


def test_what_cannot_be_a_graph_is_refused() -> None:
    class Same:
        name, inputs = "same", ()
        genes = (Gene("a", (1, 2)),)
        sites = (Site("only", (), (Layer("op", (), (), ()),)),)

        def build(self, genome: object) -> None:
            raise AssertionError

    with pytest.raises(SpaceError, match="'same' are the same"):
        GraphEncoder.of(Same())  # type: ignore[arg-type]
    for space in (nas_bench_201(), TINY):
        with pytest.raises(GenomeError):
            GraphEncoder.of(space)(np.full((1, len(space.genes)), 9))
