"""Order among points of several objectives: ranks, crowding, hypervolume. moocore and pymoo compute; all is to be minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.search.objective import FloatArray

try:
    import moocore
    from pymoo.config import Config
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "pymoo").split(".")[0], "search", "ranking by several objectives") from error

__all__ = ["best_first", "hypervolume", "hypervolume_gains"]

# Without its compiled modules pymoo is slower by little here, and would print about it.
Config.warnings["not_compiled"] = False


def hypervolume(points: FloatArray, reference: Sequence[float] | FloatArray) -> float:
    """Volume between the front ``points`` float64[P, M] and ``reference``; points beyond it add nothing.

    Zitzler, Thiele: Multiobjective evolutionary algorithms, IEEE TEC 3(4), 1999.
    """
    limit = np.asarray(reference, dtype=np.float64)
    inside = points[(points < limit).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=limit)) if len(inside) else 0.0


def hypervolume_gains(points: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """What each of ``points`` float64[N, M] alone would add to the hypervolume of ``front`` float64[P, M]: float64[N]."""
    if points.shape[1] == 2:
        return _gains_in_the_plane(points, front, reference)
    before = hypervolume(front, reference)
    gains = np.zeros(len(points))
    # What the front dominates adds nothing, and need not be asked.
    for row in np.flatnonzero((points < reference).all(axis=1) & ~_dominated(points, front)):
        gains[row] = hypervolume(np.concatenate([front, points[row : row + 1]]), reference) - before
    return gains


def _dominated(points: FloatArray, front: FloatArray) -> npt.NDArray[np.bool_]:
    below: npt.NDArray[np.bool_] = np.all(front[None] <= points[:, None], axis=2)
    anywhere: npt.NDArray[np.bool_] = np.logical_or.reduce(below, axis=1)
    return anywhere


def _gains_in_the_plane(points: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """The same for two objectives, where the dominated region is a staircase of strips."""
    inside = front[(front < reference).all(axis=1)]
    order = inside[np.lexsort((inside[:, 1], inside[:, 0]))]
    # The height that is dominated already in each strip between two neighbours; before the first, nothing is.
    edges = np.concatenate([[-np.inf], order[:, 0], [reference[0]]])
    height = np.concatenate([[reference[1]], np.minimum.accumulate(order[:, 1])])
    width = np.clip(edges[None, 1:] - np.maximum(points[:, :1], edges[None, :-1]), 0, None)
    gains: FloatArray = (width * np.clip(height[None] - points[:, 1:], 0, None)).sum(axis=1)
    return gains


def best_first(values: FloatArray, violation: FloatArray, number: int) -> npt.NDArray[np.int64]:
    """Rows of the ``number`` best of ``values`` float64[N, M], the best first: int64[<=number].

    Feasible ones by rank and crowding distance, behind them the others by their ``violation`` float64[N] (Deb et al., NSGA-II,
    IEEE TEC 6(2), 2002, sections III and VI).
    """
    feasible, others = np.flatnonzero(violation == 0), np.flatnonzero(violation > 0)
    chosen: list[int] = []
    if values.shape[1] == 1:  # every value is a front of its own, and nothing is crowded: their order is all there is
        chosen = feasible[np.argsort(values[feasible, 0], kind="stable")].tolist()
    elif len(feasible):
        ranks = np.asarray(moocore.pareto_rank(np.ascontiguousarray(values[feasible])))
        for rank in range(int(ranks.max()) + 1):
            members = feasible[ranks == rank]
            chosen.extend(members[np.argsort(-calc_crowding_distance(values[members]), kind="stable")].tolist())
            if len(chosen) >= number:
                break
    chosen.extend(others[np.argsort(violation[others], kind="stable")].tolist())
    return np.array(chosen[:number], dtype=np.int64)
