"""What an earlier search on another device or space tells a new one: networks to begin with, and choices that are worth searching.

After the warm starts and the population database (PopDB) of Sarah et al. 2022 (arXiv:2202.12954): the best networks of past searches are
clustered, and a gene keeps the choices that are usual in one of the clusters. The clusters keep apart what small and large networks have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from layerclock.errors import SearchError
from layerclock.predictors.encoding import masked_one_hot
from layerclock.search.variation import distinct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layerclock.search.objective import FloatArray
    from layerclock.space import Choice, Gene, GenomeArray, SiteIndex

__all__ = ["common_choices", "translate"]

_MOST_CLUSTERS = 6
# A choice that fewer of a cluster's networks have is chance.
_USUAL = 0.1


def translate(configs: Iterable[Mapping[str, Choice]], index: SiteIndex) -> GenomeArray:
    """The distinct canonical genomes int64[<=N, G] in ``index`` of networks that were found elsewhere, as gene values by name.

    A gene takes the value of its namesake, or the nearest one that it has. Without a namesake it takes what genes of its kind (of
    names that differ in numbers only) chose on average, and else its middle choice.
    Raises :class:`SearchError` where no gene has a namesake or one of its kind: the networks tell nothing here.
    """
    configs = list(configs)
    kinds = {_kind(name) for config in configs for name in config}
    if configs and not any(_kind(gene.name) in kinds for gene in index.genes):
        raise SearchError(
            "the earlier networks have no gene like those of this space",
            f"theirs are {', '.join(sorted(kinds)[:4])}; start from a search of a space that is related",
        )
    genomes = [[_position(gene, config) for gene in index.genes] for config in configs]
    return distinct(index.canonical(np.array(genomes, dtype=np.int64).reshape(len(genomes), len(index.genes))), set())


def _position(gene: Gene, config: Mapping[str, Choice]) -> int:
    if gene.name in config:
        wanted: Choice = config[gene.name]
        if wanted in gene.choices:
            return gene.choices.index(wanted)
        return _nearest(gene, [wanted])
    return _nearest(gene, [value for name, value in config.items() if _kind(name) == _kind(gene.name)])


def _kind(name: str) -> str:
    """A gene's name without its numbers."""
    return re.sub(r"\d+", "#", name)


def _nearest(gene: Gene, wanted: list[Choice]) -> int:
    numbers = [float(value) for value in wanted if isinstance(value, int | float)]
    if not numbers or not all(isinstance(choice, int | float) for choice in gene.choices):
        return len(gene.choices) // 2
    distance = [abs(float(choice) - float(np.mean(numbers))) for choice in gene.choices]
    return int(np.argmin(distance))


def common_choices(index: SiteIndex, genomes: GenomeArray, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """The positions of each gene's choices that are usual in a cluster of good networks int64[N, G].

    The number of clusters is the one of the best silhouette (Rousseeuw 1987). A gene that is active in none keeps all choices.
    Raises :class:`SearchError` for fewer than ten networks, which are no population.
    """
    if len(genomes) < 10:
        raise SearchError(f"{len(genomes)} networks cannot tell which choices are worth searching", "give the results of longer searches")
    encoded = masked_one_hot(index, genomes)
    labels = _clusters(encoded, seed)
    kept: list[tuple[int, ...]] = []
    column = 0
    for choices in index.cardinality.tolist():
        own = encoded[:, column : column + choices]
        column += choices
        usual = set()
        for cluster in np.unique(labels):
            times = own[labels == cluster].sum(axis=0)
            usual |= {int(choice) for choice in np.flatnonzero(times > _USUAL * max(times.sum(), 1e-9))}
        kept.append(tuple(sorted(usual)) or tuple(range(choices)))
    return tuple(kept)


def _clusters(encoded: FloatArray, seed: int) -> Any:
    different = len(np.unique(encoded, axis=0))
    tried = []
    for number in range(2, min(_MOST_CLUSTERS, different - 1) + 1):
        labels = KMeans(number, n_init=4, random_state=seed).fit_predict(encoded)
        tried.append((float(silhouette_score(encoded, labels)), labels))
    return max(tried, key=lambda one: one[0])[1] if tried else np.zeros(len(encoded), dtype=np.int64)
