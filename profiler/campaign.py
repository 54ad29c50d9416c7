"""The measuring campaign: export, load, measure in rounds spread over time, and summarise into a latency table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from layerclock.errors import ArgumentError
from layerclock.interfaces import PreparesModels
from layerclock.profiler.plan import Plan, make_plan
from layerclock.profiler.pools import open_pool
from layerclock.profiler.sitting import Limits, Sitting
from layerclock.profiler.store import CampaignFolder, CampaignRecord
from layerclock.profiler.summary import summarise
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, ModelFile, SearchSpace
    from layerclock.profiler.progress import Progress

__all__ = ["profile"]


def profile(
    device: Device,
    space: SearchSpace,
    folder: Path | str,
    *,
    networks: int = 40,
    holdout: int = 0,
    calibration: int = 0,
    rounds: int = 8,
    runs: int = 8,
    budget_s: float | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    limit_s: float = 60.0,
    affinity: tuple[int, ...] = (),
    retry_failed: bool = False,
    export: Callable[[npt.ArrayLike], ModelFile] | None = None,
    calibration_inputs: Path | None = None,
    ceilings: Callable[[], Mapping[str, float]] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LatencyTable:
    """Measure sub-networks of ``space`` on ``device`` and return the latency table, also written to ``folder``.

    ``networks`` are profiled kernel by kernel, ``holdout`` others are only timed end to end, in the same rounds, as the
    truth that predictors are judged by, and so are ``calibration`` others, for predictors' intervals; ``plan`` names the
    networks instead, to measure the ones that a search found.

    In each round every network is warmed up until it is steady and then run until ``runs`` runs were undisturbed (twice
    as many at most), plainly and with counters. Without a budget there are ``rounds`` rounds. With ``budget_s``
    seconds, export included and summed over interrupted sittings, there are as many as fit, and fewer if the interval of
    every layer is narrow before; networks for which there is no time are left out, those that cover the layers last.

    Each network lives in a process of its own. One that crashes or does not answer within ``limit_s`` seconds is recorded
    as failed, with the reason, and only tried again with ``retry_failed``. ``affinity`` binds those processes to
    processors. ``export`` makes the model of a genome where the space's ``build`` is not to be used. ``calibration_inputs`` is an
    ``.npz`` of real inputs by name, [n, ...] each, that a device which quantises networks looks at; without it the space's own
    (:class:`~layerclock.interfaces.HasRealInputs`), else pseudo-random ones, which do for times, not for accuracy.
    ``ceilings`` is called at the end, while the folder is still this campaign's alone, for the table's ``ceilings``. If ``folder``
    already holds this campaign, it goes on where it stopped; an interrupted campaign leaves all that was measured.

    Raises :class:`ArgumentError`, :class:`~layerclock.errors.CampaignError` (another campaign in the folder, or nothing
    could be measured) and :class:`~layerclock.errors.OutputError`.
    """
    begin = monotonic()
    if (
        networks < 1
        or holdout < 0
        or calibration < 0
        or rounds < 2
        or runs < 1
        or limit_s <= 0
        or (budget_s is not None and not budget_s > 0)
    ):
        raise ArgumentError(
            f"networks={networks}, holdout={holdout}, calibration={calibration}, rounds={rounds}, runs={runs}, limit_s={limit_s}, "
            f"budget_s={budget_s} is no campaign",
            "networks >= 1, holdout >= 0, calibration >= 0, rounds >= 2 (they show the noise), runs >= 1, limit_s and budget_s above 0",
        )
    index = SiteIndex.of(space)
    plan = plan or make_plan(index, networks, holdout, seed, calibration)
    store = CampaignFolder(Path(folder))
    with store.lock():
        record = store.start(
            CampaignRecord(
                space=space.name,
                space_digest=index.digest,
                target=device.target,
                profiled=tuple(map(tuple, plan.profiled.tolist())),
                holdout=tuple(map(tuple, plan.holdout.tolist())),
                calibration=tuple(map(tuple, plan.calibration.tolist())),
                runs=runs,
                affinity=affinity,
                command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        if export is None:
            from layerclock.devices.export import Exporter, write_real_inputs

            if calibration_inputs is None and device.target.precision == "int8":
                calibration_inputs = write_real_inputs(space)
            export = Exporter(space, batch=device.options.batch)
        if isinstance(device, PreparesModels):
            export = _prepared(export, device, calibration_inputs)
        if retry_failed:
            store.forget_failures()
        limits = Limits(rounds=rounds, budget_s=budget_s, begin=begin)
        with open_pool(device, limit_s, store.log, affinity) as pool:
            Sitting(pool, export, store, record, index, limits, progress or (lambda _: None)).measure()
            conditions = pool.conditions()
        table = summarise(store, index, conditions)
        table.write(store.table_path)
        if ceilings:
            table = replace(table, ceilings=ceilings())
            table.write(store.table_path)
        return table


def _prepared(
    export: Callable[[npt.ArrayLike], ModelFile], device: PreparesModels, inputs: Path | None
) -> Callable[[npt.ArrayLike], ModelFile]:
    """Exports as the device will load them: made here, so that the process that is measured need not."""

    def export_and_prepare(genome: npt.ArrayLike) -> ModelFile:
        model = export(genome)
        return device.prepare(replace(model, calibration=inputs) if inputs else model)

    return export_and_prepare
