"""What follows from genes and sites, held against plain Python on spaces small enough to go through every genome."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerclock.errors import GenomeError, SpaceError
from layerclock.network import Layer
from layerclock.space import Gene, Site, SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.interfaces import SearchSpace

exhaustive = settings(max_examples=60, deadline=None, derandomize=True)


def _layer(**attributes: int) -> Layer:
    size = 1 + sum((position + 2) * value for position, value in enumerate(attributes.values()))
    return Layer("conv", (), (), tuple(attributes.items()), macs=size, params=size * 3)


@st.composite
def indexes(draw: st.DrawFn) -> SiteIndex:
    """Stages of elastic depth whose blocks choose a kernel, and perhaps one width for all blocks, perhaps a fixed stem."""
    width = Gene("width", (8, 16)) if draw(st.booleans()) else None
    named_by_place = draw(st.booleans())  # otherwise one layer may stand at several sites
    genes: list[Gene] = [width] if width else []
    sites: list[Site] = [Site("stem", (), (_layer(stem=1),))] if draw(st.booleans()) else []
    for stage in range(draw(st.integers(1, 2))):
        depth = Gene(f"{stage}.depth", tuple(draw(st.sampled_from([(1, 2), (0, 1), (1, 2, 3), (2,)]))))
        genes.append(depth)
        for block in range(max(map(int, depth.choices))):
            kernel = Gene(f"{stage}.{block}.kernel", tuple(range(3, 3 + draw(st.integers(1, 2)))))
            genes.append(kernel)
            place = {"stage": stage, "block": block} if named_by_place else {}

            def stands(*values: int, number: int = block, at: dict[str, int] = place) -> Layer | None:
                deep, size, *broad = values
                return _layer(**at, k=size, w=broad[0] if broad else 0) if number < deep else None

            sites.append(Site.of(f"{stage}.{block}", (depth, kernel, *([width] if width else [])), stands))
    return SiteIndex(draw(st.permutations(genes)), sites)


def _all_genomes(index: SiteIndex) -> npt.NDArray[np.int64]:
    return np.array(list(product(*(range(len(gene.choices)) for gene in index.genes))), dtype=np.int64)


def _standing(index: SiteIndex, genome: npt.NDArray[np.int64]) -> tuple[Layer | None, ...]:
    """The layers of a network by the definition of a site: its options run over its genes, the last one fastest."""
    value = {gene.name: int(chosen) for gene, chosen in zip(index.genes, genome, strict=True)}
    found = []
    for site in index.sites:
        option = 0
        for gene in site.genes:
            option = option * len(gene.choices) + value[gene.name]
        found.append(site.layers[option])
    return tuple(found)


@exhaustive
@given(indexes())
def test_vocabulary_counts_and_sizes_are_those_of_a_plain_loop(index: SiteIndex) -> None:
    genomes = _all_genomes(index)
    networks = [_standing(index, genome) for genome in genomes]
    assert set(index.vocabulary) == {layer for site in index.sites for layer in site.layers if layer is not None}
    assert len(set(index.vocabulary)) == len(index.vocabulary)
    for genome, layers, counts, macs, params in zip(
        genomes, networks, index.counts(genomes), index.macs(genomes), index.params(genomes), strict=True
    ):
        standing = [layer for layer in layers if layer is not None]
        expected = Counter(standing)
        assert dict(zip(index.vocabulary, counts.tolist(), strict=True)) == {layer: expected[layer] for layer in index.vocabulary}
        assert macs == sum(layer.macs for layer in standing)
        assert params == sum(layer.params for layer in standing)
        network = index.network(genome, "one")
        assert [placed.layer for placed in network.layers] == standing
        assert [placed.site for placed in network.layers] == [
            site.name for site, layer in zip(index.sites, layers, strict=True) if layer is not None
        ]
        assert (network.macs, network.params) == (macs, params)


@exhaustive
@given(indexes())
def test_a_gene_is_active_exactly_if_another_value_changes_the_network(index: SiteIndex) -> None:
    genomes = _all_genomes(index)
    for genome, active in zip(genomes, index.active(genomes), strict=True):
        for gene in range(len(index.genes)):
            others = np.repeat(genome[None], index.cardinality[gene], axis=0)
            others[:, gene] = np.arange(index.cardinality[gene])
            assert active[gene] == (len({_standing(index, other) for other in others}) > 1)


@exhaustive
@given(indexes())
def test_every_network_has_one_canonical_genome_and_it_is_that_network(index: SiteIndex) -> None:
    genomes = _all_genomes(index)
    canonical = index.canonical(genomes)
    assert np.array_equal(index.canonical(canonical), canonical)
    of_network: dict[tuple[Layer | None, ...], set[bytes]] = defaultdict(set)
    for genome, represented in zip(genomes, canonical, strict=True):
        assert _standing(index, represented) == _standing(index, genome)
        of_network[_standing(index, genome)].add(represented.tobytes())
    assert all(len(representatives) == 1 for representatives in of_network.values())


@exhaustive
@given(indexes())
def test_decoding_and_encoding_give_the_canonical_genome_back(index: SiteIndex) -> None:
    for genome in _all_genomes(index):
        assert np.array_equal(index.encode(dict(index.decode(genome))), index.canonical(genome[None])[0])


@exhaustive
@given(indexes(), st.integers(0, 5))
def test_sampling_draws_distinct_networks_until_the_space_is_empty(index: SiteIndex, seed: int) -> None:
    networks = {genome.tobytes() for genome in index.canonical(_all_genomes(index))}
    drawn = sample(index, len(networks) + 5, np.random.default_rng(seed))
    assert {genome.tobytes() for genome in drawn} == networks
    assert len(drawn) == len(networks)
    some = sample(index, 2, np.random.default_rng(seed))
    rest = sample(index, len(networks), np.random.default_rng(seed), exclude=some)
    assert {genome.tobytes() for genome in rest} == networks - {genome.tobytes() for genome in some}


def test_sampling_depends_on_the_seed_alone(tiny_index: SiteIndex) -> None:
    first, again, other = (sample(tiny_index, 20, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (20, len(tiny_index.genes))


def test_genes_that_depend_on_each_other_in_a_circle_are_refused() -> None:
    a, b = Gene("a", (0, 1)), Gene("b", (0, 1))
    small, large = _layer(k=3), _layer(k=5)
    index = SiteIndex((a, b), (Site("only", (a, b), (small, large, large, large)),))
    assert np.array_equal(index.canonical([[0, 1]]), [[0, 1]])
    with pytest.raises(SpaceError, match="circle"):
        index.canonical([[1, 1]])


def test_contradictory_spaces_are_refused() -> None:
    gene = Gene("a", (3, 5))
    layers = (_layer(k=3), _layer(k=5))
    with pytest.raises(SpaceError, match="'only' holds 1 layers, its genes have 2"):
        Site("only", (gene,), layers[:1])
    with pytest.raises(SpaceError, match="'only' names a gene twice"):
        Site("only", (gene, gene), layers * 2)
    site = Site("only", (gene,), layers)
    with pytest.raises(SpaceError, match="uses the gene 'a', which the space does not have"):
        SiteIndex((Gene("b", (3, 5)),), (site,))
    with pytest.raises(SpaceError, match="uses the gene 'a', which the space does not have"):
        SiteIndex((Gene("a", (3, 7)),), (site,))
    with pytest.raises(SpaceError, match="two genes"):
        SiteIndex((gene, gene), (site,))
    with pytest.raises(SpaceError, match="two sites"):
        SiteIndex((gene,), (site, site))


@pytest.mark.parametrize(
    ("genomes", "message"),
    [
        ([[0, 1]], r"shape \(1, 2\), this space needs \(N, 3\)"),
        ([0, 1, 0], r"shape \(3,\)"),
        ([[0.0, 1.0, 0.0]], "dtype float64"),
        ([[True, True, False]], "dtype bool"),
        ([["0", "1", "0"]], "dtype <U1"),
        ([[0, 0, 0], [0, 3, 0]], r"genome 1: gene 1 \(b\) is 3 \(its values run from 0 to 2\)"),
        ([[0, 0, -1]], r"genome 0: gene 2 \(c\) is -1"),
    ],
)
def test_a_genome_of_another_space_is_refused_in_words(genomes: npt.ArrayLike, message: str) -> None:
    index = SiteIndex((Gene("a", (0, 1)), Gene("b", (0, 1, 2)), Gene("c", (0, 1))), ())
    with pytest.raises(GenomeError, match=message):
        index.check(genomes)


@pytest.mark.parametrize("row", [0, 63, 64, 150, 199])
@pytest.mark.parametrize("wrong", [-1, 3, 2**62])
def test_one_wrong_genome_among_many_is_found(row: int, wrong: int) -> None:
    index = SiteIndex((Gene("a", (0, 1)), Gene("b", (0, 1, 2)), Gene("c", (0, 1))), ())
    genomes = np.ones((200, 3), dtype=np.int64)
    assert index.check(genomes) is not None
    genomes[row, 1] = wrong
    with pytest.raises(GenomeError, match=rf"genome {row}: gene 1 \(b\) is {wrong} "):
        index.check(genomes)


def test_any_integers_are_accepted_as_a_genome(tiny_index: SiteIndex) -> None:
    genes = len(tiny_index.genes)
    assert tiny_index.check([[1] * genes]).dtype == np.int64
    assert tiny_index.check(np.ones((2, genes), dtype=np.uint8)).dtype == np.int64
    assert tiny_index.check(np.zeros((0, genes), dtype=np.int64)).shape == (0, genes)


def test_encoding_refuses_what_the_space_does_not_have(tiny_index: SiteIndex) -> None:
    assert tiny_index.encode({"stage1.depth": 4})[0] == 2
    with pytest.raises(GenomeError, match=r"no gene is called 'depth'.*stage1\.depth"):
        tiny_index.encode({"depth": 4})
    with pytest.raises(GenomeError, match=r"gene 'stage1\.depth' cannot be 5 \(choices: \(2, 3, 4\)\)"):
        tiny_index.encode({"stage1.depth": 5})


def test_the_digest_tells_spaces_apart_by_content_alone(tiny_space: SearchSpace, tiny_index: SiteIndex) -> None:
    # Tables and predictors carry this digest: if it changes, those written before belong to no space any more.
    assert tiny_index.digest == "16378f52e1c90789"
    assert SiteIndex(tiny_space.genes, tiny_space.sites).digest == tiny_index.digest
    assert SiteIndex(tiny_space.genes, tiny_space.sites[:-1]).digest != tiny_index.digest
    gene = Gene("a", (3, 5))
    layers = (_layer(k=3), _layer(k=5))
    digests = {
        SiteIndex((gene,), (Site("x", (gene,), layers),)).digest,
        SiteIndex((gene,), (Site("y", (gene,), layers),)).digest,
        SiteIndex((gene,), (Site("x", (gene,), layers[::-1]),)).digest,
        SiteIndex((Gene("a", (3, 7)),), (Site("x", (Gene("a", (3, 7)),), layers),)).digest,
    }
    assert len(digests) == 4
