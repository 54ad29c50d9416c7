"""The default transfer predictor: a Gaussian process whose covariance is averaged over mixtures of many, with or without other devices.

Other devices help in two ways. Their latencies, told for every network by :class:`SourceModels`, are views beside those of the
architecture. And each of them in turn plays the new device: mixtures that would have explained it well have a higher prior. Where the other
devices mislead, the measured values say so: mixtures without them, with no such prior, compete on equal terms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import t
from threadpoolctl import threadpool_limits

from layerclock.predictors.fitting import INTERVAL_LEVEL, conformal_quantile
from layerclock.predictors.transfer.baselines import log_sample
from layerclock.predictors.transfer.covariances import components_of, covariances, own_variances
from layerclock.predictors.transfer.mixture import NOISES, Mixtures, draw_weights, evidence, infer
from layerclock.predictors.transfer.problem import LogLatency
from layerclock.predictors.transfer.source_models import SourceModels
from layerclock.predictors.transfer.variance import reduce_variance
from layerclock.predictors.transfer.views import Views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.transfer.covariances import Component
    from layerclock.predictors.transfer.mixture import Posterior
    from layerclock.predictors.transfer.problem import FittedTransfer, Sources
    from layerclock.space import GenomeArray

__all__ = ["FittedGaussian", "GaussianPrior", "GaussianTransfer"]

FloatArray = npt.NDArray[np.float64]

# Networks of each source device that play the new device's measurements, and how much their evidence counts: as that of twenty.
_PLAYED, _TEMPER = 30, 20 / 30
# How likely the other devices are taken to mislead, before anything is measured.
_MISLED = 0.2
_PIVOTS, _MOST_CANDIDATES = 200, 4000
# Of the values' variance: the noise that networks are chosen for, and the deviation of their mean.
_CHOICE_NOISE, _CHOICE_MEAN = 0.1, 3.0
_SOURCE_VIEWS = ("devices", "directions")


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """What is known of a new device before it is measured: views of networks, other devices, and mixtures of covariances."""

    views: Views
    sources: SourceModels | None
    components: tuple[Component, ...]
    mixtures: Mixtures
    with_sources: int
    _last_seen: dict[bytes, dict[str, FloatArray]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, space: SearchSpace, sources: Sources | None = None, seed: int = 0) -> GaussianPrior:
        """The prior for networks of ``space``; costs about a second where there are other devices.

        Raises what :meth:`SourceModels.fit` raises.
        """
        views = Views.of(space)
        own = components_of(views.names)
        if sources is None:
            weights = draw_weights(np.ones(len(own), dtype=np.bool_), seed)
            return cls(views, None, own, Mixtures(weights, np.zeros((len(weights), len(NOISES)))), 0)
        models = SourceModels.fit(views, sources, seed)
        components = (*own, *components_of(_SOURCE_VIEWS))
        helped = draw_weights(np.ones(len(components), dtype=np.bool_), seed)
        alone = draw_weights(np.arange(len(components)) < len(own), seed)
        learned = _learned_prior(views, models, sources, components, helped, seed)
        flat = np.full((len(alone), len(NOISES)), np.log(_MISLED / (len(alone) * len(NOISES))))
        mixtures = Mixtures(np.vstack([helped, alone]), np.vstack([learned + np.log(1 - _MISLED), flat]))
        return cls(views, models, components, mixtures, len(helped))

    def see(self, genomes: GenomeArray) -> dict[str, FloatArray]:
        """All views of genomes int64[N, G], those through other devices among them: float64[N, F] by name."""
        # The same networks are often asked about again: for the next device, or by the next step of a search.
        identity = hashlib.sha256(genomes.tobytes()).digest()
        if identity not in self._last_seen:
            self._last_seen.clear()
            self._last_seen[identity] = self._see(genomes)
        return self._last_seen[identity]

    def _see(self, genomes: GenomeArray) -> dict[str, FloatArray]:
        views = self.views(genomes)
        return views if self.sources is None else views | _through(self.sources, views)

    def choose(self, candidates: GenomeArray, number: int, seed: int = 0) -> GenomeArray:
        """Rows of ``candidates`` int64[N, G] to measure, int64[number]: those that leave the least expected variance.

        Of many candidates, 4,000 at random are looked at.

        Raises what :func:`~layerclock.predictors.transfer.variance.reduce_variance` raises.
        """
        some = np.sort(np.random.default_rng(seed).permutation(len(candidates))[:_MOST_CANDIDATES])
        seen = self.see(candidates[some])
        with threadpool_limits(1):
            chosen: GenomeArray = some[reduce_variance(self._factor(seen, len(some), seed), _CHOICE_NOISE, number)]
        return chosen

    def _factor(self, seen: Mapping[str, FloatArray], number: int, seed: int) -> FloatArray:
        """float64[N, R] whose products are the expected covariance of N networks, and that of their unknown mean (Nystrom's method)."""
        pivots = np.random.default_rng(seed).permutation(number)[:_PIVOTS]
        some = {name: values[pivots] for name, values in seen.items()}
        weights = self.mixtures.expected_weights
        across = sum(
            weight * component.between(seen[component.view], some[component.view])
            for weight, component in zip(weights, self.components, strict=True)
        )
        eigenvalues, directions = np.linalg.eigh(across[pivots])
        kept = eigenvalues > 1e-6 * eigenvalues.max()
        factor = across @ (directions[:, kept] / np.sqrt(eigenvalues[kept]))
        return np.column_stack([factor, np.full(number, _CHOICE_MEAN)])

    def adapt(self, genomes: npt.ArrayLike, latency_ms: npt.ArrayLike) -> FittedGaussian:
        """The predictor from measured networks int64[K, G] and their latencies float64[K].

        Raises :class:`~layerclock.errors.ArgumentError` for fewer than two networks or latencies that are no positive numbers.
        """
        known, logarithms = log_sample(self.views.space, genomes, latency_ms)
        centre, spread = float(logarithms.mean()), max(float(logarithms.std()), 1e-6)
        seen = self._see(known)
        with threadpool_limits(1):
            posterior = infer(covariances(self.components, seen, seen), (logarithms - centre) / spread, self.mixtures)
        scores = posterior.left_out / posterior.left_out_deviation
        # Left-out values that were calm by luck must not make the interval narrower than that of Student's t.
        usual = float(t.ppf(0.5 + INTERVAL_LEVEL / 2, len(known) - 1))
        return FittedGaussian(self, seen, posterior, centre, spread, max(conformal_quantile(scores), usual))


@dataclass(frozen=True, eq=False)
class FittedGaussian:
    """A fitted predictor. ``known`` are the measured networks' views; log latencies are ``centre + spread * standardised``.

    ``interval_factor`` standard deviations on both sides hold :data:`INTERVAL_LEVEL` of new measurements, by the measured networks'
    left-out residuals.
    """

    prior: GaussianPrior
    known: Mapping[str, FloatArray]
    posterior: Posterior
    centre: float
    spread: float
    interval_factor: float

    def predict(self, genomes: GenomeArray) -> LogLatency:
        """Log latency of genomes int64[M, G], with the deviation of a new measurement of each."""
        seen = self.prior.see(genomes)
        with threadpool_limits(1):
            across = covariances(self.prior.components, seen, self.known)
            mean, variance = self.posterior.tell(across, own_variances(self.prior.components, seen))
        return LogLatency(self.centre + self.spread * mean, self.spread * np.sqrt(variance))

    @property
    def trust_in_sources(self) -> float:
        """How likely the measured values make it that other devices help, 0 to 1; NaN without any."""
        if self.prior.sources is None:
            return float("nan")
        return float(self.posterior.shares[: self.prior.with_sources].sum())


@dataclass(frozen=True, slots=True)
class GaussianTransfer:
    """The default :class:`~layerclock.predictors.transfer.problem.TransferModel`."""

    seed: int = 0

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """See the protocol; raises what :meth:`GaussianPrior.of` and :meth:`GaussianPrior.adapt` raise."""
        return self.pretrain(space, sources).adapt(genomes, latency_ms)

    def pretrain(self, space: SearchSpace, sources: Sources | None) -> GaussianPrior:
        """What serves all new devices; see :class:`~layerclock.predictors.transfer.problem.Pretrainable`."""
        return GaussianPrior.of(space, sources, self.seed)


def _through(models: SourceModels, views: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Networks as their latencies on other devices, and as the directions in which these devices differ; mean squared length 1."""
    told = models.predict(views)
    width = np.sqrt(told.shape[1])
    return {"devices": told / width, "directions": told @ models.whitening / width}


def _learned_prior(
    views: Views, models: SourceModels, sources: Sources, components: tuple[Component, ...], weights: FloatArray, seed: int
) -> FloatArray:
    """Logarithm of each mixture's prior float64[W, len(NOISES)]: how well it explains each source device from the others, on average."""
    generator = np.random.default_rng(seed)
    total = np.zeros((len(weights), len(NOISES)))
    devices = range(len(sources.devices)) if len(sources.devices) > 1 else range(0)
    for device in devices:
        measured = np.flatnonzero(np.isfinite(sources.latency_ms[:, device]))
        rows = generator.permutation(measured)[:_PLAYED]
        logarithms = np.log(sources.latency_ms[rows, device])
        standard = (logarithms - logarithms.mean()) / max(float(logarithms.std()), 1e-9)
        own = views(sources.genomes[rows])
        seen = own | _through(models.without(device), own)
        with threadpool_limits(1):
            found = evidence(covariances(components, seen, seen), standard, weights)
        total += (found - found.max()) / len(sources.devices)
    logarithm = _TEMPER * total
    normalised: FloatArray = logarithm - np.log(np.exp(logarithm - logarithm.max()).sum()) - logarithm.max()
    return normalised
