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
    assert (encoder.places.tolist(), encoder.operations) == ([0, 1, 1, 1, 1, 1, 1, 1], 7)
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
    for axis in (1, 2):
        assert np.array_equal(graphs.adjacency.sum(axis=axis)[:, 1:-1] > 0, space.live_operations(genomes) != NOTHING)
    assert not np.tril(graphs.adjacency).any(), "a vertex reads only from those before it"


def test_any_other_space_is_a_chain_of_its_sites() -> None:
    encoder, index = GraphEncoder.of(TINY), SiteIndex.of(TINY)
    graphs = encoder(EVERY_TINY)
    vertices = len(index.sites) + 2
    assert encoder.places.tolist() == list(range(vertices))
    assert np.array_equal(graphs.adjacency, np.repeat(np.eye(vertices, k=1)[None], len(EVERY_TINY), axis=0))
    layers = index.layers(EVERY_TINY)
    assert np.array_equal(graphs.codes[:, 1:-1] == NOTHING, layers < 0)
    for layer, code in zip(layers.T, graphs.codes[:, 1:-1].T, strict=True):
        pairs = set(zip(layer.tolist(), code.tolist(), strict=True))
        assert len(pairs) == len(set(layer)) == len(set(code)), "at one place, one code a layer"
    assert encoder.operations == 4 + 3, "two widths of two kernels, the same at all places; nothing, input, output"


def test_places_that_offer_the_same_choices_share_their_codes() -> None:
    encoder = GraphEncoder.of(load_space("fbnet"))
    assert len(encoder.places) == 22 + 2, "stem and head never change"
    # Choice 8 is to skip: a convolution where the shape changes, else nothing.
    codes = encoder(np.arange(9)[:, None] * np.ones((1, 22), dtype=np.int64)).codes[:, 1:-1]
    assert (codes[:8] == codes[:8, :1]).all()
    assert len(set(codes[:8, 0])) == 8
    assert set(codes[8]) == {NOTHING, codes.max()}


def test_what_cannot_be_a_graph_is_refused() -> None:
    class Same:
        name, inputs = "same", ()
        genes = (Gene("a", (1, 2)),)
        sites = (Site("only", (), (Layer("op", (), (), (), 0, 0),)),)

    with pytest.raises(SpaceError, match="'same' are the same"):
        GraphEncoder.of(Same())  # type: ignore[arg-type]
    for space in (nas_bench_201(), TINY):
        with pytest.raises(GenomeError):
            GraphEncoder.of(space)(np.full((1, len(space.genes)), 9))
