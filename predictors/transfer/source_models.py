"""Other devices' latencies, told for every network of the space from the networks that each device measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from layerclock.errors import ArgumentError
from layerclock.predictors.transfer.covariances import components_of, covariances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.predictors.transfer.problem import Sources
    from layerclock.predictors.transfer.views import Views

__all__ = ["SourceModels"]

FloatArray = npt.NDArray[np.float64]

# Networks through which all others are seen, and the fewest measurements that tell a device.
_INDUCING = 400
_FEWEST = 10
_AMPLITUDES = (1.0, 4.0, 16.0)
_NOISES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_JITTER = 1e-6
# Directions in which the devices differ by less than this share of their common one are no evidence.
_SMALLEST_DIRECTION = 0.01


@dataclass(frozen=True, eq=False)
class SourceModels:
    """Gaussian processes of D devices' standardised log latencies, with the mean of all covariances of the given views.

    Subset of regressors (Quinonero-Candela and Rasmussen 2005, *A unifying view of sparse approximate Gaussian process regression*):
    what is predicted is ``covariance with the inducing networks @ weights``. ``inducing`` are these networks' views; ``weights``
    float64[M, D]; ``whitening`` float64[D, D] turns the predictions into directions in which the devices vary independently and alike.
    """

    inducing: Mapping[str, FloatArray]
    weights: FloatArray
    centre: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, views: Views, sources: Sources, seed: int = 0) -> SourceModels:
        """Fit each device to the networks that it measured, amplitude and noise by marginal likelihood.

        Raises :class:`ArgumentError` for a device with too few networks, or with latencies that are all the same.
        """
        known = views(sources.genomes)
        rows = np.sort(np.random.default_rng(seed).permutation(len(sources.genomes))[:_INDUCING])
        inducing = {name: values[rows] for name, values in known.items()}
        components = components_of(views.names)
        with threadpool_limits(1):
            among = covariances(components, inducing, inducing).mean(axis=0)
            factor = np.linalg.cholesky(among + _JITTER * np.eye(len(rows)))
            backwards = np.linalg.inv(factor).T
            projected = _mean_covariance(views.names, known, inducing) @ backwards
            weights = np.column_stack(
                [backwards @ _regress(projected, sources.latency_ms[:, column], device) for column, device in enumerate(sources.devices)]
            )
            told = projected @ np.linalg.solve(backwards, weights)
        centre = told.mean(axis=0)
        spread, directions = np.linalg.eigh(np.atleast_2d(np.cov((told - centre).T)) + _JITTER * np.eye(len(sources.devices)))
        return cls(inducing, weights, centre, directions / np.sqrt(np.maximum(spread, _SMALLEST_DIRECTION * spread.max())))

    def predict(self, views: Mapping[str, FloatArray]) -> FloatArray:
        """Standardised log latencies, centred over the sources' networks, float64[N, D], of networks given by their views."""
        with threadpool_limits(1):
            told: FloatArray = _mean_covariance(tuple(self.inducing), views, self.inducing) @ self.weights - self.centre
        return told

    def without(self, device: int) -> SourceModels:
        """The same without one of the devices."""
        kept = np.delete(np.arange(self.weights.shape[1]), device)
        covariance = np.linalg.pinv(self.whitening @ self.whitening.T)[np.ix_(kept, kept)]
        spread, directions = np.linalg.eigh(covariance)
        whitening = directions / np.sqrt(np.maximum(spread, _SMALLEST_DIRECTION * spread.max()))
        return SourceModels(self.inducing, self.weights[:, kept], self.centre[kept], whitening)


def _mean_covariance(names: tuple[str, ...], one: Mapping[str, FloatArray], other: Mapping[str, FloatArray]) -> FloatArray:
    """Mean over both shapes of all views, in single precision and one after the other: they would not fit beside each other."""
    components = components_of(names)
    total = np.zeros((len(one[names[0]]), len(other[names[0]])), dtype=np.float32)
    for component in components:
        total += component.between(one[component.view].astype(np.float32), other[component.view].astype(np.float32))
    return (total / len(components)).astype(np.float64)


def _regress(projected: FloatArray, latency_ms: FloatArray, device: str) -> FloatArray:
    """Weights float64[M] of the columns of ``projected`` float64[N, M], whose prior is independent with the chosen amplitude."""
    measured = np.isfinite(latency_ms)
    values = np.log(latency_ms[measured])
    spread = float(values.std()) if measured.any() else 0.0
    if measured.sum() < _FEWEST or spread <= 0:
        raise ArgumentError(
            f"{device} measured {measured.sum()} networks, with a spread of {spread:.3g}", f"leave it out, or measure {_FEWEST} and more"
        )
    standard = (values - values.mean()) / spread
    design = projected[measured]
    eigenvalues, directions = np.linalg.eigh(design.T @ design)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    along = directions.T @ (design.T @ standard)
    best, chosen = -np.inf, along
    number, whole = len(standard), float(standard @ standard)
    for amplitude in _AMPLITUDES:
        for noise in _NOISES:
            # Marginal likelihood of Bayesian linear regression (Bishop 2006, equation 3.86), in the eigenvectors' basis.
            shrunk = along / (eigenvalues + noise / amplitude)
            misfit = (whole - float(along @ shrunk)) / noise
            evidence = -0.5 * (misfit + np.log1p(amplitude * eigenvalues / noise).sum() + number * np.log(noise))
            if evidence > best:
                best, chosen = float(evidence), shrunk
    weights: FloatArray = directions @ chosen
    return weights
