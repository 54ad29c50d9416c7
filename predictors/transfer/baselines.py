"""What a transfer method has to beat: lines through one size or one device, and ridge regression. Needs scikit-learn.

All of them are fitted to logarithms of latencies. Their doubt is one number for all networks: the deviation of what is left out of the
sample and predicted from the rest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from layerclock.errors import ArgumentError
from layerclock.predictors.transfer.encodings import encode
from layerclock.predictors.transfer.problem import FittedTransfer, LogLatency, Sources
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

__all__ = ["BestSourceDevice", "MacsLine", "RidgeOnEncoding", "SourceRidge", "log_sample"]

FloatArray = npt.NDArray[np.float64]

_PENALTIES = np.logspace(-3, 4, 15)
_ENCODINGS = ("one-hot", "live-operations", "live-sizes")


def log_sample(space: SearchSpace, genomes: npt.ArrayLike, latency_ms: npt.ArrayLike) -> tuple[GenomeArray, FloatArray]:
    """The new device's sample, checked: genomes int64[K, G] and logarithms of their latencies, float64[K].

    Raises :class:`ArgumentError` if the lengths differ, for fewer than two networks and for a latency that is not a positive number, and
    :class:`~layerclock.errors.GenomeError` for genomes of another space.
    """
    checked, latency = SiteIndex(space.genes, ()).check(genomes), np.asarray(latency_ms, dtype=np.float64)
    if latency.shape != (len(checked),) or len(latency) < 2:
        raise ArgumentError(f"{len(checked)} networks with latencies {latency.shape}", "give one latency a network, and two or more")
    if not (np.isfinite(latency) & (latency > 0)).all():
        raise ArgumentError("a latency of the new device is not a positive number", "leave out what was not measured")
    return checked, np.log(latency)


@dataclass(frozen=True, slots=True)
class MacsLine:
    """Latency as a power of the multiply-accumulates: a line between the two logarithms. Other devices do not matter."""

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:  # noqa: ARG002
        """See :class:`~layerclock.predictors.transfer.problem.TransferModel`; raises what :func:`log_sample` raises."""
        known, target = log_sample(space, genomes, latency_ms)
        index = SiteIndex.of(space)
        return _FittedLine(_LogMacs(index), *_line(_LogMacs(index)(known), target))


@dataclass(frozen=True, slots=True)
class BestSourceDevice:
    """The other device whose latencies correlate best with the sample (Spearman), and a line from its logarithms to the new ones.

    Networks that no other device measured are completed by ridge regression on ``encodings`` first.
    """

    encodings: tuple[str, ...] = _ENCODINGS

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """See :class:`~layerclock.predictors.transfer.problem.TransferModel`; raises what :func:`log_sample` raises.

        Raises :class:`ArgumentError` without other devices, or if one measured fewer than two networks.
        """
        known, target = log_sample(space, genomes, latency_ms)
        completed = _CompletedSources.of(space, sources, self.encodings)
        latencies = completed(known)
        best = int(np.argmax([_correlation(column, target) for column in latencies.T]))
        return _FittedLine(_OneSource(completed, best), *_line(latencies[:, best], target))


@dataclass(frozen=True, slots=True)
class RidgeOnEncoding:
    """Ridge regression on ``encodings`` of the sample alone; the penalty is that of the smallest leave-one-out error."""

    encodings: tuple[str, ...] = _ENCODINGS

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:  # noqa: ARG002
        """See :class:`~layerclock.predictors.transfer.problem.TransferModel`; raises what :func:`log_sample` raises."""
        known, target = log_sample(space, genomes, latency_ms)
        return _FittedRidge.of(_Encoded(space, self.encodings), known, target)


@dataclass(frozen=True, slots=True)
class SourceRidge:
    """Ridge regression on the latencies on all other devices and on the encodings ``beside`` them.

    The latencies are completed as for :class:`BestSourceDevice`.
    """

    encodings: tuple[str, ...] = _ENCODINGS
    beside: tuple[str, ...] = ("sizes", "live-sizes")

    def fit(self, space: SearchSpace, sources: Sources | None, genomes: GenomeArray, latency_ms: FloatArray) -> FittedTransfer:
        """See :class:`~layerclock.predictors.transfer.problem.TransferModel`; raises what :func:`log_sample` raises.

        Raises :class:`ArgumentError` without other devices, or if one measured fewer than two networks.
        """
        known, target = log_sample(space, genomes, latency_ms)
        completed = _CompletedSources.of(space, sources, self.encodings)
        features: _Features = _SideBySide(completed, _Encoded(space, self.beside)) if self.beside else completed
        return _FittedRidge.of(features, known, target)


class _Features(Protocol):
    """What a line or a ridge regression is fitted to: float64[n] or float64[n, F] of genomes int64[n, G]."""

    def __call__(self, genomes: GenomeArray) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class _LogMacs:
    index: SiteIndex

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        return np.log1p(self.index.macs(genomes).astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Encoded:
    space: SearchSpace
    encodings: tuple[str, ...]

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        return encode(self.encodings, self.space, genomes)


@dataclass(frozen=True, slots=True, eq=False)
class _CompletedSources:
    """Log latencies float64[n, D] on the other devices: as measured where they are, by ridge regression elsewhere."""

    encoded: _Encoded
    index: SiteIndex
    ridges: tuple[Any, ...]
    measured: dict[bytes, FloatArray]

    @classmethod
    def of(cls, space: SearchSpace, sources: Sources | None, encodings: tuple[str, ...]) -> _CompletedSources:
        if sources is None or not sources.devices:
            raise ArgumentError("this method needs latencies of other devices", "give sources, or choose one that works without")
        index = SiteIndex.of(space)
        checked = index.canonical(sources.genomes)
        latencies, encoded = np.log(sources.latency_ms), _Encoded(space, encodings)
        features = encoded(checked)
        ridges = []
        for device, column in zip(sources.devices, latencies.T, strict=True):
            there = np.isfinite(column)
            if there.sum() < 2:
                raise ArgumentError(f"{device} measured {there.sum()} networks", "leave the device out, or give two networks or more")
            ridges.append(_ridge(features[there], column[there]))
        return cls(encoded, index, tuple(ridges), {genome.tobytes(): row for genome, row in zip(checked, latencies, strict=True)})

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        features = self.encoded(genomes)
        with threadpool_limits(1):
            predicted = np.stack([ridge.predict(features) for ridge in self.ridges], axis=1)
        unknown = np.full(len(self.ridges), np.nan)
        measured = np.array([self.measured.get(genome.tobytes(), unknown) for genome in self.index.canonical(genomes)]).reshape(
            predicted.shape
        )
        return np.where(np.isfinite(measured), measured, predicted)


@dataclass(frozen=True, slots=True)
class _OneSource:
    completed: _CompletedSources
    column: int

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        return self.completed(genomes)[:, self.column]


@dataclass(frozen=True, slots=True)
class _SideBySide:
    completed: _CompletedSources
    encoded: _Encoded

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        return np.column_stack([self.completed(genomes), self.encoded(genomes)])


def _correlation(column: FloatArray, target: FloatArray) -> float:
    """Spearman's, -1 where one of them does not vary."""
    if np.ptp(column) == 0 or np.ptp(target) == 0:
        return -1.0
    return float(spearmanr(column, target).statistic)


def _line(known: FloatArray, target: FloatArray) -> tuple[float, float, float]:
    """Slope, intercept and leave-one-out deviation of the least-squares line; the slope is 0 where ``known`` does not vary."""
    centred = known - known.mean()
    total = float(centred @ centred) or np.inf
    slope = float(centred @ target) / total
    intercept = float(target.mean() - slope * known.mean())
    leverage = 1 / len(known) + centred**2 / total
    # A network that alone decides the slope tells nothing of the deviation.
    free = leverage < 1 - 1e-9
    left_out = (target - slope * known - intercept)[free] / (1 - leverage[free])
    return slope, intercept, float(np.sqrt(np.mean(left_out**2))) if free.any() else np.nan


@dataclass(frozen=True, slots=True)
class _FittedLine:
    regressor: _Features
    slope: float
    intercept: float
    deviation: float

    def predict(self, genomes: GenomeArray) -> LogLatency:
        known = self.regressor(np.asarray(genomes))
        return LogLatency(self.slope * known + self.intercept, np.full(len(known), self.deviation))


def _ridge(features: FloatArray, target: FloatArray) -> Any:
    """Ridge regression on standardised columns; leave-one-out decides on the penalty."""
    with threadpool_limits(1):
        return make_pipeline(StandardScaler(), RidgeCV(alphas=_PENALTIES)).fit(features, target)


@dataclass(frozen=True, slots=True)
class _FittedRidge:
    features: _Features
    ridge: Any
    deviation: float

    @classmethod
    def of(cls, features: _Features, genomes: GenomeArray, target: FloatArray) -> _FittedRidge:
        ridge = _ridge(features(genomes), target)
        # RidgeCV's best score is minus the mean squared leave-one-out error.
        return cls(features, ridge, float(np.sqrt(-ridge[-1].best_score_)))

    def predict(self, genomes: GenomeArray) -> LogLatency:
        with threadpool_limits(1):
            mean = np.asarray(self.ridge.predict(self.features(np.asarray(genomes))), dtype=np.float64)
        return LogLatency(mean, np.full(len(mean), self.deviation))
