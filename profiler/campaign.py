"""The measuring campaign: export, load, measure in rounds spread over time, and summarise into a latency table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from layerclock.devices.export import Exporter
from layerclock.errors import ArgumentError, DeviceError
from layerclock.profiler.plan import Plan, make_plan
from layerclock.profiler.store import CampaignFolder, CampaignRecord, Measurement
from layerclock.profiler.summary import summarise
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, SearchSpace, Session

__all__ = ["Progress", "profile"]

# Sessions kept in memory at once; a longer plan is measured in waves of this many networks.
_LOADED_AT_ONCE = 120


@dataclass(frozen=True, slots=True)
class Progress:
    """Told to the caller as a campaign goes on; ``left_s`` is an estimate in seconds, or NaN before there is one."""

    stage: str
    done: int
    total: int
    left_s: float


def profile(
    device: Device,
    space: SearchSpace,
    folder: Path | str,
    *,
    networks: int = 40,
    holdout: int = 0,
    rounds: int = 4,
    runs: int = 5,
    seed: int = 0,
    plan: Plan | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LatencyTable:
    """Measure sub-networks of ``space`` on ``device`` and return the latency table, also written to ``folder``.

    ``networks`` are profiled kernel by kernel, ``holdout`` others are only timed end to end, in the same rounds, as the
    truth that predictors are judged by; ``plan`` names the networks instead, to measure the ones that a search found. In
    each of ``rounds`` every network is run ``runs`` times, plainly and with counters. If ``folder`` already holds this
    campaign, it goes on where it stopped; an interrupted campaign leaves all that was measured.

    Raises :class:`ArgumentError`, :class:`~layerclock.errors.CampaignError` (another campaign in the folder) and
    :class:`~layerclock.errors.OutputError`.
    """
    if networks < 1 or holdout < 0 or rounds < 2 or runs < 1:
        raise ArgumentError(
            f"networks={networks}, holdout={holdout}, rounds={rounds}, runs={runs} is no campaign",
            "networks >= 1, holdout >= 0, rounds >= 2 (they show the noise), runs >= 1",
        )
    index = SiteIndex.of(space)
    plan = plan or make_plan(index, networks, holdout, seed)
    store = CampaignFolder(Path(folder))
    with store.lock():
        record = store.start(
            CampaignRecord(
                space=space.name,
                space_digest=index.digest,
                target=device.target,
                profiled=tuple(map(tuple, plan.profiled.tolist())),
                holdout=tuple(map(tuple, plan.holdout.tolist())),
                rounds=rounds,
                runs=runs,
                command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        _Campaign(device, space, store, record, progress or (lambda _: None)).measure()
        table = summarise(store, index)
        table.write(store.table_path)
        return table


class _Campaign:
    def __init__(
        self, device: Device, space: SearchSpace, store: CampaignFolder, record: CampaignRecord, tell: Callable[[Progress], None]
    ) -> None:
        self._device = device
        self._export = Exporter(space, batch=device.target.batch)
        self._store = store
        self._record = record
        self._tell = tell

    def measure(self) -> None:
        """Measure all that is missing, in waves of networks that fit into memory."""
        missing = [
            number
            for number in range(len(self._record.genomes))
            if not all(self._store.has(number, round_number) for round_number in range(self._record.rounds))
        ]
        # Profiled and held-out networks share each wave, so that both see the same minutes of the machine.
        waves = -(-len(missing) // _LOADED_AT_ONCE)
        for wave in range(waves):
            self._measure_wave(missing[wave::waves])

    def _measure_wave(self, numbers: list[int]) -> None:
        sessions: dict[int, Session] = {}
        try:
            clock = _Remaining(len(numbers))
            for done, number in enumerate(numbers):
                self._tell(Progress("export and load", done, len(numbers), clock.left_s(done)))
                session = self._load(number)
                if session is not None:
                    sessions[number] = session
            todo = [
                (round_number, number)
                for round_number in range(self._record.rounds)
                for number in np.random.default_rng(round_number).permutation(sorted(sessions)).tolist()
                if not self._store.has(number, round_number)
            ]
            clock = _Remaining(len(todo))
            for done, (round_number, number) in enumerate(todo):
                self._tell(Progress("measure", done, len(todo), clock.left_s(done)))
                self._store.add(self._measure_network(sessions[number], number, round_number))
            self._tell(Progress("measure", len(todo), len(todo), 0.0))
        finally:
            for session in sessions.values():
                session.close()

    def _load(self, number: int) -> Session | None:
        """The session of one network; one that cannot be loaded is recorded as failed and costs only its own rows."""
        try:
            return self._device.load(self._export(self._record.genomes[number]))
        except DeviceError as error:
            for round_number in range(self._record.rounds):
                if not self._store.has(number, round_number):
                    self._store.add(Measurement(number, round_number, np.array([]), failure=str(error)))
            return None

    def _measure_network(self, session: Session, number: int, round_number: int) -> Measurement:
        try:
            session.run()  # brings the network's weights back into the caches
            end_to_end = np.array([session.run() for _ in range(self._record.runs)], dtype=np.float64)
            profiled = number < len(self._record.profiled)
            kernels = session.kernel_times(self._record.runs) if profiled else None
        except DeviceError as error:
            return Measurement(number, round_number, np.array([]), failure=str(error))
        return Measurement(number, round_number, end_to_end, kernels)


class _Remaining:
    """Estimates the time left from the pace so far."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = monotonic()

    def left_s(self, done: int) -> float:
        return (monotonic() - self._start) / done * (self._total - done) if done else float("nan")
