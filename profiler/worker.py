"""Worker processes, one a network: load it and measure it under a time limit, and tell how it failed if it did."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from layerclock.devices.cache import SCRATCH
from layerclock.devices.machine import available_memory_bytes, conditions
from layerclock.errors import CampaignError, DeviceError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from layerclock.interfaces import Device, ModelFile
    from layerclock.profiler.measurement import Measurement, Order

__all__ = ["Worker", "WorkerKilledError", "WorkerPool"]


class WorkerKilledError(DeviceError):
    """The system or a person killed the worker: it may be worth another try."""


class WorkerPool:
    """Makes workers for one device. Use it as a context: at its end all workers are gone.

    ``limit_s``: seconds after which a worker that does not answer is taken to hang; ``log``: where the runtime's own words
    go; ``affinity``: processors that the workers are bound to. Raises :class:`CampaignError` if its process ends, and
    :class:`OutputError` where nothing can be written.
    """

    def __init__(self, device: Device, limit_s: float, log: Path, affinity: tuple[int, ...] = ()) -> None:
        self.device = device
        self.limit_s = limit_s
        self.log = log
        self._affinity = affinity
        self._workers: set[Worker] = set()
        self._requests = 0
        self._unread = b""

    def __enter__(self) -> Self:
        try:
            log = self.log.open("ab")
            # Workers are killed at any moment: what they leave there goes with the pool.
            self._scratch = tempfile.TemporaryDirectory(prefix="layerclock-", ignore_cleanup_errors=True)
        except OSError as error:
            place = error.filename or self.log
            raise OutputError(f"cannot write {place}: {error.strerror}", "free space there, or choose another folder") from error
        self._control, theirs = socket.socketpair()
        # numpy's own threads would be lost in a fork; the runtimes have thread pools of their own.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1", SCRATCH: self._scratch.name,
        }  # fmt: skip
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "layerclock.profiler.zygote", str(theirs.fileno()), self.device.target.device],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,  # an interrupt from the terminal is the campaign's to handle
            )  # fmt: skip
        theirs.close()
        try:
            self._line()
            if self._affinity:
                os.sched_setaffinity(self._process.pid, self._affinity)
                if absent := sorted({*self._affinity} - os.sched_getaffinity(self._process.pid)):  # the system leaves these out
                    raise ValueError(f"{absent} may not be used, or are not there")
        except (OSError, ValueError) as error:
            self.__exit__()
            raise CampaignError(f"cannot bind to the processors {self._affinity}: {error}", "`nproc` says how many there are") from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            with suppress(CampaignError):  # without the zygote its workers are gone, too
                worker.close()
        self._control.close()
        self._process.wait()
        self._scratch.cleanup()

    def start(self) -> Worker:
        """A fresh worker, in which nothing is loaded yet. Raises :class:`DeviceError` if the system allows no more processes."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._ask("fork", theirs.fileno())
        if process < 0:
            ours.close()
            raise DeviceError("the system allows no further process", "raise `ulimit -u`, or measure fewer --networks at once")
        worker = Worker(self, Connection(ours.detach()), process)
        self._workers.add(worker)
        return worker

    def available_memory_bytes(self) -> int | None:
        """Memory at hand for further workers; None where nobody tells."""
        return available_memory_bytes()

    def conditions(self) -> dict[str, str]:
        """Facts about this machine that may change from one day to the next."""
        return conditions()

    def ended(self, worker: Worker) -> int:
        """Wait for a worker that is going; returns its exit code, minus the number of the signal that ended it."""
        self._workers.discard(worker)
        return self._ask(f"wait {worker.process}")

    def _ask(self, request: str, descriptor: int | None = None) -> int:
        self._requests += 1
        text = f"{self._requests} {request}".encode()
        try:
            socket.send_fds(self._control, [text], [] if descriptor is None else [descriptor])
            while True:
                number, answer = self._line().split()
                if int(number) == self._requests:  # an earlier one was asked by somebody who was interrupted
                    return int(answer)
        except OSError as error:
            raise self._gone() from error

    def _line(self) -> str:
        while b"\n" not in self._unread:
            part = self._control.recv(256)
            if not part:
                raise self._gone()
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def _gone(self) -> CampaignError:
        return CampaignError("the process that measures has ended", f"run the same command again; its last words are in {self.log}")


class Worker:
    """One process and, once loaded, one network in it. All failures are :class:`~layerclock.errors.DeviceError`."""

    def __init__(self, pool: WorkerPool, line: Connection, process: int) -> None:
        self._pool = pool
        self._line = line
        self._doing = "starting"
        self._over: DeviceError | None = None
        self.process = process

    def load(self, model: ModelFile) -> None:
        """Begin to load ``model``; :meth:`wait` tells how it went, so that the caller may do other things meanwhile."""
        device = self._pool.device
        self._send("loading", ("load", device.target.device, device.options, device.target, model))

    def announce(self, order: Order) -> bool:  # noqa: ARG002 - the protocol's signature
        """False: on this machine nothing is to be done while another network is measured."""
        return False

    def measure(self, order: Order) -> Measurement:
        """Time the loaded network."""
        self._send("running", ("measure", order))
        measurement: Measurement = self.wait()
        return measurement

    def rest_readings(self) -> npt.NDArray[np.float64]:
        """The reference workload's times in ns over a second; the network stays as it is."""
        self._send("waiting", ("rest",))
        readings: npt.NDArray[np.float64] = self.wait()
        return readings

    def wait(self) -> Any:
        """The answer to what was asked last. Raises :class:`DeviceError`, and the worker is gone unless it answered.

        Raises :class:`OutputError` where the runtime has no room for its files.
        """
        if self._over:
            raise self._over
        try:
            if not self._line.poll(self._pool.limit_s):
                hint = "allow more with --limit and --retry-failed, if it is no hang"
                self._end(DeviceError(f"{self._doing} it did not end within {self._pool.limit_s:g} s", hint))
                raise self._over or DeviceError("the worker has ended")
            fine, answer = self._line.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if fine is None:
            raise OutputError(*answer)
        if not fine:
            raise DeviceError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._end(DeviceError("the worker was closed", "load the network again"))

    def _end(self, reason: DeviceError) -> None:
        if not self._over:
            self._over = reason
            self._line.close()
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            self._pool.ended(self)

    def _send(self, doing: str, request: tuple[Any, ...]) -> None:
        if self._over:
            raise self._over
        self._doing = doing
        try:
            self._line.send(request)
        except OSError as error:
            raise self._death() from error

    def _death(self) -> DeviceError:
        """Why the worker ended by itself."""
        self._line.close()
        code = self._pool.ended(self)
        if code == -signal.SIGKILL:
            self._over = WorkerKilledError(f"{self._doing} it was killed (SIGKILL)", "most likely memory ran out: measure fewer --networks")
        else:
            how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._over = DeviceError(f"{self._doing} it the runtime {how}", f"its last words are in {self._pool.log}")
        return self._over
