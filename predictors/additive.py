"""A Gaussian process over sums of layers, for few networks: which groups of columns tell the values, and how smoothly, is learnt from them.

Fifty networks do not tell two hundred layers apart. They do tell how much of the difference between networks goes with their sizes, with
how often choices of one kind occur, and with single layers; the covariance is a sum of these, weighed by the marginal likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin

from layerclock.predictors.matern import matern

if TYPE_CHECKING:
    from typing import Self

__all__ = ["MATERN_LENGTH", "AdditiveRegressor"]

FloatArray = npt.NDArray[np.float64]

# Length of the curved covariance, in units of a group's usual distance from its centre.
MATERN_LENGTH = 2.5
# Prior variance of the mean, where values have variance 1.
_MEAN_VARIANCE = 10.0
# Logarithms of the groups' variances and of the noise's have a normal prior of these means and this deviation.
_GROUP_MEAN, _NOISE_MEAN, _DEVIATION = -1.0, -4.0, 3.0
_GROUP_RANGE, _NOISE_RANGE = (-12.0, 4.0), (-10.0, 1.0)
_JITTER = 1e-9
# The weights are learnt from at most so many values, and a curved covariance knows at most so many: both take their cube in time.
_MOST_FOR_WEIGHTS, _MOST_CURVED = 300, 1500


class AdditiveRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Regression of values with mean about 0 and variance about 1 on columns float64[N, F] that come in groups.

    The covariance of two networks is ``sum over groups g of s_g x_g . y_g``, so that the mean is linear (``coef_`` float64[F],
    ``intercept_``), and with ``curved`` > 0 a Matern covariance of smoothness 5/2 over the first so many groups is added: for values that
    saturate, as accuracy does. The ``s_g`` and the noise maximise the marginal likelihood (Rasmussen and Williams 2006, *Gaussian
    processes for machine learning*, equations 5.8 and 5.9) with a wide prior.
    """

    def __init__(self, groups: tuple[int, ...], curved: int = 0) -> None:
        self.groups = groups
        self.curved = curved

    def fit(self, columns: FloatArray, values: FloatArray) -> Self:
        """Learn the groups' weights, and with them the mean; from a random 1,500 values if there are more and it is curved."""
        order = np.random.default_rng(0).permutation(len(values))
        few = order[:_MOST_FOR_WEIGHTS]
        *scales, noise = self._weights(columns[few], values[few])
        by_column = np.repeat(scales[: len(self.groups)], self.groups)
        known = order[:_MOST_CURVED] if self.curved else order
        given, wanted = columns[known], values[known]
        if not self.curved and len(given) > given.shape[1]:
            self.coef_, self.intercept_ = _ridge(given, wanted, by_column, noise)
            return self
        covariance = _MEAN_VARIANCE + (given * by_column) @ given.T + noise * np.eye(len(given))
        if self.curved:
            self.known_ = given[:, : self._width]
            covariance += scales[-1] * matern(self.known_, self.known_, MATERN_LENGTH)
        solved = cho_solve(cho_factor(covariance), wanted)
        self.coef_ = by_column * (given.T @ solved)
        self.intercept_ = float(_MEAN_VARIANCE * solved.sum())
        if self.curved:
            self.curved_coef_ = scales[-1] * solved
        return self

    def predict(self, columns: FloatArray) -> FloatArray:
        """Values float64[N] of columns float64[N, F]."""
        linear: FloatArray = columns @ self.coef_ + self.intercept_
        return linear + matern(columns[:, : self._width], self.known_, MATERN_LENGTH) @ self.curved_coef_ if self.curved else linear

    @property
    def _width(self) -> int:
        return sum(self.groups[: self.curved])

    def _weights(self, columns: FloatArray, values: FloatArray) -> FloatArray:
        """Variances of the groups, of the curved covariance if there is one, and of the noise."""
        ends = np.cumsum(self.groups)
        parts = [columns[:, end - width : end] for end, width in zip(ends, self.groups, strict=True)]
        among = [part @ part.T for part in parts]
        if self.curved:
            curved = columns[:, : self._width]
            among.append(matern(curved, curved, MATERN_LENGTH))
        start = np.array([_GROUP_MEAN] * len(among) + [_NOISE_MEAN])
        bounds = [_GROUP_RANGE] * len(among) + [_NOISE_RANGE]
        found = minimize(_cost, start, (np.array([*among, np.eye(len(values))]), values, start), "L-BFGS-B", jac=True, bounds=bounds)
        return np.asarray(np.exp(found.x), dtype=np.float64)


def _cost(logarithms: FloatArray, among: FloatArray, values: FloatArray, expected: FloatArray) -> tuple[float, FloatArray]:
    """Negative logarithm of the posterior of the logarithmic variances, up to a constant, and its gradient."""
    variances = np.exp(logarithms)
    covariance = _MEAN_VARIANCE + np.tensordot(variances, among, 1) + _JITTER * np.eye(len(values))
    factor = cho_factor(covariance)
    solved = cho_solve(factor, values)
    slope = cho_solve(factor, np.eye(len(values))) - np.outer(solved, solved)
    off = (logarithms - expected) / _DEVIATION
    cost = 0.5 * values @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * (off**2).sum()
    return float(cost), 0.5 * variances * np.tensordot(among, slope, 2) + off / _DEVIATION


def _ridge(columns: FloatArray, values: FloatArray, variances: FloatArray, noise: float) -> tuple[FloatArray, float]:
    """The same mean as by covariances, by the columns' own products: for more networks than columns."""
    scaled = np.column_stack([columns * np.sqrt(variances), np.full(len(columns), np.sqrt(_MEAN_VARIANCE))])
    solved = cho_solve(cho_factor(scaled.T @ scaled + noise * np.eye(scaled.shape[1])), scaled.T @ values)
    return solved[:-1] * np.sqrt(variances), float(solved[-1] * np.sqrt(_MEAN_VARIANCE))
