"""One sitting of a campaign: from where the folder stands to its end, or to the end of the time."""

from __future__ import annotations

import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import CampaignError, DeviceError
from layerclock.profiler.measurement import Measurement, Order
from layerclock.profiler.observations import Observed
from layerclock.profiler.progress import Progress
from layerclock.profiler.worker import WorkerKilledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from layerclock.interfaces import ModelFile
    from layerclock.profiler.pools import NetworkWorker, Pool
    from layerclock.profiler.store import CampaignFolder, CampaignRecord
    from layerclock.space import SiteIndex

__all__ = ["Limits", "Sitting"]

# Of the time limit, repeating runs may take this share: the rest is for a network's slowest moments.
_REPEATING_SHARE = 0.5
# A network is run at most this many times as often as was asked for, where runs are disturbed.
_MOST_REPEATS = 2
# Worker processes at once; a longer plan is measured in waves. They may take this share of the memory at hand, and need
# about this many times what they hold right after loading: profiling loads a network once more.
_LOADED_AT_ONCE = 400
# The last wave has at least so many networks, or half of what is left: a network's times are corrected by its neighbours'.
_FEWEST_IN_LAST_WAVE = 30
_MEMORY_SHARE, _PROFILED_GROWTH, _TIMED_GROWTH = 0.7, 2.0, 1.2
# A network whose worker was killed is tried this often: it may have been another one that ate the memory.
_TRIES = 3
# Of a budget, loading may take this share, or the larger one as long as layers are uncovered.
_LOADING_SHARE, _COVERING_SHARE = 0.45, 0.75
# With a budget: the fewest rounds before a steady table ends the campaign, and a bound that no campaign should meet.
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 1000
_GOLDEN = (5**0.5 - 1) / 2
# If the first so many networks cannot be loaded, the rest cannot, either.
_HOPELESS = 3
# Exports run ahead of the workers that load them by this many networks.
_LOADING_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to measure: ``rounds``, or with ``budget_s`` until that is spent; ``begin`` is when the sitting began."""

    rounds: int
    budget_s: float | None
    begin: float


class Sitting:
    """Measures what is missing in the folder."""

    def __init__(
        self, pool: Pool, export: Callable[[npt.ArrayLike], ModelFile], store: CampaignFolder, record: CampaignRecord,
        index: SiteIndex, limits: Limits, tell: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._pool, self._export, self._store, self._record, self._index = pool, export, store, record, index
        self._limits, self._tell = limits, tell
        self._name = uuid.uuid4().hex[:8]
        done = store.done()
        self._rounds = {number: set(rounds) for number, rounds in done.rounds.items()}
        self._failed = set(done.failed)
        self._failed_now: set[int] = set()
        # Readings at rest that the next part is to keep.
        self._rest_ns: npt.NDArray[np.float64] = np.array([])
        self._end = float("inf") if limits.budget_s is None else limits.begin + limits.budget_s - done.spent_s
        self._seen = Observed(record, index)
        for measurement in store.measurements():
            self._seen.add(measurement)
        self._noise = self._seen.noise()

    def measure(self) -> None:
        """Measure all that is missing, in waves of networks that fit into memory.

        Where there are several waves, each is measured in two sittings, with the others between: the machine is another one after
        some minutes, and no wave shall have its good ones, or its bad ones, alone. The waves of the second sitting have other members:
        networks that were measured minutes apart are beside each other there, which tells their minutes from what they are themselves.
        """
        for share in (0.5, 1.0):
            queue = [number for number in self._record.loading_order() if self._is_missing(number)]
            if share == 1.0:
                queue = _dealt_out(queue)
            elif self._limits.budget_s is None and not any(self._lacks(n, one) for n in queue for one in range(self._rounds_of(share))):
                continue  # it goes on in its second sitting
            several = False
            while queue and monotonic() < self._end:
                workers, queue = self._load_wave(queue)
                several = several or bool(queue)
                part = share if several else 1.0
                left_s = (self._end - monotonic()) * part
                end = self._end if left_s == float("inf") else monotonic() + left_s * len(workers) / max(1, len(workers) + len(queue))
                try:
                    self._measure_wave(workers, end, part)
                finally:
                    for worker in workers.values():
                        worker.close()
            if not several:
                return

    def _is_missing(self, number: int) -> bool:
        if number in self._failed:
            return False
        return self._limits.budget_s is not None or len(self._rounds.get(number, ())) < self._limits.rounds

    def _load_wave(self, queue: Sequence[int]) -> tuple[dict[int, NetworkWorker], list[int]]:
        """Load as many networks as fit into memory and time; returns them, and those that are left for another wave."""
        workers: dict[int, NetworkWorker] = {}
        pending: deque[tuple[int, NetworkWorker]] = deque()
        begin, memory = monotonic(), self._pool.available_memory_bytes()
        left: list[int] = []
        for position, number in enumerate(queue):
            loaded = [*workers, *(waiting for waiting, _ in pending)]
            if len(loaded) >= _LOADED_AT_ONCE or (workers and not self._fits(memory, loaded)):
                left = list(queue[position:])
                break
            if self._loaded_long_enough(begin, loaded):
                break
            self._report("export and load", position, len(queue), (monotonic() - begin) / max(1, position) * (len(queue) - position))
            try:
                pending.append((number, self._start(number)))
            except DeviceError as error:
                self._fail(number, error)
            self._give_up_if_hopeless(workers, [*(waiting for waiting, _ in pending), *queue[position + 1 :]])
            while len(pending) >= _LOADING_AT_ONCE:
                self._settle(*pending.popleft(), workers)
        while pending:
            self._settle(*pending.popleft(), workers)
        if left:
            kept = max(len(queue) - _FEWEST_IN_LAST_WAVE, ceil(len(queue) / 2))
            left = [number for number in queue[min(kept, len(queue) - len(left)) :] if number not in self._failed]
            for number in workers.keys() & left:
                workers.pop(number).close()
        return workers, left

    def _give_up_if_hopeless(self, workers: dict[int, NetworkWorker], ahead: list[int]) -> None:
        """Raise :class:`CampaignError` if none could be loaded so far, and those ``ahead`` have layers of those that failed."""
        failed = sorted(self._failed_now)
        if len(failed) >= _HOPELESS and not workers and not any(network.rounds for network in self._seen.networks.values()):
            layers = self._counts(failed).sum(axis=0) > 0
            if ahead and not (self._counts(ahead) @ layers > 0).all():
                return
            hint = "mend that, then run the same command with --retry-failed"
            raise CampaignError(f"the first {len(failed)} networks all failed: {self._seen.networks[failed[0]].failure}", hint)

    def _counts(self, numbers: list[int]) -> npt.NDArray[np.int64]:
        return self._index.counts(np.array([self._record.genomes[number] for number in numbers]))

    def _loaded_long_enough(self, begin: float, numbers: list[int]) -> bool:
        if self._limits.budget_s is None or not numbers:
            return False
        profiled = [self._record.genomes[number] for number in numbers if number < len(self._record.profiled)]
        covered = bool(profiled) and bool((self._index.counts(np.array(profiled)).sum(axis=0) > 0).all())
        share = _LOADING_SHARE if covered else _COVERING_SHARE
        return monotonic() - begin > share * (self._end - begin)

    def _start(self, number: int) -> NetworkWorker:
        """A worker that has begun to load the network."""
        model = self._export(np.array(self._record.genomes[number]))
        worker = self._pool.start()
        worker.load(model)
        return worker

    def _settle(self, number: int, worker: NetworkWorker | None, workers: dict[int, NetworkWorker]) -> None:
        """Wait until the network is loaded, by a fresh worker if none is given.

        One that cannot be loaded is recorded as failed and costs only its own rows.
        """
        for left in reversed(range(_TRIES)):
            try:
                worker = worker or self._start(number)
                worker.wait()
                workers[number] = worker
                return
            except WorkerKilledError as error:
                if not left:
                    self._fail(number, error)
            except DeviceError as error:
                if worker:
                    worker.close()
                self._fail(number, error)
                return
            worker = None

    def _measure_wave(self, workers: dict[int, NetworkWorker], end: float, part: float) -> None:
        rounds = self._rounds_of(part) if self._limits.budget_s is None else _MOST_ROUNDS
        fixed = sum(self._lacks(number, one) for number in workers for one in range(rounds)) if self._limits.budget_s is None else 0
        done, begin = 0, monotonic()
        self._watch_rest(workers)
        for round_number in range(rounds):
            if self._limits.budget_s is not None and round_number >= _FEWEST_ROUNDS and self._seen.steady():
                break
            todo = [number for number in sorted(workers) if number not in self._failed and self._lacks(number, round_number)]
            total = fixed or done + len(todo)
            shuffled: list[int] = np.random.default_rng(round_number).permutation(todo).astype(int).tolist()
            announced = 0
            for position, number in enumerate(shuffled):
                now = monotonic()
                if now <= end:
                    announced = self._announce(workers, shuffled, max(announced, position), position + 2)
                elif position >= announced:
                    return
                pace_s = (now - begin) / done if done else float("nan")
                self._report("measure", done, total, min(pace_s * (total - done), end - now) if fixed else end - now)
                self._measure_network(workers, number, round_number)
                done += 1
            if todo:
                self._noise = self._seen.noise()
        self._report("measure", done, done, 0.0)

    def _announce(self, workers: dict[int, NetworkWorker], shuffled: list[int], begin: int, stop: int) -> int:
        """Announce what is measured next, from position ``begin`` on; returns the first position that was not taken notice of."""
        for position, number in enumerate(shuffled[begin:stop], begin):
            if not workers[number].announce(self._order(number)):
                return position
        return min(stop, len(shuffled))

    def _watch_rest(self, workers: dict[int, NetworkWorker]) -> None:
        """Learn the reference workload's time at rest before the first run that is judged by it."""
        for worker in workers.values():
            with suppress(DeviceError):  # one that died meanwhile shows when it is to measure
                self._rest_ns = worker.rest_readings()
                self._seen.rest(self._rest_ns)
                return

    def _rounds_of(self, share: float) -> int:
        return ceil(self._limits.rounds * share)

    def _lacks(self, number: int, round_number: int) -> bool:
        return round_number not in self._rounds.get(number, ())

    def _order(self, number: int) -> Order:
        return Order(
            runs=self._record.runs,
            most_runs=_MOST_REPEATS * self._record.runs,
            enough_s=self._pool.limit_s * _REPEATING_SHARE,
            reference_ns=self._seen.at_rest_ns,
            profiled=number < len(self._record.profiled),
        )

    def _measure_network(self, workers: dict[int, NetworkWorker], number: int, round_number: int) -> None:
        for left in reversed(range(_TRIES)):
            try:
                measurement = workers[number].measure(self._order(number))
            except WorkerKilledError as error:
                if left:
                    self._settle(number, None, workers)
                    if number in self._failed:
                        return
                    continue
                self._fail(number, error)
            except DeviceError as error:
                workers[number].close()
                self._fail(number, error)
            else:
                self._keep_or_fail(replace(measurement, network=number, round=round_number))
            return

    def _keep_or_fail(self, measurement: Measurement) -> None:
        """Keep what agrees with earlier rounds; a network whose kernels changed has no one time, and costs its own rows."""
        try:
            self._keep(measurement)
        except CampaignError as error:
            self._fail(measurement.network, DeviceError(error.message, error.hint))

    def _fail(self, number: int, error: DeviceError) -> None:
        """Record why the network cannot be measured; it is not tried again."""
        self._failed.add(number)
        self._failed_now.add(number)
        first = next(number_ for number_ in range(_MOST_ROUNDS) if self._lacks(number, number_))
        self._keep(Measurement.failed(number, first, str(error)))

    def _keep(self, measurement: Measurement) -> None:
        self._seen.add(measurement)  # first, for it refuses what does not fit
        kept = replace(measurement, rest_ns=self._rest_ns)
        self._rest_ns = np.array([])
        self._store.add(kept, self._name, monotonic() - self._limits.begin)
        self._rounds.setdefault(measurement.network, set()).add(measurement.round)

    def _report(self, stage: str, done: int, total: int, left_s: float) -> None:
        self._tell(Progress(stage, done, total, left_s, self._seen.covered, len(self._index.vocabulary), self._noise))

    def _fits(self, at_begin: int | None, loaded: Sequence[int]) -> bool:
        """Whether one more worker fits: those that are loaded will grow, and something is left to the rest of the machine."""
        now = self._pool.available_memory_bytes()
        profiled = sum(number < len(self._record.profiled) for number in loaded) / len(loaded)
        growth = _PROFILED_GROWTH * profiled + _TIMED_GROWTH * (1 - profiled)
        return at_begin is None or now is None or (at_begin - now) * growth < _MEMORY_SHARE * at_begin


def _dealt_out(queue: list[int]) -> list[int]:
    """In another order, in which any stretch of the old one is spread evenly over the whole (the multiples of the golden ratio)."""
    place = np.arange(len(queue)) * _GOLDEN % 1.0
    return [queue[position] for position in np.argsort(place)]
