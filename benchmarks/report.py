"""The form that every benchmark prints: a table for people and, last, one line of JSON."""

from __future__ import annotations

import json
import operator
import sys
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.profiler.progress import Progress

__all__ = ["finish", "tell"]

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_SECONDS_BETWEEN_LINES = 15.0
_last_line = [0.0]


def tell(progress: Progress) -> None:
    """Report a campaign's progress on standard error, now and then."""
    if monotonic() - _last_line[0] > _SECONDS_BETWEEN_LINES:
        _last_line[0] = monotonic()
        told = f"{progress.stage} {progress.done}/{progress.total}", f"{progress.left_s:.0f} s left", progress.noise_in_words
        print(", ".join(filter(None, told)), file=sys.stderr, flush=True)


def finish(name: str, figures: Mapping[str, float], targets: Mapping[str, tuple[str, float]], quick: bool) -> int:
    """Print ``figures`` beside ``targets`` (name: (comparison, limit)); return the exit code, 0 if all targets hold."""
    held = {target: _COMPARE[sign](figures[target], limit) for target, (sign, limit) in targets.items()}
    width = max(map(len, figures))
    print(f"\n{name}" + (" (--quick: fewer measurements, less sure)" if quick else ""))
    for figure, value in figures.items():
        target = ""
        if figure in targets:
            sign, limit = targets[figure]
            target = f"  target {sign} {limit:g}  {'holds' if held[figure] else 'MISSED'}"
        print(f"  {figure:<{width}}  {value:>12.5g}{target}")
    print(json.dumps({"benchmark": name, "quick": quick, "figures": figures, "targets": targets, "holds": all(held.values())}))
    return 0 if all(held.values()) else 1
