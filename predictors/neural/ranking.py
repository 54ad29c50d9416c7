"""Learning the order of latencies, and from the order back to milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LogLine", "ranking_loss"]

_FLATTEST = 0.05


def ranking_loss(scores: torch.Tensor, latency: torch.Tensor, device: torch.Tensor, margin: float) -> torch.Tensor:
    """The mean over pairs of one device of ``max(0, margin - sign(y_i - y_j) (s_i - s_j))`` (NASFLAT, arXiv:2403.02446).

    ``scores``, ``latency`` float32[N] and ``device`` int64[N]; pairs of equal latency do not count.
    """
    order = torch.sign(latency[:, None] - latency[None, :])
    counts = (order > 0) & (device[:, None] == device[None, :])
    hinge = torch.relu(margin - (scores[:, None] - scores[None, :]))
    return (hinge * counts).sum() / counts.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A rising line from a score to log latency, which keeps the order of the scores."""

    start: float
    slope: float

    @classmethod
    def fit(cls, scores: npt.NDArray[np.float64], log_latency: npt.NDArray[np.float64]) -> LogLine:
        """Least squares over K networks, float64[K] each; where that does not rise, the flattest line that still does.

        The slope is at least a twentieth of the one that would give both the same spread: the few samples settle the scale, not the order.
        """
        spread = float(scores.std())
        if spread < 1e-9:
            return cls(float(log_latency.mean()), 1.0)
        centred = scores - scores.mean()
        slope = max(float(centred @ log_latency / (centred @ centred)), _FLATTEST * max(float(log_latency.std()), 1e-6) / spread)
        return cls(float(log_latency.mean()) - slope * float(scores.mean()), slope)

    def __call__(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Log latency float64[N] of scores float64[N]."""
        return self.start + self.slope * scores
