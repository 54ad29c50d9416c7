"""What to say where no network satisfies the constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import SearchError

if TYPE_CHECKING:
    from layerclock.search.evaluations import Evaluations
    from layerclock.search.result import SearchResult

__all__ = ["nothing_feasible"]


def nothing_feasible(result: SearchResult, record: Evaluations) -> SearchError:
    """The error that names the constraints that the nearest network violates, and its values."""
    if len(record) and len(record) == record.failed:
        return SearchError(
            f"all {len(record)} evaluations failed; the first: {record.failures[0]}",
            "check that predictor, evaluator and space belong together, then give the same command again: they are evaluated anew",
        )
    if len(record) or record.nearest is None:
        row = int(result.violation.argmin())
        genome, measured = result.genomes[row], result.measured[row]
    else:
        genome, measured = record.nearest
    values = {one.name: float(value) for one, value in zip(record.measures, measured, strict=True)}
    broken = []
    for limit in record.constraints:
        # Of a rejected network only the cheap values are known.
        if limit.soft or np.isnan(values[limit.name]):
            continue
        (interval,) = (one.interval for one in record.measures if one.name == limit.name)
        end = values[limit.name] if interval is None else float(interval(genome[None])[limit.operator == "<="][0])
        if limit.violation(np.array([end]))[0] > 0:
            reaches = "" if interval is None else f" (its interval reaches {end:.10g})"
            broken.append((str(limit), f"{limit.name}={values[limit.name]:.10g}{reaches}"))
    return SearchError(
        f"no network of {result.space!r} satisfies {' and '.join(asked for asked, _ in broken)}: of {len(record) + record.rejected} "
        f"proposed, the nearest has {' and '.join(seen for _, seen in broken)}",
        "relax the constraint to what the nearest network has, allow more evaluations, or search another space",
    )
