"""``layerclock evaluate --tasks``: transfer predictors on published tasks, beside the published figures."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from layerclock.cli.output import print_json, print_table, progress_bar
from layerclock.errors import ArgumentError, TableError

__all__ = ["evaluate_tasks"]

_PUBLISHED = "nasflat_published.csv"


def evaluate_tasks(
    collection: str, folder: Path | None, names: tuple[str, ...], samples: int, seeds: int, as_json: bool, quiet: bool
) -> None:
    """Run the default transfer predictor on the tasks of a collection, and print it beside what was published.

    Raises :class:`ArgumentError` for another collection than ``nasflat`` or without a folder, and :class:`TableError` for missing files.
    """
    from layerclock.predictors.transfer.tasks import read_tasks, run_task

    if collection != "nasflat":
        raise ArgumentError(f"there is no collection of tasks {collection!r}", "nasflat")
    folder = folder or (Path(os.environ["LAYERCLOCK_DATA"]) if os.environ.get("LAYERCLOCK_DATA") else None)
    if folder is None:
        raise ArgumentError("nothing tells where the tasks' files are", "give --data FOLDER, or set LAYERCLOCK_DATA")
    published = _read_published(folder / _PUBLISHED)
    tasks = read_tasks(folder, names)
    found = {}
    with progress_bar(quiet) as report:
        for number, task in enumerate(tasks):
            report(f"task {task.name}", number, len(tasks), float("nan"))
            outcomes = [outcome for seed in range(seeds) for outcome in run_task(task, samples, seed)]
            found[task.name] = {
                "spearman": float(np.mean([one.spearman for one in outcomes])),
                "mean_error": float(np.mean([one.mean_error for one in outcomes])),
                "median_error": float(np.mean([one.median_error for one in outcomes])),
                "interval_coverage": float(np.mean([one.interval_coverage for one in outcomes])),
                "trust_in_sources": float(np.mean([one.trust for one in outcomes])),
                "seconds": float(np.mean([one.seconds + one.shared_seconds for one in outcomes])),
            }
    mean = float(np.mean([one["spearman"] for one in found.values()]))
    if as_json:
        print_json({"tasks": found, "published": {name: published.get(name, {}) for name in found}, "mean_spearman": mean})
        return
    methods = sorted({method for row in published.values() for method in row})
    rows = [
        (
            name, f"{one['spearman']:.3f}", *(f"{published.get(name, {}).get(method, float('nan')):.3f}" for method in methods),
            f"{one['median_error']:.1%}", f"{one['interval_coverage']:.0%}", f"{one['seconds']:.1f}",
        )
        for name, one in found.items()
    ]  # fmt: skip
    print_table(
        f"Spearman after {samples} networks of each unseen device, mean of {seeds} draws: {mean:.3f}",
        ("task", "ours", *methods, "median error", "in 90 %", "s"),
        rows,
    )


def _read_published(path: Path) -> dict[str, dict[str, float]]:
    """Published Spearman by task and method. Raises :class:`TableError` if the file cannot be read."""
    try:
        rows = list(csv.DictReader(path.open()))
        return {row.pop("task"): {method: float(value) for method, value in row.items()} for row in rows}
    except (OSError, KeyError, ValueError) as error:
        raise TableError(f"cannot read {path}: {error}", "columns: task, and one a method, with Spearman's correlations") from error
