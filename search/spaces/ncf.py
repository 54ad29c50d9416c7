"""Neural collaborative filtering (He et al., WWW 2017, arXiv:1708.05031) as a search space: genes and sites.

The network is their NeuMF (section 3.4): one pair of embeddings of user and item is multiplied element by element (GMF),
another pair is concatenated and goes through a multi-layer perceptron, and a linear layer makes the score of both results.
One inference scores ``candidates`` items for one user. The dimensions of the embeddings and the depth and widths of the
perceptron are elastic, after the NCF super-network of Cummings et al. (2022, arXiv:2205.10358); we know of no published list
of its choices, and those below are this project's own. The usual numbers of users and items are MovieLens 1M's (He et al.,
table 1). Multiply-accumulates are those of the linear layers; looking an embedding up costs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import ArgumentError
from layerclock.network import Layer, TensorSpec
from layerclock.space import Gene, Site, SiteIndex

if TYPE_CHECKING:
    import torch

__all__ = ["DEPTHS", "DIMENSIONS", "WIDTHS", "NcfShape", "NcfSpace", "ncf"]

# Of embeddings: the numbers of factors that He et al. compare (section 4.1).
DIMENSIONS = (8, 16, 32, 64)
DEPTHS = (1, 2, 3, 4)
WIDTHS = (16, 32, 64, 128)

_DEPTH = Gene("mlp.depth", DEPTHS)
_GMF = Gene("gmf.dimension", DIMENSIONS)
_MLP = Gene("mlp.dimension", DIMENSIONS)
_WIDTHS = tuple(Gene(f"mlp.layer{number}.width", WIDTHS) for number in range(1, max(DEPTHS) + 1))


@dataclass(frozen=True, slots=True)
class NcfShape:
    """The sizes of one network: embedding dimensions of both branches, and the widths of the perceptron's layers."""

    gmf: int
    mlp: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NcfSpace:
    """All networks for one number of users, items and candidates: a :class:`~layerclock.interfaces.SearchSpace`.

    Raises :class:`ArgumentError` for parameters of which no network can be made.
    """

    name: str
    users: int = 6040
    items: int = 3706
    candidates: int = 100

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int) for number in (self.users, self.items, self.candidates))
        if not (whole and self.users >= 2 and self.items >= 2 and self.candidates >= 1):
            raise ArgumentError(
                f"space {self.name!r}: users={self.users}, items={self.items}, candidates={self.candidates} is not a network",
                "whole numbers: users >= 2, items >= 2, candidates >= 1",
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The user's number and those of the candidates, for batch 1."""
        return TensorSpec((1, 1), "int64"), TensorSpec((1, self.candidates), "int64")

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Dimensions of the embeddings, depth of the perceptron, and the width of each of its layers; choices ascend."""
        return _GMF, _MLP, _DEPTH, *_WIDTHS

    @property
    def sites(self) -> tuple[Site, ...]:
        """Both embeddings, the layers of the perceptron, and the layer that makes the scores, in order of execution."""
        layers = []
        for number, own in enumerate(_WIDTHS, start=1):
            before = _MLP if number == 1 else _WIDTHS[number - 2]
            genes = (before, own) if number <= min(DEPTHS) else (_DEPTH, before, own)
            layers.append(Site.of(f"mlp.layer{number}", genes, _LinearAt(self, number)))
        return (
            Site.of("gmf", (_GMF,), self._gmf_layer),
            Site.of("embedding", (_MLP,), self._embedding_layer),
            *layers,
            Site.of("fusion", (_GMF, _DEPTH, *_WIDTHS), self._fusion_layer),
        )

    def _gmf_layer(self, dimension: int) -> Layer:
        out = TensorSpec((1, self.candidates, dimension))
        return Layer("embedding_product", self.inputs, (out,), self._vocabularies, 0, (self.users + self.items) * dimension)

    def _embedding_layer(self, dimension: int) -> Layer:
        out = TensorSpec((1, self.candidates, 2 * dimension))
        return Layer("embedding_concat", self.inputs, (out,), self._vocabularies, 0, (self.users + self.items) * dimension)

    @property
    def _vocabularies(self) -> tuple[tuple[str, int], ...]:
        # The size of a table decides which caches it fits into.
        return ("items", self.items), ("users", self.users)

    def linear(self, incoming: int, width: int) -> Layer:
        """A layer of the perceptron, with its activation, for every candidate."""
        return Layer(
            op="linear",
            inputs=(TensorSpec((1, self.candidates, incoming)),),
            outputs=(TensorSpec((1, self.candidates, width)),),
            attributes=(("act", "relu"),),
            macs=self.candidates * incoming * width,
            params=(incoming + 1) * width,
        )

    def _fusion_layer(self, gmf: int, depth: int, *widths: int) -> Layer:
        last = widths[depth - 1]
        return Layer(
            op="fusion",
            inputs=(TensorSpec((1, self.candidates, gmf)), TensorSpec((1, self.candidates, last))),
            outputs=(TensorSpec((1, self.candidates)),),
            attributes=(),
            macs=self.candidates * (gmf + last),
            params=gmf + last + 1,
        )

    def shape(self, genome: npt.ArrayLike) -> NcfShape:
        """The sizes of one genome's network."""
        row = SiteIndex(self.genes, ()).check(np.asarray(genome)[None])[0]
        gmf, mlp, depth, *widths = (int(gene.choices[value]) for gene, value in zip(self.genes, row, strict=True))
        return NcfShape(gmf, mlp, tuple(widths[:depth]))

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        """The network of one genome, with random weights and modules named after the sites. Needs torch."""
        from layerclock.search.networks.ncf import NeuMF

        return NeuMF(self.users, self.items, self.shape(genome))


@dataclass(frozen=True, slots=True)
class _LinearAt:
    """What stands at layer ``number`` (from 1) of the perceptron, by the values of the site's genes."""

    space: NcfSpace
    number: int

    def __call__(self, *values: int) -> Layer | None:
        *depth, before, width = values
        if depth and depth[0] < self.number:
            return None
        return self.space.linear(2 * before if self.number == 1 else before, width)


def ncf(users: int = 6040, items: int = 3706, candidates: int = 100) -> NcfSpace:
    """The space of neural collaborative filtering (``ncf``)."""
    given = {"users": (users, 6040), "items": (items, 3706), "candidates": (candidates, 100)}
    # The name says every parameter that differs from the usual, so that tables of variants never share a name.
    changed = ",".join(f"{key}={value}" for key, (value, usual) in given.items() if value != usual)
    return NcfSpace(f"ncf:{changed}" if changed else "ncf", users, items, candidates)
