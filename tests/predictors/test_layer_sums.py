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


def test_a_choice_counts_at_every_layer_where_it_matters(shared: SiteIndex) -> None:
    sums = LayerSums.of(shared)
    every = np.indices(tuple(shared.cardinality.tolist())).reshape(3, -1).T
    counted = _group(sums, sums.table[shared.options(every)].sum(axis=1), CHOICES)
    told = np.isfinite(_group(sums, sums.scale[None], CHOICES)[0])
    assert (_group(sums, sums(every), CHOICES)[:, ~told] == 0).all()
    for (width, depth, idle), row in zip(every, counted, strict=True):
        expected = np.zeros(7)
        expected[width] = depth + 1  # in each of the layers that stand
        expected[2 + depth] = 2  # at both sites that it switches, standing or not
        assert row[told].tolist() == pytest.approx(expected[told].tolist())
        assert idle in (0, 1)
    assert not told[5:].any(), "a gene that changes nothing has nothing to tell"


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
