"""Encodings of genomes: what each column says, and which networks they tell apart."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise, permutations, product
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from layerclock.errors import ArgumentError, GenomeError, SpaceError, UnknownNameError
from layerclock.network import Layer, TensorSpec
from layerclock.plugins import load_space
from layerclock.predictors.transfer.cells import CellSpace
from layerclock.predictors.transfer.encodings import ENCODINGS, GivenVectors, encode
from layerclock.predictors.transfer.layer_sizes import SIZES, layer_sizes
from layerclock.search.spaces.nasbench201 import EDGES, OPERATIONS, nas_bench_201
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.predictors.transfer.problem import Sources
    from layerclock.space import GenomeArray

SPACES = ["digits-mobilenetv3:width=0.25,resolution=32", "nas-bench-201", "fbnet", "bert"]
CELLS = nas_bench_201()
EVERY = np.array(list(product(range(len(OPERATIONS)), repeat=len(EDGES))), dtype=np.int64)


def _classes(rows: npt.NDArray[np.float64] | npt.NDArray[np.int64] | list[str]) -> npt.NDArray[np.int64]:
    return np.unique(np.asarray(rows), axis=0, return_inverse=True)[1].ravel()


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("name", ENCODINGS)
def test_one_network_has_one_vector_whatever_stands_beside_it(name: str, space_name: str) -> None:
    space = load_space(space_name)
    index = SiteIndex.of(space)
    rng = np.random.default_rng(0)
    genomes = rng.integers(0, index.cardinality, (60, len(index.genes)))
    encoded = encode(name, space, genomes)
    assert encoded.dtype == np.float64
    assert np.isfinite(encoded).all()
    assert np.array_equal(encode(name, space, index.canonical(genomes)), encoded)
    assert np.array_equal(encode(name, space, genomes[7:9]), encoded[7:9])
    assert len(np.unique(encoded, axis=0)) > 3


def test_several_encodings_stand_side_by_side() -> None:
    genomes = EVERY[::500]
    both = encode(["counts", "live-sizes"], CELLS, genomes)
    assert np.array_equal(both, np.column_stack([encode("counts", CELLS, genomes), encode("live-sizes", CELLS, genomes)]))


@pytest.mark.parametrize("kind", ["one-hot", "counts", "sizes"])
def test_an_edge_that_leads_nowhere_counts_only_where_the_whole_genome_does(kind: str) -> None:
    # The edge from 0 to 1 leads to a node that nothing reads.
    dead, without = np.array([[3, 0, 0, 1, 0, 0]]), np.array([[0, 0, 0, 1, 0, 0]])
    live = {"one-hot": "live-operations"}.get(kind, f"live-{kind}")
    assert np.array_equal(encode(live, CELLS, dead), encode(kind, CELLS, without))
    assert not np.array_equal(encode(kind, CELLS, dead), encode(kind, CELLS, without))
    chains = load_space("fbnet")
    genomes = sample(SiteIndex.of(chains), 20, np.random.default_rng(0))
    assert np.array_equal(encode(live, chains, genomes), encode(kind, chains, genomes))


def test_counts_are_those_of_layers_and_of_their_operations() -> None:
    space = load_space("fbnet")
    index = SiteIndex.of(space)
    genomes = sample(index, 20, np.random.default_rng(0))
    encoded = encode("counts", space, genomes)
    operations = list(dict.fromkeys(layer.op for layer in index.vocabulary))
    assert encoded.shape[1] == len(index.vocabulary) + len(operations)
    for genome, row in zip(genomes, encoded, strict=True):
        layers = [placed.layer for placed in index.network(genome).layers]
        assert row[: len(index.vocabulary)].tolist() == [layers.count(layer) for layer in index.vocabulary]
        found = Counter(layer.op for layer in layers)
        assert row[len(index.vocabulary) :].tolist() == [found[operation] for operation in operations]


def test_sizes_are_those_of_the_layers() -> None:
    space = load_space("ofa-mobilenetv3")
    index = SiteIndex.of(space)
    genomes = sample(index, 10, np.random.default_rng(0))
    for genome, row in zip(genomes, encode("sizes", space, genomes), strict=True):
        network = index.network(genome)
        told = dict(zip(SIZES, row, strict=True))
        outputs = [placed.layer.outputs[0].elements for placed in network.layers]
        inputs = [placed.layer.inputs[0].elements for placed in network.layers]
        assert told.pop("depth") == len(network.layers)
        assert {name: round(np.expm1(value)) for name, value in told.items()} == {
            "macs": network.macs,
            "params": network.params,
            "activations": sum(outputs),
            "largest_activation": max(outputs),
            "bytes": 4 * (sum(outputs) + sum(inputs) + network.params),
        }


def test_an_element_type_of_unknown_width_is_refused(tiny_index: SiteIndex) -> None:
    site = next(site for site in tiny_index.sites if not site.genes)
    odd = Layer("odd", (TensorSpec((1, 2), "int3"),), (TensorSpec((1, 2)),), (), 1, 1)
    index = SiteIndex((), (type(site)("odd", (), (odd,)),))
    with pytest.raises(SpaceError, match="int3"):
        layer_sizes(index, np.zeros((1, 0), dtype=np.int64))


def _operation_graph(genome: list[int]) -> str:
    """One name for each graph of operations, by trying every numbering of those that are alike."""
    reads: dict[int, tuple[object, ...]] = {0: ("input",)}
    operations: dict[object, tuple[int, tuple[object, ...]]] = {}
    for node in (1, 2, 3):
        terms: list[object] = []
        for column, (start, end) in enumerate(EDGES):
            if end == node and OPERATIONS[genome[column]] == "skip_connect":
                terms += reads[start]
            elif end == node and OPERATIONS[genome[column]] != "none":
                operations[column] = (genome[column], reads[start])
                terms.append(column)
        reads[node] = tuple(terms)
    alike = [[one for one, (code, _) in operations.items() if code == wanted] for wanted in range(len(OPERATIONS))]
    names = []
    for numbering in product(*map(permutations, alike)):
        number = {"input": -1, **{one: position for position, one in enumerate(chain.from_iterable(numbering))}}
        told = sorted((number[one], code, sorted(number[term] for term in terms)) for one, (code, terms) in operations.items())
        names.append(repr((told, sorted(number[term] for term in reads[3]))))
    return min(names)


def test_cells_of_one_graph_of_operations_have_one_canonical_vector() -> None:
    """And nearly no others: 5,116 vectors for 5,425 graphs."""
    assert isinstance(CELLS, CellSpace)
    vectors = _classes(encode("canonical-graph", CELLS, EVERY))
    live, cell_of = np.unique(CELLS.live_operations(EVERY), axis=0, return_inverse=True)
    graphs = _classes([_operation_graph(genome) for genome in live.tolist()])[cell_of.ravel()]
    assert len(np.unique(np.stack([graphs, vectors]), axis=1).T) == graphs.max() + 1 == 5425
    assert vectors.max() + 1 == 5116


def test_paths_are_the_same_within_the_published_isomorphism_classes(data_folder: Path, nb201: Sources) -> None:
    """The published classes do not see whether paths share an operation, so that counts of operations are not the same within them.
    They do see how many edges are empty: there are 6,466 of them, but 4,120 multisets of paths."""
    published = pq.read_table(data_folder / "nb201_archs.parquet", columns=["unique_rep"])["unique_rep"].to_numpy()
    encoded = encode("canonical-graph", CELLS, nb201.genomes)
    paths = _classes(encoded[:, :-3])
    assert len(np.unique(published)) == len(np.unique(np.stack([published, paths]), axis=1).T) == 6466
    assert paths.max() + 1 == 4120


def test_the_paths_of_a_cell_are_counted_by_their_operations() -> None:
    genome = CELLS.from_arch_string("|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
    (row,) = encode("canonical-graph", CELLS, genome[None])
    sequences = [one for length in range(4) for one in product(("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"), repeat=length)]
    found = {one: times for one, times in zip(sequences, row[:-3], strict=True) if times}
    assert found == {(): 1, ("avg_pool_3x3", "nor_conv_3x3"): 1, ("nor_conv_3x3", "nor_conv_1x1", "nor_conv_3x3"): 1}
    assert row[-3:].tolist() == [1, 2, 1]


def test_pairs_of_layers_in_a_chain_are_counted() -> None:
    space = load_space("digits-mobilenetv3:width=0.25,resolution=32")
    index = SiteIndex.of(space)
    genomes = sample(index, 40, np.random.default_rng(0))
    encoded = encode("canonical-graph", space, genomes)
    told = []
    for genome in genomes:
        kinds = [(placed.layer.op, placed.layer.attributes) for placed in index.network(genome).layers]
        told.append(Counter(kinds) + Counter(pairwise(kinds)))
    # The same numbers in an order of their own: networks that share kinds and pairs do so in both.
    products = np.array([[sum(one[key] * other[key] for key in one) for other in told] for one in told])
    assert np.array_equal(encoded @ encoded.T, products)


def test_given_vectors_are_found_by_network(tiny_index: SiteIndex) -> None:
    space = load_space(SPACES[0])
    rng = np.random.default_rng(0)
    genomes: GenomeArray = rng.integers(0, tiny_index.cardinality, (30, len(tiny_index.genes)))
    vectors = rng.standard_normal((30, 3))
    given = GivenVectors(genomes, vectors)
    order = rng.permutation(30)
    assert np.array_equal(given(space, tiny_index.canonical(genomes)[order]), vectors[order])
    with pytest.raises(GenomeError, match=r"no vector for the genome .*, and for 1 more"):
        GivenVectors(genomes[:28], vectors[:28])(space, genomes)
    twice = GivenVectors(np.concatenate([genomes, tiny_index.canonical(genomes[:1])]), np.concatenate([vectors, vectors[1:2]]))
    with pytest.raises(GenomeError, match="genomes 0 and 30 are one network"):
        twice(space, genomes)
    with pytest.raises(ArgumentError, match="one row a network"):
        GivenVectors(genomes, vectors[:5])
    with pytest.raises(ArgumentError, match="vector 2 is nan in column 1"):
        GivenVectors(genomes, np.where(np.arange(90).reshape(30, 3) == 7, np.nan, vectors))


def test_what_is_no_encoding_or_no_genome_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean one-hot"):
        encode("onehot", CELLS, EVERY[:2])
    with pytest.raises(ArgumentError, match="no encoding is named"):
        encode([], CELLS, EVERY[:2])
    with pytest.raises(GenomeError):
        encode("sizes", CELLS, [[5, 0, 0, 0, 0, 0]])
