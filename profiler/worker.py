"""Worker processes, one a network: load it and measure it under a time limit, and tell how it failed if it did."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from layerclock.errors import CampaignError, DeviceError

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
    go; ``affinity``: processors that the workers are bound to.
    """

    def __init__(self, device: Device, limit_s: float, log: Path, affinity: tuple[int, ...] = ()) -> None:
        self.device = device
        self.limit_s = limit_s
        self.log = log
        self._affinity = affinity
        self._workers: set[Worker] = set()

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        # numpy's own threads would be lost in a fork; the runtimes have thread pools of their own.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "layerclock.profiler.zygote", str(theirs.fileno()), self.device.target.device],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,  # an interrupt from the terminal is the campaign's to handle
            )  # fmt: skip
        theirs.close()
        self._control = ours
        if self._control.recv(1) != b"!":
            raise CampaignError("the process that measures did not start", f"read {self.log}")
        if self._affinity:
            try:
                os.sched_setaffinity(self._process.pid, self._affinity)
            except (OSError, ValueError) as error:
                self.__exit__()
                raise CampaignError(f"cannot bind to the processors {self._affinity}: {error}", "see `nproc`, or leave it out") from error
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            worker.close()
        self._control.close()
        self._process.wait()

    def start(self) -> Worker:
        """A fresh worker, in which nothing is loaded yet."""
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            process = int(self._answer())
        finally:
            theirs.close()
        worker = Worker(self, Connection(ours.detach()), process)
        self._workers.add(worker)
        return worker

    def ended(self, worker: Worker) -> int:
        """Wait for a worker that is going; returns its exit code, minus the number of the signal that ended it."""
        self._workers.discard(worker)
        self._control.sendall(str(worker.process).encode())
        return int(self._answer())

    def _answer(self) -> bytes:
        answer = b""
        while not answer.endswith(b"\n"):
            part = self._control.recv(64)
            if not part:
                raise CampaignError("the process that measures has ended", f"run the same command again; its last words are in {self.log}")
            answer += part
        return answer


class Worker:
    """One process and, once loaded, one network in it. All failures are :class:`~layerclock.errors.DeviceError`."""

    def __init__(self, pool: WorkerPool, line: Connection, process: int) -> None:
        self._pool = pool
        self._line = line
        self._alive = True
        self._doing = "starting"
        self.process = process

    def load(self, model: ModelFile) -> None:
        """Begin to load ``model``; :meth:`wait` tells how it went, so that the caller may do other things meanwhile."""
        device = self._pool.device
        self._send("loading", ("load", device.target.device, device.options, device.target, model))

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
        """The answer to what was asked last. Raises :class:`DeviceError`, and the worker is gone unless it answered."""
        try:
            if not self._line.poll(self._pool.limit_s):
                self.close()
                raise DeviceError(f"{self._doing} it did not end within {self._pool.limit_s:g} s", "a hang; or allow more with --limit")
            fine, answer = self._line.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if not fine:
            raise DeviceError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._alive:
            self._alive = False
            self._line.close()
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            self._pool.ended(self)

    def _send(self, doing: str, request: tuple[Any, ...]) -> None:
        self._doing = doing
        try:
            self._line.send(request)
        except OSError as error:
            raise self._death() from error

    def _death(self) -> DeviceError:
        self._alive = False
        self._line.close()
        code = self._pool.ended(self)
        if code == -signal.SIGKILL:
            return WorkerKilledError(f"{self._doing} it was killed (SIGKILL)", "most likely memory ran out")
        how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return DeviceError(f"{self._doing} it the runtime {how}", f"its last words are in {self._pool.log}")
