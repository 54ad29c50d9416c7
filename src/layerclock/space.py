"""Genes and sites: from them everything that the tool needs to know of a search space follows.

A *gene* is a named choice. A *site* is a place in the network; it names the few genes that decide what stands there
and holds the layer for each combination of their values, or ``None`` where the network is shallower.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from layerclock.errors import GenomeError, SpaceError
from layerclock.network import Layer, Network, PlacedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["Choice", "Gene", "GenomeArray", "Site", "SiteIndex", "sample"]

Choice = int | float | str
GenomeArray = npt.NDArray[np.int64]

_SIDE_BY_SIDE = 64


@dataclass(frozen=True, slots=True)
class Gene:
    """A named choice. A genome holds the *position* of the chosen value in ``choices``."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the network and what may stand there.

    ``layers`` runs over the product of the choices of ``genes``, the last gene fastest.
    """

    name: str
    genes: tuple[Gene, ...]
    layers: tuple[Layer | None, ...]

    def __post_init__(self) -> None:
        expected = prod(len(gene.choices) for gene in self.genes)
        if len(self.layers) != expected:
            raise SpaceError(f"site {self.name!r} holds {len(self.layers)} layers, its genes have {expected} combinations")
        if len({gene.name for gene in self.genes}) != len(self.genes):
            raise SpaceError(f"site {self.name!r} names a gene twice")

    @classmethod
    def of(cls, name: str, genes: Sequence[Gene], layer: Callable[..., Layer | None]) -> Site:
        """Make a site by calling ``layer`` with every combination of the genes' values."""
        combinations = product(*(gene.choices for gene in genes))
        return cls(name, tuple(genes), tuple(layer(*values) for values in combinations))


class _HasSites(Protocol):
    """The part of a search space that an index needs; the whole is in :mod:`layerclock.interfaces`."""

    @property
    def genes(self) -> tuple[Gene, ...]: ...

    @property
    def sites(self) -> tuple[Site, ...]: ...


class SiteIndex:
    """The vectorised view of a search space: everything that follows from its genes and sites.

    Arrays (``G`` genes, ``S`` sites, ``V`` distinct layers, ``T`` options of all sites together, ``P`` pairs of a site
    and one of its genes):

    - ``radix`` int64[G, S], ``offsets`` int64[S]: ``genomes @ radix + offsets`` numbers the option at each site;
    - ``option_layer`` int64[T]: the vocabulary number of each option, -1 where nothing stands;
    - ``pair_site``, ``pair_gene`` int64[P] and ``pair_start`` int64[P], ``relevance`` bool[sum of options over pairs]:
      whether the gene changes the layer at that site while the other genes keep their values.
    """

    def __init__(self, genes: Sequence[Gene], sites: Sequence[Site]) -> None:
        self.genes = tuple(genes)
        self.sites = tuple(sites)
        self.cardinality = np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)
        position = {gene.name: number for number, gene in enumerate(self.genes)}
        if len(position) != len(self.genes):
            raise SpaceError("two genes have the same name")
        if len({site.name for site in self.sites}) != len(self.sites):
            raise SpaceError("two sites have the same name")
        self.radix = np.zeros((len(self.genes), len(self.sites)), dtype=np.int64)
        self.offsets = np.zeros(len(self.sites), dtype=np.int64)
        numbers: dict[str, int] = {}
        vocabulary: list[Layer] = []
        option_layer: list[int] = []
        pairs: list[tuple[int, int, npt.NDArray[np.bool_]]] = []
        # What each choice of each gene does at the sites so far, as numbers: those of equal numbers do the same.
        effects: list[list[tuple[int, ...]]] = [[()] * len(gene.choices) for gene in self.genes]
        for column, site in enumerate(self.sites):
            self.offsets[column] = len(option_layer)
            for layer in site.layers:
                if layer is not None and layer.key not in numbers:
                    numbers[layer.key] = len(vocabulary)
                    vocabulary.append(layer)
                elif layer is not None and layer != vocabulary[numbers[layer.key]]:
                    raise SpaceError(
                        f"site {site.name!r}: two layers called {layer.key} differ in their multiply-accumulates or parameters",
                        "what makes them differ belongs into their attributes",
                    )
                option_layer.append(-1 if layer is None else numbers[layer.key])
            own = np.array(option_layer[self.offsets[column] :]).reshape([len(gene.choices) for gene in site.genes])
            step = 1
            for axis in reversed(range(len(site.genes))):
                gene = site.genes[axis]
                if position.get(gene.name) is None or self.genes[position[gene.name]] != gene:
                    raise SpaceError(f"site {site.name!r} uses the gene {gene.name!r}, which the space does not have")
                self.radix[position[gene.name], column] = step
                step *= len(gene.choices)
                matters = (own != own.take([0], axis=axis)).any(axis=axis, keepdims=True)
                done = np.unique(np.moveaxis(own, axis, 0).reshape(len(gene.choices), -1), axis=0, return_inverse=True)[1].ravel()
                known = effects[position[gene.name]]
                known[:] = [(*before, int(number)) for before, number in zip(known, done, strict=True)]
                pairs.append((column, position[gene.name], np.broadcast_to(matters, own.shape).ravel()))
        self.vocabulary = tuple(vocabulary)
        # The first choice that does the same, int64[G, most choices].
        self._first_alike = np.zeros((len(self.genes), int(self.cardinality.max(initial=1))), dtype=np.int64)
        for gene_number, done_by in enumerate(effects):
            self._first_alike[gene_number, : len(done_by)] = [done_by.index(one) for one in done_by]
        self.option_layer = np.array(option_layer, dtype=np.int64)
        self.pair_site = np.array([pair[0] for pair in pairs], dtype=np.int64)
        self.pair_gene = np.array([pair[1] for pair in pairs], dtype=np.int64)
        self.relevance = np.concatenate([pair[2] for pair in pairs]) if pairs else np.zeros(0, dtype=np.bool_)
        starts = np.cumsum([0, *(len(pair[2]) for pair in pairs)])[:-1]
        self.pair_start = starts.astype(np.int64) - self.offsets[self.pair_site]
        self._radix = self.radix.astype(np.float64)
        self._gene_of_pair = (self.pair_gene[:, None] == np.arange(len(self.genes))).astype(np.float32)
        self._macs = np.array([layer.macs for layer in vocabulary] + [0], dtype=np.int64)
        self._params = np.array([layer.params for layer in vocabulary] + [0], dtype=np.int64)

    @classmethod
    def of(cls, space: _HasSites) -> SiteIndex:
        """The index of a search space."""
        return cls(space.genes, space.sites)

    @property
    def digest(self) -> str:
        """Hash of the genes, the sites and their layers: two spaces of one digest hold the same networks."""
        text = "\n".join(
            [f"{gene.name}={gene.choices}" for gene in self.genes]
            + [
                f"{site.name}:{[gene.name for gene in site.genes]}:"
                + ";".join("-" if layer is None else layer.key for layer in site.layers)
                for site in self.sites
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self, genomes: npt.ArrayLike) -> GenomeArray:
        """Return ``genomes`` as int64[N, G]; raises :class:`GenomeError` where one does not belong to the space."""
        return check_genomes(genomes, self.cardinality, [gene.name for gene in self.genes])

    def options(self, genomes: GenomeArray) -> GenomeArray:
        """Number of the option that stands at each site: int64[N, S]."""
        # Exact in floating point, whose products are several times faster: the numbers are far below 2**53.
        return (genomes.astype(np.float64) @ self._radix).astype(np.int64) + self.offsets

    def layers(self, genomes: npt.ArrayLike) -> GenomeArray:
        """Vocabulary number of the layer at each site, -1 where nothing stands: int64[N, S]."""
        return self.option_layer[self.options(self.check(genomes))]

    def counts(self, genomes: npt.ArrayLike) -> GenomeArray:
        """How often each distinct layer occurs in each network: int64[N, V]."""
        layers = self.layers(genomes)
        counts = np.zeros((len(layers), len(self.vocabulary) + 1), dtype=np.int64)
        np.add.at(counts, (np.arange(len(layers))[:, None], layers), 1)
        return counts[:, :-1]

    def macs(self, genomes: npt.ArrayLike) -> GenomeArray:
        """Multiply-accumulates of each network: int64[N]."""
        macs: GenomeArray = self._macs[self.layers(genomes)].sum(axis=1)
        return macs

    def params(self, genomes: npt.ArrayLike) -> GenomeArray:
        """Trained weights of each network: int64[N]."""
        params: GenomeArray = self._params[self.layers(genomes)].sum(axis=1)
        return params

    def active(self, genomes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each gene changes anything in its network: bool[N, G]."""
        checked = self.check(genomes)
        relevant = self.relevance[self.options(checked)[:, self.pair_site] + self.pair_start]
        active: npt.NDArray[np.bool_] = relevant.astype(np.float32) @ self._gene_of_pair > 0
        return active

    def canonical(self, genomes: npt.ArrayLike) -> GenomeArray:
        """The one genome that stands for each network: int64[N, G].

        Inactive genes take their first choice, the others the first one that does the same at all sites: two widths may round to the
        same channels. Raises :class:`SpaceError` if that would change a network, which means that the space's genes depend on each
        other in a circle.
        """
        checked = self.check(genomes)
        alike = self._first_alike[np.arange(len(self.genes)), checked]
        canonical = np.where(self.active(checked), alike, 0)
        if not np.array_equal(self.layers(canonical), self.layers(checked)):
            raise SpaceError("masking the inactive genes changes a network: its genes depend on each other in a circle")
        return canonical

    def network(self, genome: npt.ArrayLike, name: str = "") -> Network:
        """The network of one genome, layer by layer."""
        row = self.layers(np.asarray(genome)[None])[0]
        placed = [PlacedLayer(site.name, self.vocabulary[number]) for site, number in zip(self.sites, row, strict=True) if number >= 0]
        return Network(name, tuple(placed))

    def encode(self, config: dict[str, Any]) -> GenomeArray:
        """Genome int64[G] of a mapping from gene name to chosen value; absent genes take their first choice."""
        unknown = sorted(set(config) - {gene.name for gene in self.genes})
        if unknown:
            raise GenomeError(f"no gene is called {unknown[0]!r}", f"the genes are {', '.join(g.name for g in self.genes[:6])}, ...")
        values = []
        for gene in self.genes:
            value = config.get(gene.name, gene.choices[0])
            if value not in gene.choices:
                raise GenomeError(f"gene {gene.name!r} cannot be {value!r}", f"choices: {gene.choices}")
            values.append(gene.choices.index(value))
        return np.array(values, dtype=np.int64)

    def decode(self, genome: npt.ArrayLike) -> dict[str, Choice]:
        """The chosen values of the *active* genes of one genome, by name."""
        checked = self.check(np.asarray(genome)[None])
        active = self.active(checked)[0]
        chosen = zip(self.genes, checked[0], active, strict=True)
        return {gene.name: gene.choices[int(value)] for gene, value, alive in chosen if alive}


def check_genomes(genomes: npt.ArrayLike, cardinality: npt.NDArray[np.int64], names: Sequence[str]) -> GenomeArray:
    """Return ``genomes`` as int64[N, G]; raises :class:`GenomeError` naming the first value out of range."""
    try:
        array = np.asarray(genomes)
    except ValueError as error:  # rows of several lengths
        raise GenomeError(f"genomes are no array: {error}", f"each has {len(cardinality)} values") from error
    if array.ndim != 2 or array.shape[1] != len(cardinality):
        raise GenomeError(f"genomes have shape {array.shape}, this space needs (N, {len(cardinality)})")
    if array.dtype.kind not in "iu":
        raise GenomeError(f"genomes have dtype {array.dtype}", "a genome holds the positions of its choices, as integers")
    checked = np.ascontiguousarray(array, dtype=np.int64)
    # As unsigned numbers, those below zero are beyond every cardinality: one pass over the genomes.
    if len(checked) and (_largest(checked.view(np.uint64)) >= cardinality.astype(np.uint64)).any():
        row, gene = map(int, np.argwhere((checked < 0) | (checked >= cardinality))[0])
        raise GenomeError(
            f"genome {row}: gene {gene} ({names[gene]}) is {checked[row, gene]}", f"its values run from 0 to {cardinality[gene] - 1}"
        )
    return checked


def _largest(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The columns' maxima, [G] of [N, G]: of 64 rows side by side first, as numpy is twice as fast on long rows."""
    together = len(values) // _SIDE_BY_SIDE
    whole, rest = values[: together * _SIDE_BY_SIDE], values[together * _SIDE_BY_SIDE :]
    if together:
        rest = np.vstack([whole.reshape(together, -1).max(axis=0).reshape(_SIDE_BY_SIDE, -1), rest])
    largest: npt.NDArray[np.uint64] = rest.max(axis=0)
    return largest


def sample(index: SiteIndex, number: int, rng: np.random.Generator, exclude: npt.ArrayLike | None = None) -> GenomeArray:
    """Draw up to ``number`` distinct canonical genomes, uniform over the genes: int64[<=number, G].

    Genomes in ``exclude`` (canonical) are not drawn. Fewer come back only where the space seems to hold no more.
    """
    seen = {row.tobytes() for row in np.asarray(exclude, dtype=np.int64)} if exclude is not None else set()
    drawn: list[GenomeArray] = []
    for _ in range(50):
        for row in index.canonical(rng.integers(0, index.cardinality, (max(number, 16), len(index.genes)))):
            if len(drawn) < number and row.tobytes() not in seen:
                seen.add(row.tobytes())
                drawn.append(row)
        if len(drawn) == number:
            break
    return np.array(drawn, dtype=np.int64).reshape(len(drawn), len(index.genes))
