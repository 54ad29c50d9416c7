"""How fast and how disturbed the machine was while a campaign measured, visit by visit, from the parts in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.timing import DISTURBED_ABOVE, disturbance

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Drift", "read_drift"]

FloatArray = npt.NDArray[np.float64]

# As in the estimate of a layer: low enough to be the fast mode wherever there was one, and no outlier.
_AT_REST_QUANTILE = 0.02
_COLUMNS = ["kind", "before_ns", "after_ns", "switches"]


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Of each visit of a network, in order: ``minutes`` float64[V] of measuring until then, without the pauses between sittings;
    ``slowdown`` float64[V], the median of the reference workload against its time at rest, less one; ``disturbed`` float64[V], the
    share of runs beside which something was seen; ``rounds`` int64[V].
    """

    minutes: FloatArray
    slowdown: FloatArray
    disturbed: FloatArray
    rounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.minutes)


@dataclass(frozen=True, slots=True)
class _Visit:
    sitting: str
    begun_s: float
    seconds: float
    round: int
    around_ns: FloatArray
    switches: npt.NDArray[np.int64]


def read_drift(folder: Path) -> Drift | None:
    """The drift of the campaign in ``folder``; None where there are no parts, or nobody watched the machine.

    A part that cannot be read is passed over: what the drift shows does not rest on any one of them.
    """
    found = [visit for path in sorted((folder / "parts").glob("*.parquet")) if (visit := _visit(path)) is not None]
    if not found:
        return None
    at_rest_ns = float(np.quantile(np.concatenate([visit.around_ns for visit in found]), _AT_REST_QUANTILE))
    began = _beginnings(found)
    found.sort(key=lambda visit: began[visit.sitting] + visit.seconds)
    shares = [disturbance(visit.around_ns, visit.switches, at_rest_ns) > DISTURBED_ABOVE for visit in found]
    return Drift(
        minutes=np.array([(began[visit.sitting] + visit.seconds) / 60 for visit in found]),
        slowdown=np.array([float(np.median(visit.around_ns)) / at_rest_ns - 1 for visit in found]),
        disturbed=np.array([float(share.mean()) for share in shares]),
        rounds=np.array([visit.round for visit in found], dtype=np.int64),
    )


def _visit(path: Path) -> _Visit | None:
    try:
        table = pq.read_table(path, columns=_COLUMNS)
        written = json.loads((table.schema.metadata or {})[b"measurement"])
        row = next(row for row in table.to_pylist() if row["kind"] == "end_to_end")
        # A run is as disturbed as the slower of the two readings beside it.
        around = np.maximum(np.array(row["before_ns"], dtype=np.float64), np.array(row["after_ns"], dtype=np.float64))
        visit = _Visit(
            str(written["sitting"]),
            float(written["facts"].get("begun_s", 0.0)),
            float(written["sitting_s"]),
            int(written["round"]),
            around,
            np.array(row["switches"], dtype=np.int64),
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return visit if len(around) and np.isfinite(around).all() else None


def _beginnings(visits: list[_Visit]) -> dict[str, float]:
    """Seconds of measuring before each sitting, in the order in which they began."""
    first = {name: min(v.begun_s for v in visits if v.sitting == name) for name in {v.sitting for v in visits}}
    length = {name: max(v.seconds for v in visits if v.sitting == name) for name in first}
    began, so_far = {}, 0.0
    for name in sorted(first, key=lambda name: (first[name], name)):
        began[name] = so_far
        so_far += length[name]
    return began
