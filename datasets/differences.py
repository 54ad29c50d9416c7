"""What changed between two tables, row by row of the same key, and which changes are more than noise.

The logarithm of the ratio is held against its standard error: Wald's test (Wasserman, *All of Statistics*, 2004, section 10.1), the
errors by the delta method (section 5.5). A row's own error is that of its 90 % interval; the noise floors of both tables are added to it,
because whole sittings differ. False discoveries are controlled at the asked level over all rows together (Benjamini and
Hochberg, JRSS B 57, 1995).

What moves all rows alike may be the hour, and not what differs between the tables: on a shared machine the level of two campaigns may be
some percent apart. Each row is therefore also held against the typical ratio of its level: what it changed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, isfinite, log, nan
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.datasets.table import LatencyTable

    Row = Mapping[str, Any]
    Identity = tuple[str, str, str]

__all__ = ["Change", "Differences", "compare_tables"]

# Beyond it, quotients of ratios are no numbers any more.
_MOST_CHANGED = 1e100
_HALF_WIDTH_90 = float(stats.norm.ppf(0.95))


@dataclass(frozen=True, slots=True)
class Change:
    """One row in both tables: ``ratio`` is the second's latency over the first's, ``p`` corrected for the number of rows.

    ``relative_error`` is the ratio's standard error, relative; NaN, with ``p`` NaN, where either table tells none. ``own_ratio`` is the
    ratio over the typical one of its level, with its own ``own_p``.
    """

    level: str
    role: str
    key: str
    first_us: float
    second_us: float
    ratio: float
    relative_error: float
    p: float
    significant: bool
    own_ratio: float
    own_p: float
    own_significant: bool


@dataclass(frozen=True, slots=True)
class Differences:
    """What changed: rows of both, by how much they differ, rows of one alone (level, role, key), and fields of the target that differ.

    ``typical`` is the median ratio by level. Networks' rows are their totals.
    """

    changes: tuple[Change, ...]
    only_first: tuple[Identity, ...]
    only_second: tuple[Identity, ...]
    target: Mapping[str, tuple[object, object]]
    typical: Mapping[str, float]
    noise_floors: tuple[float, float]
    level: float


def compare_tables(first: LatencyTable, second: LatencyTable, false_discoveries: float = 0.05) -> Differences:
    """Hold two tables of one space against each other; their targets may differ, and each has one.

    Raises :class:`~layerclock.errors.TargetMismatchError` if one of them holds several targets, :class:`TableError` if they are of
    different spaces or have no key in common, or a row's times are no two times of one thing.
    """
    if (first.space, first.space_digest) != (second.space, second.space_digest):
        raise TableError(
            f"these are of different spaces: {first.space} ({first.space_digest[:10]}) and {second.space} ({second.space_digest[:10]})",
            "keys of one space mean nothing in another: compare tables of one space, made by versions that agree on its layers",
        )
    target = first.target.differences(second.target)
    own, other = _by_identity(first), _by_identity(second)
    common = [identity for identity in own if identity in other]
    if not common:
        raise TableError("the tables have no row of one key in common", "compare tables of the same layers, kernels or networks")
    floors = (first.noise_floor, second.noise_floor)
    both = [identity for identity in common if _both_measured(own[identity], other[identity])]
    ratios = [other[identity]["latency_us"] / own[identity]["latency_us"] for identity in both]
    for identity, ratio in zip(both, ratios, strict=True):
        if not 1 / _MOST_CHANGED < ratio < _MOST_CHANGED:
            raise TableError(
                f"{identity[2][:120]} takes {own[identity]['latency_us']:.3g} us and {other[identity]['latency_us']:.3g} us",
                "no device changes so much: one of the files is damaged; layerclock table check looks at each",
            )
    errors = [_error(own[identity], other[identity], floors) for identity in both]
    levels = dict.fromkeys(level for level, _, _ in both)
    typical = {level: median(ratio for (its, _, _), ratio in zip(both, ratios, strict=True) if its == level) for level in levels}
    own_ratios = [ratio / typical[level] for (level, _, _), ratio in zip(both, ratios, strict=True)]
    p, own_p = _corrected_p(ratios, errors), _corrected_p(own_ratios, errors)
    changes = [
        Change(
            level, role, key, own[level, role, key]["latency_us"], other[level, role, key]["latency_us"], ratios[row], errors[row],
            p[row], p[row] <= false_discoveries, own_ratios[row], own_p[row], own_p[row] <= false_discoveries,
        )
        for row, (level, role, key) in enumerate(both)
    ]  # fmt: skip
    changes.sort(key=lambda change: -abs(log(change.ratio)))
    only_first, only_second = (tuple(one for one in mine if one not in theirs) for mine, theirs in ((own, other), (other, own)))
    return Differences(tuple(changes), only_first, only_second, target, typical, floors, false_discoveries)


def _by_identity(table: LatencyTable) -> dict[Identity, Row]:
    found: dict[Identity, Row] = {}
    for row in table.rows.to_pylist():
        found.setdefault((row["level"], row["role"], row["key"]), row)
    return found


def _both_measured(first: Row, second: Row) -> bool:
    return all(row["latency_us"] is not None and isfinite(row["latency_us"]) and row["latency_us"] > 0 for row in (first, second))


def _error(first: Row, second: Row, floors: tuple[float, float]) -> float:
    """Standard error of the logarithm of the rows' ratio, NaN where either row tells none: what is not known is not zero."""
    return hypot(_own_error(first), _own_error(second), *(floor for floor in floors if isfinite(floor)))


def _corrected_p(ratios: list[float], errors: list[float]) -> list[float]:
    """Whether each ratio is another than 1, corrected for the number of rows; NaN where its error is not known."""
    found, tested = [nan] * len(ratios), [number for number, error in enumerate(errors) if error > 0]
    if tested:
        p = [float(2 * stats.norm.sf(abs(log(ratios[number])) / errors[number])) for number in tested]
        for number, corrected in zip(tested, stats.false_discovery_control(p), strict=True):
            found[number] = float(corrected)
    return found


def _own_error(row: Row) -> float:
    """Relative standard error of a row: of its interval, else its noise floor, NaN where neither is told."""
    low, high = row["interval_low_us"], row["interval_high_us"]
    if low is not None and high is not None and 0 < low <= high:
        return float(np.log(high / low)) / 2 / _HALF_WIDTH_90
    floor = row["noise_floor"]
    return float(floor) if floor is not None and isfinite(floor) else nan
