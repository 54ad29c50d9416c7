"""Which weighted sums of covariances suit a few measured values: their posterior, and what the average of them predicts. Plain numpy.

A *mixture* is a weight for each covariance, and a share of noise. Marginal likelihood tells how well each of some hundreds of drawn
mixtures explains the values (MacKay 1992, *Bayesian interpolation*); predictions are averaged over them (Hoeting et al. 1999, *Bayesian
model averaging*). With twenty values no single mixture can be told from its neighbours, and the average errs less than the best one.

The values' mean and scale are unknown, too: the mean has a wide prior, the scale an inverse gamma one that is integrated out
(Rasmussen and Williams 2006, section 2.7; O'Hagan and Forster 2004, section 11). Single values may be far off (a phone that was busy): they
count less by how far each is from what the others say, as under Student's t noise (West 1984, *Outlier models and prior distributions in
Bayesian linear regression*).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MEAN_VARIANCE", "NOISES", "Mixtures", "Posterior", "draw_weights", "evidence", "infer"]

FloatArray = npt.NDArray[np.float64]

# Variances of noise that are tried, where the values have variance 1.
NOISES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
# Weights are drawn from a gamma distribution of this shape: few of them are large, and which ones differs.
_SPARSE, _DRAWN = 0.2, 500
# Prior variance of the values' mean, where the values have variance 1.
MEAN_VARIANCE = 10.0
# Of the inverse gamma prior of the squared scale, in units of the values' variance.
_PRIOR_SHAPE, _PRIOR_RATE = 1.0, 1.0
_FREEDOM, _REWEIGHTINGS = 4.0, 3
# The most likely mixtures are averaged; the others weigh next to nothing.
_AVERAGED = 80


@dataclass(frozen=True, eq=False)
class Mixtures:
    """W mixtures of C covariances before anything is measured: ``weights`` float64[W, C], ``log_prior`` float64[W, len(NOISES)]."""

    weights: FloatArray
    log_prior: FloatArray

    @property
    def expected_weights(self) -> FloatArray:
        """The weights' expectation, float64[C]."""
        share = np.exp(self.log_prior - self.log_prior.max()).sum(axis=1)
        expected: FloatArray = share @ self.weights / share.sum()
        return expected


def draw_weights(usable: npt.NDArray[np.bool_], seed: int = 0) -> FloatArray:
    """Weights float64[W, C] that sum to 1: each usable covariance alone, then sparse sums of them; 0 for the others."""
    number = int(usable.sum())
    drawn = np.random.default_rng(seed).gamma(_SPARSE, size=(_DRAWN, number)) + 1e-12
    weights = np.zeros((number + _DRAWN, len(usable)))
    weights[:, usable] = np.vstack([np.eye(number), drawn / drawn.sum(axis=1, keepdims=True)])
    return weights


def evidence(among: FloatArray, values: FloatArray, weights: FloatArray, trust: FloatArray | None = None) -> FloatArray:
    """Logarithm of the marginal likelihood of mixtures float64[W, C] for ``values`` float64[n]: float64[W, len(NOISES)], up to a constant.

    ``among`` float64[C, n, n] are the covariances of the networks that have the values; ``trust`` float64[n] divides each one's noise.
    """
    number = len(values)
    inverse_trust = np.ones(number) if trust is None else 1 / trust
    summed = np.tensordot(weights, among, 1) + MEAN_VARIANCE
    found = np.empty((len(weights), len(NOISES)))
    for column, noise in enumerate(NOISES):
        factors = np.linalg.cholesky(summed + np.diag(noise * inverse_trust))
        whitened = np.linalg.solve(factors, np.broadcast_to(values[:, None], (len(weights), number, 1)))[:, :, 0]
        logarithm = np.log(np.einsum("wii->wi", factors)).sum(axis=1)
        misfit = (whitened**2).sum(axis=1)
        found[:, column] = -logarithm - (_PRIOR_SHAPE + number / 2) * np.log(_PRIOR_RATE + misfit / 2)
    return found


@dataclass(frozen=True, eq=False)
class Posterior:
    """What n values say, by the Q most likely mixtures, each with its ``share`` float64[Q] that sum to 1.

    Mixture q tells a new network to be ``constants[q]`` and the sum over c, i of ``covariance[c, new, i] * coefficients[c, i, q]``. For
    the variance within a mixture their average ``weights`` float64[C] stands in, with ``noise`` and the squared ``scale``: ``inverse``
    float64[n, n] is that of its covariance matrix with mean and noise. ``left_out`` and ``left_out_deviation`` float64[n]: each value
    less what the others say, and the deviation expected of it. ``shares`` float64[W]: how likely each of all mixtures is.
    """

    coefficients: FloatArray
    constants: FloatArray
    share: FloatArray
    weights: FloatArray
    noise: float
    scale: float
    inverse: FloatArray
    left_out: FloatArray
    left_out_deviation: FloatArray
    shares: FloatArray

    def tell(self, across: FloatArray, own: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of new measurements, float64[N] each.

        ``across`` float64[C, N, n] are their covariances with the measured networks, ``own`` float64[C, N] with themselves. The variance
        is that within a mixture and that between the mixtures' means.
        """
        number = across.shape[1]
        by_mixture = across.transpose(1, 0, 2).reshape(number, -1) @ self.coefficients.reshape(-1, len(self.share)) + self.constants
        mean: FloatArray = by_mixture @ self.share
        between = (by_mixture - mean[:, None]) ** 2 @ self.share
        summed = np.tensordot(self.weights, across, 1) + MEAN_VARIANCE
        explained = ((summed @ self.inverse) * summed).sum(axis=1)
        within = self.scale * (np.maximum(self.weights @ own + MEAN_VARIANCE - explained, 0.0) + self.noise)
        return mean, within + between


def infer(among: FloatArray, values: FloatArray, mixtures: Mixtures) -> Posterior:
    """The posterior from standardised ``values`` float64[n] and the covariances float64[C, n, n] of the networks that have them."""
    number = len(values)
    trust = np.ones(number)
    for remaining in range(_REWEIGHTINGS, -1, -1):
        logarithms = mixtures.log_prior + evidence(among, values, mixtures.weights, trust)
        likely = np.exp(logarithms - logarithms.max())
        likely /= likely.sum()
        rows, columns = np.unravel_index(np.argsort(-likely, axis=None)[:_AVERAGED], likely.shape)
        share = likely[rows, columns] / likely[rows, columns].sum()
        noises = np.array(NOISES)[columns]
        covariances = np.tensordot(mixtures.weights[rows], among, 1) + MEAN_VARIANCE + np.eye(number) * (noises[:, None] / trust)[:, None]
        inverses = np.asarray(np.linalg.inv(covariances), dtype=np.float64)
        solved = inverses @ values
        left_out_by = solved / np.einsum("qii->qi", inverses)
        left_out = share @ left_out_by
        if remaining:
            usual = 1.4826 * float(np.median(np.abs(left_out))) + 1e-9
            trust = (_FREEDOM + 1) / (_FREEDOM + (left_out / usual) ** 2)
            trust /= trust.max()
    weights: FloatArray = share @ mixtures.weights[rows]
    least_noise = float(share @ noises)
    covariance = np.tensordot(weights, among, 1) + MEAN_VARIANCE + np.diag(least_noise / trust)
    inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    scale = (_PRIOR_RATE + 0.5 * float(values @ inverse @ values)) / (_PRIOR_SHAPE + 0.5 * number)
    # A value that is left out is a new measurement, which may be as far off as any of these was.
    noise = least_noise * float(np.mean(1 / trust))
    within: FloatArray = scale * np.maximum(1 / np.diag(inverse) - least_noise / trust + noise, noise)
    between = share @ (left_out_by - left_out) ** 2
    coefficients: FloatArray = np.einsum("qc,qi->ciq", mixtures.weights[rows], solved)
    return Posterior(
        coefficients, MEAN_VARIANCE * solved.sum(axis=1), share, weights, noise, scale, inverse, left_out, np.sqrt(within + between),
        likely.sum(axis=1),
    )  # fmt: skip
