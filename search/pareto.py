"""Which points no other point beats: plain, exact and independent of every search algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray

__all__ = ["non_dominated"]


def non_dominated(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether each row of ``values`` float64[N, M], all minimised, is dominated by no other row: bool[N].

    A row dominates another if it is nowhere larger and somewhere smaller; so equal rows do not dominate each other.
    """
    kept = np.empty_like(values)
    number = 0
    optimal = np.zeros(len(values), dtype=np.bool_)
    # In lexicographic order no row is dominated by a later one, so each is held against the front so far.
    for row in np.lexsort(values.T[::-1]):
        front, point = kept[:number], values[row]
        if not ((front <= point).all(axis=1) & (front < point).any(axis=1)).any():
            kept[number], optimal[row] = point, True
            number += 1
    return optimal
