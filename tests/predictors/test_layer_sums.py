"""Sums over layers are what one gets by going through a network layer by layer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from layerclock.errors import GenomeError
from layerclock.network import Layer, TensorSpec
from layerclock.plugins import load_space
from layerclock.predictors import layer_sums
from layerclock.predictors.layer_sums import TOTALS, LayerSums
from layerclock.space import Gene, Site, SiteIndex, sample

# Groups of columns, in their order.
SIZES, CHOICES, KINDS, STAGED, STAGES, ALONE, NEAR, FAR = range(8)


def _group(sums: LayerSums, columns: np.ndarray, number: int) -> np.ndarray:
    start = sum(sums.groups[:number])
    return columns[:, start : start + sums.groups[number]]


@pytest.fixture(scope="module")
def shared() -> SiteIndex:
    """A width that three layers share, two of which a depth switches off, and a gene that changes nothing."""
    width, depth, idle = Gene("width", (8, 16)), Gene("depth", (1, 2, 3)), Gene("idle", (0, 1))

    def layer(broad: int) -> Layer:
        spec = TensorSpec((1, broad, 4, 4))
        return Layer("conv", (spec,), (spec,), (("width", broad),), macs=broad * broad, params=broad)

    sites = (
        Site.of("first", (width, idle), lambda broad, _: layer(broad)),
        Site.of("second", (depth, width), lambda deep, broad: layer(broad) if deep > 1 else None),
        Site.of("third", (depth, width), lambda deep, broad: layer(broad) if deep > 2 else None),
    )
    return SiteIndex((width, depth, idle), sites)


def test_a_choice_counts_at_every_layer_that_it_makes(shared: SiteIndex) -> None:
    sums = LayerSums.of(shared)
    every = np.indices(tuple(shared.cardinality.tolist())).reshape(3, -1).T
    counted = _group(sums, sums.table[shared.options(every)].sum(axis=1), CHOICES)
    for (width, depth, _), row in zip(every, counted, strict=True):
        expected = np.zeros(7)
        expected[width] = 1 + depth  # the first layer, and those that the depth lets stand
        expected[:2] += 0.5 * (2 - depth)  # where nothing stands, both widths say so in equal parts
        # Two depths leave the second layer standing, and two do without the third: they are told apart by both sites together.
        expected[2:5] = [[1.5, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1.5]][depth]
        expected[5:] = 0.5
        assert row.tolist() == pytest.approx(expected.tolist())
    told = np.isfinite(_group(sums, sums.scale[None], CHOICES)[0])
    assert told.tolist() == [True] * 5 + [False] * 2, "a gene that changes nothing has nothing to tell"
    assert (_group(sums, sums(every), CHOICES)[:, 5:] == 0).all()


@pytest.mark.parametrize("name", ["ncf", "ofa-resnet50", "transformer", "nas-bench-201"])
def test_genomes_of_one_network_have_one_row(name: str) -> None:
    index = SiteIndex.of(load_space(name))
    genomes = np.random.default_rng(0).integers(0, index.cardinality, (500, len(index.genes)))
    sums = LayerSums.of(index)
    assert sums(index.canonical(genomes)) == pytest.approx(sums(genomes), abs=1e-9)


def _layer(op: str, number: int, macs: int) -> Layer:
    return Layer(op, (), (), (("number", number),), macs=macs, params=1)


def test_what_was_not_drawn_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_sums, "_DRAWN", 5)
    many, few = Gene("many", tuple(range(50))), Gene("few", (0, 1))
    sites = (Site.of("a", (many,), lambda number: _layer("a", number, 7)), Site.of("b", (few,), lambda number: _layer("b", number, 9)))
    sums = LayerSums.of(SiteIndex((many, few), sites))
    genomes = np.column_stack([np.arange(50), np.zeros(50, dtype=np.int64)])
    assert np.linalg.matrix_rank(_group(sums, sums(genomes), ALONE)) >= 49


def test_rounding_is_nothing_to_tell() -> None:
    """Eigenvectors of layers that all resemble each other alike have entries that cancel."""
    genes = tuple(Gene(f"g{number}", (0, 1, 2)) for number in range(4))
    sites = [Site.of("fixed0", (), lambda: _layer("other", 0, 5)), Site.of("fixed1", (), lambda: _layer("other", 1, 5))]
    for place, gene in enumerate(genes):
        sites.insert(2 * place % 3, Site.of(gene.name, (gene,), lambda choice: _layer("searched", choice, 7)))
    index = SiteIndex(genes, sites)
    sums = LayerSums.of(index)
    assert sums.scale.min() > 1e-6
    columns = sums(sample(index, 60, np.random.default_rng(1)))
    assert np.abs(columns).max() < 100


def test_a_space_without_layers_has_choices_alone() -> None:
    gene = Gene("gene", (0, 1))
    index = SiteIndex((gene,), (Site.of("site", (gene,), lambda _: None),))
    assert (LayerSums.of(index)([[0], [1]]) == 0).all()


def test_tables_of_very_many_options_are_left_alone(tiny_index: SiteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LayerSums.affordable(tiny_index)
    monkeypatch.setattr(layer_sums, "_MOST_CELLS", 100)
    assert not LayerSums.affordable(tiny_index)


def test_sizes_and_layers_are_those_of_the_networks(tiny_index: SiteIndex) -> None:
    sums = LayerSums.of(tiny_index)
    assert len(sums.groups) == FAR + 1
    genomes = sample(tiny_index, 40, np.random.default_rng(0))
    raw = sums.table[tiny_index.options(genomes)].sum(axis=1)
    sizes, alone = _group(sums, raw, SIZES), _group(sums, raw, ALONE)
    assert np.ptp(sizes[:, 0] / tiny_index.macs(genomes)) == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(sizes[:, 1] / tiny_index.params(genomes)) == pytest.approx(0.0, abs=1e-12)
    for genome, depth, layers in zip(genomes, sizes[:, 2], alone @ alone.T, strict=True):
        network = tiny_index.network(genome)
        assert depth == len(network.layers)
        counts = Counter(placed.layer.key for placed in network.layers)
        for other, product in zip(genomes, layers, strict=True):
            theirs = Counter(placed.layer.key for placed in tiny_index.network(other).layers)
            assert product == pytest.approx(sum(number * theirs[key] for key, number in counts.items()))


@pytest.mark.parametrize(("number", "length"), [(NEAR, 1.0), (FAR, 4.0)])
def test_layers_whose_sizes_resemble_each_other_stand_for_each_other(number: int, length: float, tiny_index: SiteIndex) -> None:
    sums = LayerSums.of(tiny_index)
    genomes = sample(tiny_index, 6, np.random.default_rng(3))
    columns = _group(sums, sums.table[tiny_index.options(genomes)].sum(axis=1), number)

    def logs(layer: Layer) -> np.ndarray:
        read, written = (sum(spec.elements for spec in specs) for specs in (layer.inputs, layer.outputs))
        found: np.ndarray = np.log1p(np.array([layer.macs, layer.params, read, written], dtype=float))
        return found

    spread = np.array([logs(layer) for layer in tiny_index.vocabulary]).std(axis=0)

    def resemblance(one: Layer, other: Layer) -> float:
        return float(np.exp(-((((logs(one) - logs(other)) / spread) ** 2).sum()) / (2 * length**2))) if one.op == other.op else 0.0

    networks = [[placed.layer for placed in tiny_index.network(genome).layers] for genome in genomes]
    expected = [[sum(resemblance(a, b) for a in one for b in other) for other in networks] for one in networks]
    assert columns @ columns.T == pytest.approx(np.array(expected), rel=1e-4)


def test_columns_are_centred_and_groups_are_of_one_length(tiny_index: SiteIndex) -> None:
    sums = LayerSums.of(tiny_index)
    columns = sums(sample(tiny_index, 4000, np.random.default_rng(7)))
    assert np.abs(columns.mean(axis=0)).max() < 0.05
    for number in range(len(sums.groups)):
        assert (_group(sums, columns, number) ** 2).sum(axis=1).mean() == pytest.approx(1.0, rel=0.1)
    sizes = _group(sums, columns, SIZES)
    assert sizes.std(axis=0) == pytest.approx(np.full(TOTALS, 0.5), rel=0.1), "each of the four counts alike"


def test_genomes_of_another_space_are_refused(tiny_index: SiteIndex) -> None:
    with pytest.raises(GenomeError):
        LayerSums.of(tiny_index)([[0, 1]])


def test_a_space_of_very_many_layers_goes_without_their_covariances(tiny_index: SiteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_sums, "_MOST_LAYERS", 10)
    assert len(LayerSums.of(tiny_index).groups) == ALONE


@pytest.mark.parametrize("name", ["nas-bench-201", "ncf", "transformer", "bert", "ofa-resnet50", "fbnet"])
def test_every_space_has_sums(name: str) -> None:
    index = SiteIndex.of(load_space(name))
    columns = LayerSums.of(index)(sample(index, 50, np.random.default_rng(0)))
    assert np.isfinite(columns).all()
    assert np.linalg.matrix_rank(columns) > 4
