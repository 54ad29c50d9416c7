"""Single runs out of running means that were cut to whole microseconds.

After n runs, a mean of whole microseconds says that their total lies between ``n * mean`` and n - 1 microseconds above: a tube
that widens with n. The totals are taken as the smoothest line inside the tube (the taut string of Davies and Kovac 2001,
*Local extremes, runs, strings and multiresolution*), whose steps show a slow run where there was one, and no noise that the
cutting made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["taut"]

# Passes that pull the line of totals taut; it is straight to a hundredth of a microsecond after far fewer.
_SMOOTHING_PASSES = 400


def taut(lowest: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The smoothest totals, float64[runs, kernels], that are at least ``lowest`` and less than one a run above it.

    Smoothest: the least sum of squared second differences that pulling each total between its neighbours can reach.
    """
    highest = lowest + np.arange(len(lowest))[:, None]
    totals = (lowest + highest) / 2
    for _ in range(_SMOOTHING_PASSES):
        # From the second run on: the first is exact and cold. Odd and even ones in turn; the last follows the step before it.
        for start in (2, 3):
            inner = slice(start, len(totals) - 1, 2)
            middle = (totals[start - 1 : -2 : 2] + totals[start + 1 :: 2]) / 2
            totals[inner] = np.clip(middle, lowest[inner], highest[inner])
        if len(totals) > 3:
            totals[-1] = np.clip(2 * totals[-2] - totals[-3], lowest[-1], highest[-1])
            totals[1] = np.clip(2 * totals[2] - totals[3], lowest[1], highest[1])
    return totals
