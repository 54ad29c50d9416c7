"""The picture of a search: what it evaluated and the Pareto set, as SVG."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layerclock.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.search.result import SearchResult

__all__ = ["draw_front"]

# Two colours that stay apart for readers who see red and green alike (Okabe and Ito).
_FRONT, _OTHERS = "#D55E00", "#9AA5B1"


def draw_front(result: SearchResult, path: Path) -> None:
    """Write an SVG with one panel a pair of objectives: evaluated networks in order of evaluation, the Pareto set over them.

    A search of one objective is drawn over the number of evaluations. Raises :class:`~layerclock.errors.OutputError`.
    """
    front = result.pareto()
    feasible = np.flatnonzero(result.feasible)
    names = [f"{goal.name} ({'higher' if goal.maximise else 'lower'} is better)" for goal in result.objectives]
    pairs = list(combinations(range(len(names)), 2)) or [(-1, 0)]
    columns = {number: result.values[:, number] for number in range(len(names))} | {-1: np.arange(len(result), dtype=np.float64)}
    labels = dict(enumerate(names)) | {-1: "evaluations"}
    with mpl.rc_context({"svg.hashsalt": "layerclock", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.2 * len(pairs), 4.2), layout="constrained")
        for axes, (first, second) in zip(np.ravel(figure.subplots(1, len(pairs), squeeze=False)), pairs, strict=True):
            axes.scatter(columns[first][feasible], columns[second][feasible], s=9, color=_OTHERS, label=f"{len(feasible)} evaluated")
            axes.plot(columns[first][front], columns[second][front], "o-" if len(pairs) == 1 else "o", ms=4, lw=1, color=_FRONT,
                      label=f"{len(front)} Pareto-optimal")  # fmt: skip
            axes.set_xlabel(labels[first])
            axes.set_ylabel(labels[second])
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(frameon=False)
        figure.suptitle(f"{result.space}: {result.algorithm}, {len(result)} evaluations")
        write_atomically(path, lambda draft: figure.savefig(draft, format="svg", metadata={"Date": None}))
