"""Networks as chains of layers: how often each kind of layer follows each other kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from layerclock.space import GenomeArray, SiteIndex

__all__ = ["chain_features"]


def chain_features(index: SiteIndex, genomes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Features float64[N, F] of genomes int64[N, G]: counts of each kind of layer, then of each pair of kinds one after the other.

    A kind is an operation with its attributes, of any shape. Pairs that no network of the space can hold, because a layer always
    stands between, have no column. Raises :class:`~layerclock.errors.GenomeError` for genomes of another space.
    """
    kind = _kind_of_layer(index)
    kinds = int(kind.max()) + 1
    stands: GenomeArray = kind[index.layers(genomes)]
    pair_column = _pair_columns(index, kind)
    counts = np.zeros((len(stands), kinds + int(pair_column.max()) + 1))
    rows = np.arange(len(stands))
    before = np.full(len(stands), -1, dtype=np.int64)
    for own in stands.T:
        there = own >= 0
        counts[rows[there], own[there]] += 1
        follows = there & (before >= 0)
        counts[rows[follows], kinds + pair_column[before[follows], own[follows]]] += 1
        before = np.where(there, own, before)
    return counts


def _kind_of_layer(index: SiteIndex) -> npt.NDArray[np.int64]:
    """Number of the kind of each layer of the vocabulary, and -1 at the end, where the number -1 of "nothing" finds it."""
    names = [(layer.op, tuple(sorted(map(repr, layer.attributes)))) for layer in index.vocabulary]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names] + [-1], dtype=np.int64)


def _pair_columns(index: SiteIndex, kind: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of each possible pair of kinds: int64[kinds, kinds], -1 where a layer always stands between them."""
    kinds = int(kind.max()) + 1
    possible = np.zeros((kinds, kinds), dtype=np.bool_)
    before = np.zeros(kinds, dtype=np.bool_)  # the kinds that may be the last ones so far
    for start, site in zip(index.offsets, index.sites, strict=True):
        options = kind[index.option_layer[start : start + len(site.layers)]]
        own = np.zeros(kinds, dtype=np.bool_)
        own[options[options >= 0]] = True
        possible |= before[:, None] & own[None, :]
        before = before | own if (options < 0).any() else own
    return np.where(possible, np.cumsum(possible).reshape(kinds, kinds) - 1, -1)
