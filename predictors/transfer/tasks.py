"""Transfer tasks: a set of devices to learn from, and unseen ones on which a handful of networks is measured.

The protocol is that of Akhauri & Abdelfattah 2024 (*On latency predictors for neural architecture search*, arXiv:2403.02446, section 5):
other devices' latencies are known on a source sample only, the new device's on the few networks that a sampler chose, and what counts is
Spearman's correlation over all other networks, mean over the unseen devices.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr, t

from layerclock.datasets.public.wide_parquet import read_wide_parquet
from layerclock.errors import TableError
from layerclock.plugins import load_space
from layerclock.predictors.fitting import INTERVAL_LEVEL
from layerclock.predictors.transfer.gaussian import FittedGaussian, GaussianPrior, GaussianTransfer
from layerclock.predictors.transfer.problem import Pretrainable, Sources
from layerclock.predictors.transfer.samplers import candidates_of, choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerclock.datasets.public.latencies import PublicLatencies
    from layerclock.interfaces import SearchSpace
    from layerclock.predictors.transfer.problem import TransferModel

__all__ = ["EXPECTED_VARIANCE", "Outcome", "Task", "read_tasks", "run_task"]

FloatArray = npt.NDArray[np.float64]

# What the paper calls its spaces, the files with their latencies, and the size of the source sample (as in its code and in HELP's).
_FILES = {"nb201": ("nb201_latency.parquet", 900), "fbnet": ("fbnet_latency.parquet", 4000)}
_TASKS = "nasflat_tasks.json"
EXPECTED_VARIANCE = "expected-variance"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Latencies of a space's networks on ``known`` devices and on ``unseen`` ones, columns of ``latencies``; ``source_sample`` networks
    are known on the former.
    """

    name: str
    space: SearchSpace
    latencies: PublicLatencies
    known: tuple[str, ...]
    unseen: tuple[str, ...]
    source_sample: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one predictor did on one unseen device: rank correlation, mean and median relative error, share inside the intervals.

    ``interval_coverage`` is NaN where the predictor does not tell its doubt; ``trust`` in the sources likewise. ``seconds`` of fitting
    and of predicting all networks, without what all unseen devices share (``shared_seconds``).
    """

    device: str
    spearman: float
    mean_error: float
    median_error: float
    interval_coverage: float
    trust: float
    seconds: float
    shared_seconds: float


def read_tasks(folder: Path | str, names: Sequence[str] = ()) -> list[Task]:
    """The tasks of ``nasflat_tasks.json`` in ``folder``, beside which ``nb201_latency.parquet`` and ``fbnet_latency.parquet`` lie.

    Raises :class:`TableError` if a file is missing or is none, or a name is no task.
    """
    folder = Path(folder)
    try:
        written = json.loads((folder / _TASKS).read_text())
    except (OSError, ValueError) as error:
        raise TableError(
            f"cannot read {folder / _TASKS}: {error}",
            "the device sets and latencies are published at github.com/abdelfattah-lab/nasflat_latency and github.com/HayeonLee/HELP",
        ) from error
    unknown = [name for name in names if name not in written]
    if unknown:
        raise TableError(f"there is no task {unknown[0]!r}", f"tasks: {', '.join(written)}")
    tables: dict[str, PublicLatencies] = {}
    found = []
    for name in names or written:
        task = written[name]
        file, source_sample = _FILES[task["space"]]
        if file not in tables:
            tables[file] = read_wide_parquet(folder / file)
        latencies = tables[file]
        found.append(Task(name, load_space(latencies.space), latencies, tuple(task["train"]), tuple(task["test"]), source_sample))
    return found


def run_task(task: Task, samples: int, seed: int, model: TransferModel | None = None, sampler: str = EXPECTED_VARIANCE) -> list[Outcome]:
    """One draw of a task: an :class:`Outcome` for each unseen device.

    ``model`` is by default the Gaussian process. ``sampler`` is one of :data:`~layerclock.predictors.transfer.samplers.SAMPLERS`, or
    :data:`EXPECTED_VARIANCE`: the networks that leave the Gaussian process least uncertain.
    """
    rng = np.random.default_rng(seed)
    columns = [task.latencies.devices.index(device) for device in (*task.known, *task.unseen)]
    latency_ms = task.latencies.latency_ms[:, columns]
    usable = np.flatnonzero(np.isfinite(latency_ms).any(axis=1))
    genomes, latency_ms = task.latencies.genomes[usable], latency_ms[usable]
    sample = np.sort(rng.permutation(len(genomes))[: task.source_sample])
    sources = Sources(genomes[sample], latency_ms[sample, : len(task.known)], task.known)
    model = model or GaussianTransfer(seed)
    begin = perf_counter()
    learned = model.pretrain(task.space, sources) if isinstance(model, Pretrainable) else None
    shared_s = perf_counter() - begin
    if sampler == EXPECTED_VARIANCE:
        begin = perf_counter()
        choosing = learned if isinstance(learned, GaussianPrior) else GaussianPrior.of(task.space, sources, seed)
        rows = choosing.choose(genomes, samples, seed)
        shared_s += perf_counter() - begin
    else:
        known_ms = np.full((len(genomes), len(task.known)), np.nan)
        known_ms[sample] = sources.latency_ms
        rows = choose(sampler, candidates_of(task.space, genomes, source_latency_ms=known_ms), samples, seed)
    found = []
    for number, device in enumerate(task.unseen):
        measured_ms = latency_ms[:, len(task.known) + number]
        chosen = rows[np.isfinite(measured_ms[rows])]
        begin = perf_counter()
        few = genomes[chosen], measured_ms[chosen]
        fitted = learned.adapt(*few) if learned is not None else model.fit(task.space, sources, *few)
        told = fitted.predict(genomes)
        seconds = perf_counter() - begin
        rest = np.setdiff1d(np.flatnonzero(np.isfinite(measured_ms)), rows)
        truth = np.log(measured_ms[rest])
        factor = fitted.interval_factor if isinstance(fitted, FittedGaussian) else float(t.ppf(0.5 + INTERVAL_LEVEL / 2, samples - 1))
        inside = np.abs(truth - told.mean[rest]) <= factor * told.std[rest]
        found.append(
            Outcome(
                device,
                float(spearmanr(told.mean[rest], truth).statistic),
                float(np.abs(np.expm1(told.mean[rest] - truth)).mean()),
                float(np.median(np.abs(np.expm1(told.mean[rest] - truth)))),
                float(inside.mean()) if np.isfinite(told.std).all() else float("nan"),
                fitted.trust_in_sources if isinstance(fitted, FittedGaussian) else float("nan"),
                seconds,
                shared_s,
            )
        )
    return found
