"""A Gaussian process over genomes: predictions and how sure they are, for algorithms that weigh both. Needs scipy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from layerclock.predictors.encoding import masked_one_hot
from layerclock.search.warp import Warp
from layerclock.space import sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.search.objective import FloatArray
    from layerclock.space import Gene, GenomeArray, SiteIndex

__all__ = ["GaussianProcess", "Guess", "SharedEncoding"]

# The likelihood is flat around its maximum, and the next batch refines it: a few steps from the last one's optimum are enough.
_FIRST_STEPS, _STEPS = 12, 4
_DRAWN = 500
_JITTER = 1e-8
_COUNTS_WEIGHT, _SIZES_WEIGHT = 2.0, 3.0


class SharedEncoding:
    """Features of genomes that let one network teach about others: what genes of one kind chose, beside what each one chose.

    Columns: masked one-hot; for genes of ascending numbers the place of the choice in the range; how often genes of one kind (names that
    differ in numbers only, such as the kernels of all blocks) took each choice; logarithms of MACs and parameters. All are centred on
    uniformly drawn networks, and the summary columns, which say most, weigh more: with 25 networks of OFA-MobileNetV3 the error
    of a Gaussian process falls by a quarter, and with 50 by a third.

    With ``live`` (see :class:`~layerclock.interfaces.HasLiveOperations`) the same columns stand twice, of the genome and of what is live in
    it: accuracy follows the latter, and latency the former where a runtime executes what nobody reads.
    """

    def __init__(self, index: SiteIndex, live: Callable[[GenomeArray], GenomeArray] | None = None) -> None:
        self._index, self._live = index, live
        names = [re.sub(r"\d+", "#", gene.name) for gene in index.genes]
        columns = [(name, choice) for name, gene in zip(names, index.genes, strict=True) for choice in gene.choices]
        kinds = {one: number for number, one in enumerate(dict.fromkeys(columns))}
        self._kinds = np.zeros((len(columns), len(kinds)))
        for row, one in enumerate(columns):
            self._kinds[row, kinds[one]] = 1.0 / columns.count(one)
        self._ascending = np.array([_ascends(gene) for gene in index.genes], dtype=np.bool_)
        self._centre: FloatArray = np.zeros(1)
        self._weight: FloatArray = np.ones(1)
        raw, summary = self._raw(sample(index, _DRAWN, np.random.default_rng(0)))
        self._centre = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._weight = np.where(summary > 0, summary / np.where(spread > 1e-9, spread, np.inf), 1.0)

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        """float64[n, F] of genomes int64[n, G]."""
        own = self._centred(genomes)
        # Distances stay those of one set of columns.
        return own if self._live is None else np.concatenate([own, self._centred(self._live(genomes))], axis=1) / np.sqrt(2)

    def _centred(self, genomes: GenomeArray) -> FloatArray:
        return (self._raw(genomes)[0] - self._centre) * self._weight

    def _raw(self, genomes: GenomeArray) -> tuple[FloatArray, FloatArray]:
        """The columns float64[n, F], and the weight of each summary column, 0 for the others: float64[F]."""
        index = self._index
        hot = masked_one_hot(index, genomes)
        place = np.where(index.active(genomes), (genomes + 1) / index.cardinality, 0.0)[:, self._ascending]
        counts = hot @ self._kinds
        sizes = np.log1p(np.stack([index.macs(genomes), index.params(genomes)], axis=1))
        weights = [0.0] * (hot.shape[1] + place.shape[1]) + [_COUNTS_WEIGHT] * counts.shape[1] + [_SIZES_WEIGHT] * sizes.shape[1]
        return np.concatenate([hot, place, counts, sizes], axis=1), np.array(weights)


def _ascends(gene: Gene) -> bool:
    return all(isinstance(choice, int | float) for choice in gene.choices) and list(gene.choices) == sorted(gene.choices, key=float)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianProcess:
    """Exact regression (Rasmussen and Williams 2006, algorithm 2.1) with ``a x.x' + b exp(-|x - x'|^2 / 2 l^2)`` and noise.

    It learns values as :class:`~layerclock.search.warp.Warp` has them, and tells them in their own unit. The four parameters maximise the
    marginal likelihood. scikit-learn's is the same but for its time: an iteration of a search asks 20,000 networks of 500 known ones, and
    took 5 s with it, of which its distances, which are not products of matrices, were most.
    """

    encoding: SharedEncoding
    known: FloatArray
    warp: Warp
    logarithms: FloatArray
    factor: FloatArray
    weights: FloatArray

    @classmethod
    def fit(
        cls, encoding: SharedEncoding, genomes: GenomeArray, values: FloatArray, before: GaussianProcess | None = None
    ) -> GaussianProcess:
        """Fit to ``values`` float64[N], to be minimised, of ``genomes`` int64[N, G], from the parameters of ``before`` on."""
        known, warp = encoding(genomes), Warp.of(values)
        standard = warp(values)
        products, distances = known @ known.T, _squared_distances(known, known)
        start = before.logarithms if before is not None else np.log([0.5 / np.trace(products) * len(known), 0.5, genomes.shape[1], 0.05])
        with threadpool_limits(1):  # matrices this small: threads that wait for a busy core cost more than they bring
            found = minimize(
                _evidence, start, (products, distances, standard), "L-BFGS-B", jac=True, bounds=_bounds(genomes.shape[1]),
                options={"maxiter": _FIRST_STEPS if before is None else _STEPS},
            )  # fmt: skip
            factor = np.linalg.cholesky(_covariance(found.x, products, distances))
        return cls(encoding, known, warp, found.x, np.asarray(factor, dtype=np.float64), cho_solve((factor, True), standard))

    def mean(self, genomes: GenomeArray) -> FloatArray:
        """Expected value (as often missed above as below) of genomes int64[n, G]: float64[n]."""
        return self.warp.back(self._covariance_with(self.encoding(genomes)) @ self.weights)

    def guess(self, genomes: GenomeArray) -> Guess:
        """What is expected of genomes int64[n, G] together; without the noise of evaluations."""
        encoded = self.encoding(genomes)
        across = self._covariance_with(encoded)
        linear, squared, width, noise = np.exp(self.logarithms)
        own = linear * encoded @ encoded.T + squared * np.exp(-0.5 / width * _squared_distances(encoded, encoded))
        explained = solve_triangular(self.factor, across.T, lower=True)
        return Guess(self.warp, across @ self.weights, own - explained.T @ explained, float(noise))

    def _covariance_with(self, encoded: FloatArray) -> FloatArray:
        linear, squared, width, _ = np.exp(self.logarithms)
        covariance: FloatArray = linear * encoded @ self.known.T + squared * np.exp(-0.5 / width * _squared_distances(encoded, self.known))
        return covariance


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Of n networks together, warped: ``expected`` float64[n], ``covariance`` float64[n, n], and the ``noise``'s variance."""

    warp: Warp
    expected: FloatArray
    covariance: FloatArray
    noise: float

    def hoped(self, deviations: float) -> FloatArray:
        """The values so many standard deviations better than expected: float64[n]."""
        return self.warp.back(self.expected - deviations * np.sqrt(np.maximum(self.covariance.diagonal(), 0.0)))

    def believing(self, row: int) -> Guess:
        """The guess once this network's evaluation gave what is expected of it: surer of all that resemble it, no better and no worse."""
        column = self.covariance[:, row]
        explained = np.outer(column, column) / (column[row] + self.noise)
        return Guess(self.warp, self.expected, self.covariance - explained, self.noise)


def _bounds(genes: int) -> list[tuple[float, float]]:
    """Of the logarithms of a, b, l^2 and the noise's variance."""
    limits = [(1e-6, 1e2), (1e-4, 1e2), (0.1, 1e3 * max(genes, 1)), (1e-5, 1.0)]
    return [(float(np.log(low)), float(np.log(high))) for low, high in limits]


def _squared_distances(one: FloatArray, two: FloatArray) -> FloatArray:
    squares: FloatArray = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1) - 2 * one @ two.T
    return np.maximum(squares, 0.0)


def _covariance(logarithms: FloatArray, products: FloatArray, distances: FloatArray) -> FloatArray:
    linear, squared, width, noise = np.exp(logarithms)
    covariance: FloatArray = linear * products + squared * np.exp(-0.5 / width * distances)
    covariance[np.diag_indices_from(covariance)] += noise + _JITTER
    return covariance


def _evidence(logarithms: FloatArray, products: FloatArray, distances: FloatArray, values: FloatArray) -> tuple[float, FloatArray]:
    """Negative logarithm of the marginal likelihood and its gradient (the book's equations 5.8 and 5.9)."""
    linear, squared, width, noise = np.exp(logarithms)
    smooth = squared * np.exp(-0.5 / width * distances)
    covariance = linear * products + smooth
    covariance[np.diag_indices_from(covariance)] += noise + _JITTER
    factor = np.linalg.cholesky(covariance)
    inverse = cho_solve((factor, True), np.eye(len(values)))
    weights = inverse @ values
    cost = 0.5 * values @ weights + np.log(np.diag(factor)).sum()
    slope = 0.5 * (inverse - np.outer(weights, weights))
    gradient = [
        linear * (slope * products).sum(),
        (slope * smooth).sum(),
        0.5 / width * (slope * smooth * distances).sum(),
        noise * np.trace(slope),
    ]
    return float(cost), np.array(gradient)
