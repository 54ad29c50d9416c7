"""How one network is timed in one round: warm-up until steady, and runs watched for disturbances and repeated if disturbed.

Before and after each run a *reference workload* is timed, a few small matrix products on the same processor. On a machine
that others share, times jump between a fast mode and slower ones (the other thread of the core is busy, the clock rate
sank): the reference tells in which mode a run was. A run begins when the reference is as fast as at rest, if that happens
within some patience. Runs between slow references, or in which the process was made to wait, are *disturbed*: they are
kept, marked by what was seen, and repeated.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from itertools import count
from statistics import median
from time import perf_counter_ns, sleep, time
from typing import TYPE_CHECKING

import numpy as np

from layerclock.devices.machine import Disturbance, peak_resident_bytes
from layerclock.profiler.measurement import Measurement, Order, Watched
from layerclock.timing import DISTURBED_ABOVE, disturbance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.devices.energy import EnergyMeter
    from layerclock.interfaces import KernelTimes, Session

__all__ = ["PACING", "Reference", "measure", "rest_readings"]

# Large enough to keep the vector units busy, small enough to leave the network's data in the second-level cache.
_REFERENCE_SIZE = 64
# The first products after a run find cold caches; the rest is the reading.
_REFERENCE_COLD, _REFERENCE_TIMED = 2, 6

# Warm-up ends when the median of so many runs is no longer below that of as many before them by more than the tolerance: a
# network's weights settle in the last cache over tens of runs, each a little faster than the one before.
_STEADY_RUNS, _STEADY_TOLERANCE = 8, 0.01
_SHORTEST_WARM_UP, _LONGEST_WARM_UP = 3, 64
_WARM_UP_NS = 1_000_000_000

# For a quiet moment the runs of one kind wait, together, this many times their own length, within bounds.
_PATIENCE, _PATIENCE_NS = 0.5, (30_000_000, 100_000_000)
_PAUSE_S = 0.0005
# The same in words, for the table.
PACING = f"runs wait for a quiet moment up to {_PATIENCE:g} times their own length, at least {_PATIENCE_NS[0] / 1e6:g} ms a round"
# Counted runs are repeated less often than plain ones: a kernel is short enough to fall between disturbances.
_COUNTED_REPEATS = 2
# What counts has, in most runtimes, weights of its own, that are cold: as long a warm-up is left out, and no longer than this.
_MOST_COLD = 24
# Energy is that of runs back to back for this long: counters tick once a millisecond.
_ENERGY_NS = 300_000_000
# How long the machine is watched before a campaign to learn the reference workload's time at rest.
_REST_S = 1.0


class Reference:
    """The reference workload, and the marks that it sets around runs; not ``active``, it sees nothing."""

    def __init__(self, active: bool = True) -> None:
        self.active = active
        self._at_rest_ns = float("nan")
        self._patience_ns = 0.0
        self._factor = np.random.default_rng(0).standard_normal((_REFERENCE_SIZE, _REFERENCE_SIZE), dtype=np.float32)
        self._product = np.empty_like(self._factor)
        # After the run before (reading, switches so far), and before the next one.
        self._marks: list[tuple[float, int, float, int]] = []
        self.time_ns()

    def time_ns(self) -> float:
        """Mean time of one product in ns."""
        for _ in range(_REFERENCE_COLD):
            np.matmul(self._factor, self._factor, out=self._product)
        start = perf_counter_ns()
        for _ in range(_REFERENCE_TIMED):
            np.matmul(self._factor, self._factor, out=self._product)
        return (perf_counter_ns() - start) / _REFERENCE_TIMED

    def be_patient(self, at_rest_ns: float, patience_ns: float) -> None:
        """From now on, wait for a reading near ``at_rest_ns`` (NaN: unknown) before runs, ``patience_ns`` in all."""
        self._at_rest_ns, self._patience_ns = at_rest_ns, patience_ns

    def mark(self) -> None:
        """Look at the machine between two runs, and wait for a quiet moment while patience lasts."""
        if not self.active:
            self._marks.append((float("nan"), 0, float("nan"), 0))
            return
        switches = _switches()
        after = before = self.time_ns()
        start = perf_counter_ns()
        while before > self._at_rest_ns * (1 + DISTURBED_ABOVE) and perf_counter_ns() - start < self._patience_ns:
            sleep(_PAUSE_S)
            before = self.time_ns()
        self._patience_ns -= perf_counter_ns() - start
        self._marks.append((after, switches, before, _switches()))

    def watched(self) -> Watched:
        """What was seen around the runs between the marks since the last call: one run fewer than marks."""
        seen = np.array(self._marks, dtype=np.float64).reshape(-1, 4)
        self._marks.clear()
        return Watched(seen[:-1, 2], seen[1:, 0], (seen[1:, 1] - seen[:-1, 3]).astype(np.int64))


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def rest_readings(reference: Reference) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Readings of the reference workload over a second, in ns, whose low quantile is its time at rest; NaN if inactive."""
    if not reference.active:
        return np.array([float("nan")])
    start = perf_counter_ns()
    readings = []
    while perf_counter_ns() - start < _REST_S * 1e9:
        readings.append(reference.time_ns())
        sleep(_PAUSE_S)
    return np.array(readings)


def measure(session: Session, order: Order, reference: Reference, energy: EnergyMeter | None) -> Measurement:
    """Time ``session`` as ``order`` says; network and round are left at -1 for the caller to fill in.

    ``facts``: begun_s (when, in seconds since 1970), measured_s (how long all this took), energy_j (of one run),
    peak_resident_bytes (of the process, before it counts kernels), steal_s, throttled_s, frequency_mhz, temperature_c; each only where
    it is known.
    Raises :class:`~layerclock.errors.DeviceError`.
    """
    begun_s, begin, before = time(), perf_counter_ns(), Disturbance.now()
    warm_up = _warm_up(session)
    run_ns = float(warm_up.min())
    patience_ns = min(max(_PATIENCE * order.runs * run_ns, _PATIENCE_NS[0]), _PATIENCE_NS[1])
    reference.be_patient(order.reference_ns, patience_ns)
    half_ns = order.enough_s / 2 * 1e9 if order.profiled else order.enough_s * 1e9
    end_to_end, watched = _end_to_end(session, order, reference, begin + half_ns)
    facts: dict[str, float] = {"begun_s": begun_s}
    peak = peak_resident_bytes()
    if peak is not None:
        facts["peak_resident_bytes"] = float(peak)
    if energy:
        facts |= _energy_of_run(session, energy)
    kernels = kernels_watched = None
    if order.profiled:
        reference.be_patient(order.reference_ns, patience_ns)
        kernels, kernels_watched = _kernels(session, order, reference, run_ns, min(len(warm_up), _MOST_COLD))
    facts |= Disturbance.now().since(before)
    facts["measured_s"] = (perf_counter_ns() - begin) / 1e9
    return Measurement(-1, -1, np.array(end_to_end, dtype=np.float64), watched, kernels, kernels_watched, warm_up, facts=facts)


def _warm_up(session: Session) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Run until the times no longer fall; returns them in ns."""
    times, start = [session.run() for _ in range(_SHORTEST_WARM_UP)], perf_counter_ns()
    while len(times) < _LONGEST_WARM_UP and perf_counter_ns() - start < _WARM_UP_NS and not _no_longer_falling(times):
        times.append(session.run())
    return np.array(times, dtype=np.float64)


def _no_longer_falling(times: Sequence[int]) -> bool:
    if len(times) < 2 * _STEADY_RUNS:
        return False
    before, last = times[-2 * _STEADY_RUNS : -_STEADY_RUNS], times[-_STEADY_RUNS:]
    return median(last) > median(before) * (1 - _STEADY_TOLERANCE)


def _energy_of_run(session: Session, energy: EnergyMeter) -> dict[str, float]:
    """Joules of one run among many back to back, with all that the processor or GPU used meanwhile; empty if none was counted."""
    joules, start, runs = energy.read_joules(), perf_counter_ns(), 0
    while perf_counter_ns() - start < _ENERGY_NS:
        session.run()
        runs += 1
    used = energy.read_joules() - joules
    return {"energy_j": used / runs} if used > 0 else {}


def _undisturbed(watched: Watched, order: Order) -> int:
    reference_ns = order.reference_ns if np.isfinite(order.reference_ns) else float(watched.reference_ns.min())
    return int((disturbance(watched.reference_ns, watched.switches, reference_ns) <= DISTURBED_ABOVE).sum())


def _end_to_end(session: Session, order: Order, reference: Reference, end_ns: float) -> tuple[list[int], Watched]:
    times: list[int] = []
    parts: list[Watched] = []
    while True:
        for _ in range(order.runs):
            reference.mark()
            times.append(session.run())
            if perf_counter_ns() > end_ns:
                break
        reference.mark()
        parts.append(reference.watched())
        done = len(times) >= order.most_runs or perf_counter_ns() > end_ns
        if done or _undisturbed(Watched.join(parts), order) >= order.runs:
            return times, Watched.join(parts)


def _kernels(session: Session, order: Order, reference: Reference, run_ns: float, cold: int) -> tuple[KernelTimes, Watched]:
    """Counted runs; the first ``cold`` of those that are asked for at once are left out."""
    affordable = int(order.enough_s / 2 * 1e9 / max(run_ns, 1.0))
    cold = min(cold, affordable)
    most = max(1, min(order.most_runs, _COUNTED_REPEATS * order.runs, affordable))
    samples, parts = [], []
    done, now = 0, min(order.runs, most)
    while True:
        times = session.kernel_times(cold + now, _from_call(cold, reference.mark))
        watched = reference.watched()
        if len(watched) != now:  # an adapter that does not mark: all that is known is that nothing was seen
            watched = Watched.unseen(now)
        samples.append(times.samples_ns[cold:])
        parts.append(watched)
        done += now
        if done >= most or _undisturbed(Watched.join(parts), order) >= order.runs:
            return replace(times, samples_ns=np.concatenate(samples)), Watched.join(parts)
        now = most - done  # asking for counted runs has a cost of its own: ask for all the rest at once


def _from_call(number: int, mark: Callable[[], None]) -> Callable[[], None]:
    """``mark``, but not in the first ``number`` calls."""
    calls = count()
    return lambda: mark() if next(calls) >= number else None
