"""Which networks to measure so that a Gaussian process is least uncertain about all the others. Needs threadpoolctl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from layerclock.errors import ArgumentError

if TYPE_CHECKING:
    from layerclock.space import GenomeArray

__all__ = ["mean_variance", "radial_factor", "reduce_variance"]

FloatArray = npt.NDArray[np.float64]

_JITTER = 1e-10
_DISTANCES_FROM = 500


def reduce_variance(factor: FloatArray, noise: float, number: int) -> GenomeArray:
    """The rows that reduce the mean posterior variance most, one after the other: distinct, int64[number].

    The prior covariance of the N candidates is ``factor @ factor.T`` with ``factor`` float64[N, R]; measuring one adds the variance
    ``noise``. This is active learning by Cohn's criterion (Cohn 1996, *Neural network exploration using optimal experiment design*),
    for Gaussian processes as in Seo et al. 2000 (*Gaussian process regression: active data selection and test point rejection*): row j
    reduces the mean variance by ``mean_i(c_ij ** 2) / (c_jj + noise)``, where ``c`` is the posterior covariance. All of these are kept
    up to date in O(N R) a step, after O(N R^2) once.
    Raises :class:`ArgumentError` unless ``noise`` is positive and there are at least ``number`` rows.
    """
    if not noise > 0 or number > len(factor):
        raise ArgumentError(
            f"cannot choose {number} of {len(factor)} networks at a noise of {noise}", "a noise above 0, and enough networks"
        )
    with threadpool_limits(1):
        second_moment = factor.T @ factor / len(factor)
        posterior = np.eye(factor.shape[1])  # of the weights of the columns
        projected = factor.copy()  # factor @ posterior
        variance = np.einsum("ij,ij->i", factor, factor)
        squares = np.einsum("ij,ij->i", factor @ second_moment, factor)  # mean over i of c_ij squared, for each j
        chosen: list[int] = []
        free = np.ones(len(factor), dtype=np.bool_)
        for _ in range(number):
            gain = np.where(free, squares / (variance + noise), -np.inf)
            best = int(np.argmax(gain))
            chosen.append(best)
            free[best] = False
            direction = posterior @ factor[best]
            scale = 1.0 / (float(factor[best] @ direction) + noise)
            covariance = projected @ factor[best]  # of every row with the chosen one
            weighted = second_moment @ direction
            squares += -2 * scale * covariance * (projected @ weighted) + (scale * covariance) ** 2 * float(direction @ weighted)
            variance = np.maximum(variance - scale * covariance**2, 0.0)
            squares = np.maximum(squares, 0.0)
            projected -= scale * np.outer(covariance, direction)
            posterior -= scale * np.outer(direction, direction)
    return np.array(chosen, dtype=np.int64)


def mean_variance(factor: FloatArray, noise: float, chosen: npt.ArrayLike) -> float:
    """Mean posterior variance of all N candidates once ``chosen`` int64[K] are measured; arguments as :func:`reduce_variance`."""
    seen = factor[np.asarray(chosen, dtype=np.int64)]
    with threadpool_limits(1):
        precision = np.eye(factor.shape[1]) + seen.T @ seen / noise
        return float(np.einsum("ij,ji->", factor, np.linalg.solve(precision, factor.T)) / len(factor))


def radial_factor(encoded: FloatArray, rng: np.random.Generator, rank: int = 150) -> FloatArray:
    """A factor float64[N, <=rank] of the radial covariance ``exp(-d^2 / 2 m^2)`` of the rows of ``encoded`` float64[N, F], approximately.

    Columns are standardised; ``m`` is the median distance. Nystroem's method on ``rank`` random rows (Williams & Seeger 2000).
    """
    spread = encoded.std(axis=0)
    standard = (encoded - encoded.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    landmarks = standard[rng.permutation(len(standard))[:rank]]
    with threadpool_limits(1):
        sample = standard[rng.permutation(len(standard))[:_DISTANCES_FROM]]
        distances = _squared_distances(sample, sample)[np.triu_indices(len(sample), 1)]
        positive = distances[distances > _JITTER]
        double_width = 2 * float(np.median(positive)) if len(positive) else 1.0
        values, vectors = np.linalg.eigh(np.exp(-_squared_distances(landmarks, landmarks) / double_width))
        kept = values > _JITTER * values[-1]
        factor: FloatArray = np.exp(-_squared_distances(standard, landmarks) / double_width) @ (vectors[:, kept] / np.sqrt(values[kept]))
    return factor


def _squared_distances(left: FloatArray, right: FloatArray) -> FloatArray:
    distances = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    positive: FloatArray = np.maximum(distances, 0.0)
    return positive
