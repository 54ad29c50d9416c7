"""Choosing the few networks that are measured on a new device, by name. Needs scikit-learn.

What can be told without a measurement differs: encodings and sizes of the candidates always, their latencies on other devices or a
covariance that was learned there sometimes. Samplers after Akhauri & Abdelfattah 2024 (*On latency predictors for neural architecture
search*, arXiv:2403.02446): random, by parameters, by encodings (cosine similarity, k-means), and by latencies; with variance reduction
beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from layerclock.errors import ArgumentError, UnknownNameError
from layerclock.predictors.transfer.encodings import encode
from layerclock.predictors.transfer.variance import radial_factor, reduce_variance
from layerclock.space import GenomeArray, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.interfaces import SearchSpace

__all__ = ["SAMPLERS", "Candidates", "Sampler", "candidates_of", "choose"]

FloatArray = npt.NDArray[np.float64]

# The iterations of k-means: what is asked for are spread representatives, not the last digit of their distances.
_ITERATIONS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N networks that could be measured, and what is known of each.

    ``encoded`` float64[N, F]; ``params`` float64[N], trained weights; ``source_log_latency`` float64[N, D] on other devices, NaN where not
    measured; ``factor`` float64[N, R] with prior covariance ``factor @ factor.T`` of the log latencies, and ``noise``, the variance of
    a measurement beside it. Raises :class:`ArgumentError` where the lengths differ.
    """

    encoded: FloatArray
    params: FloatArray
    source_log_latency: FloatArray | None = None
    factor: FloatArray | None = None
    noise: float = 0.01

    def __post_init__(self) -> None:
        given = [self.encoded, self.params, self.source_log_latency, self.factor]
        lengths = {len(part) for part in given if part is not None}
        if len(lengths) != 1:
            raise ArgumentError(f"encodings, sizes, latencies and covariances of {sorted(lengths)} networks", "one row a network in each")

    def __len__(self) -> int:
        return len(self.encoded)


# Distinct rows int64[number] of the candidates. Raises ArgumentError if there are fewer candidates, or if what it needs is not known.
Sampler = Callable[[Candidates, int, np.random.Generator], GenomeArray]


def candidates_of(
    space: SearchSpace,
    genomes: npt.ArrayLike,
    encoding: str | Sequence[str] = ("one-hot", "live-sizes"),
    source_latency_ms: FloatArray | None = None,
) -> Candidates:
    """Candidates of genomes int64[N, G], with latencies float64[N, D] in ms on other devices where known.

    Raises what :func:`~layerclock.predictors.transfer.encodings.encode` raises.
    """
    encoded = encode(encoding, space, genomes)
    params = SiteIndex.of(space).params(genomes).astype(np.float64)
    return Candidates(encoded, params, None if source_latency_ms is None else np.log(source_latency_ms))


def choose(name: str, candidates: Candidates, number: int, seed: int = 0) -> GenomeArray:
    """``number`` rows of the candidates by one of :data:`SAMPLERS`: distinct, int64[number], the same for one seed.

    Raises :class:`UnknownNameError` for another name, and :class:`ArgumentError` if there are too few candidates or if the sampler needs
    what is not known of them.
    """
    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    if not 0 < number <= len(candidates):
        raise ArgumentError(f"cannot choose {number} of {len(candidates)} networks", "choose at least one, and no more than there are")
    return SAMPLERS[name](candidates, number, np.random.default_rng(seed))


def _random(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    return rng.permutation(len(candidates))[:number].astype(np.int64)


def _parameter_stratified(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    """One at random from each of ``number`` equal shares, in ascending order of parameters; equals are in random order."""
    shuffled = rng.permutation(len(candidates))
    ascending = shuffled[np.argsort(candidates.params[shuffled], kind="stable")]
    return np.array([rng.choice(share) for share in np.array_split(ascending, number)], dtype=np.int64)


def _encoding_cosine(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    """A first one at random, then each time the one whose largest cosine similarity to those chosen is smallest."""
    lengths = np.linalg.norm(candidates.encoded, axis=1, keepdims=True)
    unit = candidates.encoded / np.where(lengths > 0, lengths, 1.0)
    chosen = [int(rng.integers(len(unit)))]
    nearest = np.full(len(unit), -np.inf)
    while len(chosen) < number:
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return np.array(chosen, dtype=np.int64)


def _k_means(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    return _representatives(candidates.encoded, number, rng)


def _variance_reduction(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    """By the known covariance; by a radial one of the encodings where none is known."""
    factor = radial_factor(candidates.encoded, rng) if candidates.factor is None else candidates.factor
    return reduce_variance(factor, candidates.noise, number)


def _source_latencies(candidates: Candidates, number: int, rng: np.random.Generator) -> GenomeArray:
    """K-means on the latencies on other devices, each device's with deviation 1."""
    rows, standard = _known_on_sources(candidates, number)
    return rows[_representatives(standard, number, rng)]


def _source_variance_reduction(candidates: Candidates, number: int, _: np.random.Generator) -> GenomeArray:
    """Variance reduction for a linear model of the latencies on other devices."""
    rows, standard = _known_on_sources(candidates, number)
    linear = np.column_stack([np.ones(len(rows)), standard / np.sqrt(standard.shape[1])])
    return rows[reduce_variance(linear, candidates.noise, number)]


def _known_on_sources(candidates: Candidates, number: int) -> tuple[GenomeArray, FloatArray]:
    """The candidates that every other device has measured, and their standardised log latencies float64[n, D]."""
    if candidates.source_log_latency is None:
        raise ArgumentError("no latencies on other devices are known", "choose a sampler that works without, such as 'variance-reduction'")
    rows = np.flatnonzero(np.isfinite(candidates.source_log_latency).all(axis=1))
    if len(rows) < number:
        raise ArgumentError(f"{len(rows)} of {len(candidates)} networks are known on every other device", f"at least {number} are needed")
    known = candidates.source_log_latency[rows]
    spread = known.std(axis=0)
    return rows, (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _representatives(points: FloatArray, number: int, rng: np.random.Generator) -> GenomeArray:
    """The point nearest to the centre of each of ``number`` clusters; where fewer points differ, equals of those chosen at random."""
    different, first = np.unique(points, axis=0, return_index=True)
    if len(different) <= number:
        others = rng.permutation(np.setdiff1d(np.arange(len(points)), first))
        return np.concatenate([first, others[: number - len(first)]]).astype(np.int64)
    with threadpool_limits(1):
        clusters = KMeans(number, n_init=1, max_iter=_ITERATIONS, random_state=int(rng.integers(2**31))).fit(points)
    to_own_centre = ((points - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(axis=1)
    by_distance = np.argsort(to_own_centre, kind="stable")
    _, nearest = np.unique(clusters.labels_[by_distance], return_index=True)
    return by_distance[nearest].astype(np.int64)


SAMPLERS: dict[str, Sampler] = {
    "random": _random,
    "parameter-stratified": _parameter_stratified,
    "encoding-cosine": _encoding_cosine,
    "k-means": _k_means,
    "variance-reduction": _variance_reduction,
    "source-latencies": _source_latencies,
    "source-variance-reduction": _source_variance_reduction,
}
