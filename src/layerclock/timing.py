"""Raw timing samples and the statistics that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["LATENCY_QUANTILE", "Timing"]

# End-to-end latency is a low quantile: what disturbs a run only ever makes it longer, so that the lower part of the
# distribution belongs to the network and the upper part to the machine's other work.
LATENCY_QUANTILE = 0.25

# A timing is steady if the 90 % interval of its latency is narrower than +-2 %.
STEADY_HALF_WIDTH = 0.02


@dataclass(frozen=True)
class Timing:
    """Samples of one quantity in nanoseconds; every statistic is derived from them.

    ``rounds`` numbers the round in which each sample was taken; without it all samples count as one round.
    """

    samples_ns: npt.NDArray[np.float64]
    rounds: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.samples_ns.ndim != 1 or not len(self.samples_ns):
            raise ValueError("a timing needs a one-dimensional, non-empty array of samples")
        if self.rounds is not None and len(self.rounds) != len(self.samples_ns):
            raise ValueError("rounds and samples differ in length")

    @cached_property
    def _sorted(self) -> npt.NDArray[np.float64]:
        return np.sort(self.samples_ns)

    def quantile_us(self, quantile: float) -> float:
        """A quantile of the samples, 0 to 1."""
        return float(np.quantile(self._sorted, quantile)) / 1e3

    @property
    def latency_us(self) -> float:
        """The estimate to use: the sample quantile at :data:`LATENCY_QUANTILE`."""
        return self.quantile_us(LATENCY_QUANTILE)

    @property
    def mean_us(self) -> float:
        """Mean of the samples."""
        return float(self.samples_ns.mean()) / 1e3

    @property
    def std_us(self) -> float:
        """Sample standard deviation; zero for a single sample."""
        return float(self.samples_ns.std(ddof=1)) / 1e3 if len(self.samples_ns) > 1 else 0.0

    def interval_us(self, level: float = 0.9) -> tuple[float, float]:
        """Distribution-free interval of :attr:`latency_us` from order statistics (normal approximation to the binomial).

        David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1.
        """
        count = len(self._sorted)
        spread = NormalDist().inv_cdf(0.5 + level / 2) * sqrt(count * LATENCY_QUANTILE * (1 - LATENCY_QUANTILE))
        low = max(0, int(np.floor(count * LATENCY_QUANTILE - spread)))
        high = min(count - 1, int(np.ceil(count * LATENCY_QUANTILE + spread)))
        return float(self._sorted[low]) / 1e3, float(self._sorted[high]) / 1e3

    @property
    def noise_floor(self) -> float:
        """Relative uncertainty of :attr:`latency_us`: half the difference between two halves of the measurement.

        The halves are the odd and the even rounds (or samples, where there is one round), so that a slow minute that
        spans a round shows as noise. NaN where there is only one half, or where the latency is not above zero.
        """
        parity = (self.rounds if self.rounds is not None and len(set(self.rounds.tolist())) > 1 else np.arange(len(self.samples_ns))) % 2
        if parity.min() == parity.max() or self.latency_us <= 0:
            return float("nan")
        halves = [float(np.quantile(self.samples_ns[parity == side], LATENCY_QUANTILE)) for side in (0, 1)]
        return abs(halves[0] - halves[1]) / 2 / (self.latency_us * 1e3)

    @property
    def verdict(self) -> tuple[str, str]:
        """``("steady", "")`` or ``("noisy", why)``."""
        if len(self.samples_ns) < 8:
            return "noisy", f"only {len(self.samples_ns)} samples"
        if self.latency_us <= 0:
            return "noisy", "faster than can be measured"
        low, high = self.interval_us()
        half_width = (high - low) / 2 / self.latency_us
        if half_width > STEADY_HALF_WIDTH:
            return "noisy", f"90 % interval of +-{half_width:.1%} is wider than +-{STEADY_HALF_WIDTH:.0%}"
        return "steady", ""
