"""Raw timing samples and the statistics that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["DISTURBED_ABOVE", "LATENCY_QUANTILE", "STEADY_HALF_WIDTH", "Timing", "disturbance", "mean_known"]

FloatArray = npt.NDArray[np.float64]

# Latency is a low quantile of the undisturbed samples: what disturbs a run only ever makes it longer, so that the lower
# part of the distribution belongs to the network and the upper part to what went unnoticed of the machine's other work.
# The more runs were seen to be disturbed, the more of the others were so unseen, in their middle: the quantile sinks with
# the undisturbed share, from this on a quiet machine to the minimum on a busy one (which Chen and Revels, *Robust
# benchmarking in noisy environments*, arXiv:1608.04295, argue for).
LATENCY_QUANTILE = 0.25

# A timing is steady if the 90 % interval of its latency is narrower than +-2 %.
STEADY_HALF_WIDTH = 0.02

# A run is disturbed if the reference workload beside it took this much longer than at rest.
DISTURBED_ABOVE = 0.06
# Fewer undisturbed samples than this say little: the least disturbed ones join them.
FEWEST_UNDISTURBED = 8
# What one involuntary context switch in a run counts for, in the same measure.
_SWITCH = 0.5


def disturbance(reference_ns: FloatArray, switches: npt.NDArray[np.int64], at_rest_ns: float) -> FloatArray:
    """How disturbed each run was, float64[n]: the reference workload's slowdown around it, and a share for each switch.

    ``reference_ns`` float64[n] (NaN where nobody looked) and ``switches`` int64[n] as
    :class:`~layerclock.profiler.measurement.Watched` has them.
    """
    slowdown: FloatArray = np.nan_to_num(np.maximum(reference_ns / at_rest_ns - 1, 0.0))
    return slowdown + _SWITCH * switches


def mean_known(values: FloatArray) -> float:
    """The mean of those of ``values`` float64[n] that are known, NaN where none is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _at(ordered: FloatArray, quantile: float) -> float:
    """A quantile of ordered samples by linear interpolation: ``numpy.quantile``, without what that costs a call."""
    place = quantile * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


@dataclass(frozen=True)
class Timing:
    """Samples of one quantity in nanoseconds; every statistic is derived from them.

    ``rounds`` numbers the round in which each sample was taken; without it all samples count as one round.
    ``disturbed`` tells how disturbed each sample was (:func:`disturbance`); without it none was. :attr:`latency_us`, its
    interval and the noise floor rest on the undisturbed samples, or on the least disturbed ones where there are too few;
    the other statistics are those of all samples. ``quantile`` is the one that :attr:`latency_us` is on a quiet machine.
    """

    samples_ns: FloatArray
    rounds: npt.NDArray[np.int64] | None = None
    disturbed: FloatArray | None = None
    quantile: float = LATENCY_QUANTILE

    def __post_init__(self) -> None:
        if self.samples_ns.ndim != 1 or not len(self.samples_ns):
            raise ValueError("a timing needs a one-dimensional, non-empty array of samples")
        if self.rounds is not None and len(self.rounds) != len(self.samples_ns):
            raise ValueError("rounds and samples differ in length")
        if self.disturbed is not None and len(self.disturbed) != len(self.samples_ns):
            raise ValueError("disturbed and samples differ in length")

    @cached_property
    def _chosen(self) -> npt.NDArray[np.int64]:
        """Positions of the samples that the latency rests on."""
        if self.disturbed is None:
            return np.arange(len(self.samples_ns))
        undisturbed = np.flatnonzero(self.disturbed <= DISTURBED_ABOVE)
        if len(undisturbed) >= FEWEST_UNDISTURBED:
            return undisturbed
        least = max(FEWEST_UNDISTURBED, len(self.samples_ns) // 4)
        return np.sort(np.argsort(self.disturbed, kind="stable")[:least])

    @cached_property
    def _all_sorted(self) -> FloatArray:
        return np.sort(self.samples_ns)

    @cached_property
    def _sorted(self) -> FloatArray:
        return np.sort(self.samples_ns[self._chosen])

    @cached_property
    def undisturbed(self) -> int:
        """How many samples were not disturbed."""
        return len(self.samples_ns) if self.disturbed is None else int((self.disturbed <= DISTURBED_ABOVE).sum())

    @property
    def settled(self) -> bool:
        """Whether the latency rests on undisturbed samples alone."""
        return self.undisturbed >= min(FEWEST_UNDISTURBED, len(self.samples_ns))

    def quantile_us(self, quantile: float) -> float:
        """A quantile of all samples, 0 to 1."""
        return _at(self._all_sorted, quantile) / 1e3

    @property
    def _quantile(self) -> float:
        return self.quantile * self.undisturbed / len(self.samples_ns)

    @cached_property
    def latency_us(self) -> float:
        """The estimate to use: a low quantile of the undisturbed samples, ``quantile`` times their share."""
        return _at(self._sorted, self._quantile) / 1e3

    @property
    def mean_us(self) -> float:
        """Mean of all samples."""
        return float(self.samples_ns.mean()) / 1e3

    @property
    def std_us(self) -> float:
        """Standard deviation of all samples; zero for a single one."""
        return float(self.samples_ns.std(ddof=1)) / 1e3 if len(self.samples_ns) > 1 else 0.0

    def interval_us(self, level: float = 0.9) -> tuple[float, float]:
        """Distribution-free interval of :attr:`latency_us` from order statistics (normal approximation to the binomial).

        David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1.
        """
        count = len(self._sorted)
        # A minimum has no order statistic below it: its interval is that of the lowest quantile that these samples can show.
        quantile = max(self._quantile, 1 / count)
        spread = NormalDist().inv_cdf(0.5 + level / 2) * sqrt(count * quantile * (1 - quantile))
        low = min(count - 1, max(0, int(np.floor(count * quantile - spread))))
        high = min(count - 1, int(np.ceil(count * quantile + spread)))
        return float(self._sorted[low]) / 1e3, float(self._sorted[high]) / 1e3

    @cached_property
    def noise_floor(self) -> float:
        """Relative uncertainty of :attr:`latency_us`: half the difference between two halves of the measurement.

        The halves are the odd and the even rounds (or samples, where rounds are not told), so that a slow minute that
        spans a round shows as noise. NaN where there is only one half, or where the latency is not above zero.
        """
        chosen = self._chosen
        parity = (np.arange(len(chosen)) if self.rounds is None else self.rounds[chosen]) % 2
        if parity.min() == parity.max() or self.latency_us <= 0:
            return float("nan")
        halves = [_at(np.sort(self.samples_ns[chosen[parity == side]]), self._quantile) for side in (0, 1)]
        return abs(halves[0] - halves[1]) / 2 / (self.latency_us * 1e3)

    @property
    def verdict(self) -> tuple[str, str]:
        """``("steady", "")`` or ``("noisy", why)``."""
        if len(self.samples_ns) < FEWEST_UNDISTURBED:
            return "noisy", f"only {len(self.samples_ns)} samples"
        if self.latency_us <= 0:
            return "noisy", "faster than can be measured"
        if not self.settled:
            return "noisy", f"only {self.undisturbed} of {len(self.samples_ns)} samples were undisturbed"
        low, high = self.interval_us()
        half_width = (high - low) / 2 / self.latency_us
        if half_width > STEADY_HALF_WIDTH:
            return "noisy", f"90 % interval of +-{half_width:.1%} is wider than +-{STEADY_HALF_WIDTH:.0%}"
        return "steady", ""
