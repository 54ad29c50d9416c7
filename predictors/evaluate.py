"""How good a predictor is on networks that it never saw. Needs scipy (comes with scikit-learn)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from layerclock.errors import TableError
from layerclock.predictors.fitting import measured_networks
from layerclock.target import require_same_target
from layerclock.timing import mean_known

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Predictions
    from layerclock.predictors.portable import OnnxPredictor

__all__ = ["Evaluation", "agreement", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Agreement of predictions with measurements; errors and shares are fractions of one.

    ``noise_floor`` is the measurements' own mean relative uncertainty: no predictor can be better than that.
    ``interval_coverage`` is the share of measurements inside the predicted interval, to be held against
    ``interval_level``.
    """

    networks: int
    mean_error: float
    largest_error: float
    within_5_percent: float
    within_10_percent: float
    spearman: float
    kendall: float
    interval_coverage: float
    interval_level: float
    noise_floor: float

    def to_dict(self) -> dict[str, float]:
        """The fields by name, for JSON."""
        return asdict(self)


def evaluate(predictor: OnnxPredictor, table: LatencyTable, role: str = "holdout", *, other_target: bool = False) -> Evaluation:
    """Hold ``predictor`` against the networks of ``role`` in ``table``; with ``other_target`` even if that is of another target.

    Raises :class:`~layerclock.errors.TargetMismatchError` if the table was measured on another target, and
    :class:`TableError` if it belongs to another space or has fewer than two such networks.
    """
    if not other_target:
        require_same_target(predictor.target, [table.target], "the predictor and the table")
    if table.space_digest != predictor.card.space_digest:
        raise TableError(
            f"the predictor is for the space {predictor.card.space!r}, the table for {table.space!r}", "use a table of the same space"
        )
    truth = measured_networks(table, role)
    if len(truth) < 2:
        raise TableError(f"the table has {len(truth)} {role} networks", "profile with --holdout 20, or evaluate with --role profiled")
    return agreement(predictor.predict(truth.genomes), truth.latency_ms, truth.noise_floor, predictor.card.interval_level)


def agreement(
    predicted: Predictions, latency_ms: npt.NDArray[np.float64], noise_floor: npt.NDArray[np.float64], interval_level: float
) -> Evaluation:
    """Hold predictions of N networks against their measured times and the noise of these, float64[N] each."""
    error = np.abs(predicted.latency_ms / latency_ms - 1)
    inside = (predicted.lower_ms <= latency_ms) & (latency_ms <= predicted.upper_ms)
    return Evaluation(
        networks=len(latency_ms),
        mean_error=float(error.mean()),
        largest_error=float(error.max()),
        within_5_percent=float((error <= 0.05).mean()),
        within_10_percent=float((error <= 0.10).mean()),
        spearman=float(stats.spearmanr(predicted.latency_ms, latency_ms).statistic),
        kendall=float(stats.kendalltau(predicted.latency_ms, latency_ms).statistic),
        interval_coverage=float(inside.mean()),
        interval_level=interval_level,
        noise_floor=mean_known(noise_floor),
    )
