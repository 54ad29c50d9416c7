"""The lives of a fleet's members: Dask's scheduler, and Dask workers that hold devices."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import dask.config
from distributed import Scheduler, Worker

from layerclock.errors import FleetError
from layerclock.profiler.fleet.board import close_idle
from layerclock.profiler.fleet.quiet import CALM, quiet_dask
from layerclock.profiler.fleet.safety import Certificates, safe_security

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["EVALUATIONS", "device_resource", "run_scheduler", "run_worker"]

# The resource of workers that take accuracy evaluations, each as often as it has threads.
EVALUATIONS = "evaluations"
# A worker whose scheduler is away looks for it this often.
_PAUSE_S = 1.0
_TIDY_S = 30.0


def device_resource(device: str) -> str:
    """The resource that a board holds once for each of its devices."""
    return f"device:{device}"


def run_scheduler(listen: str, certificates: Certificates, tell: Callable[[str], None]) -> None:
    """Be the scheduler on ``listen`` until interrupted. Raises :class:`FleetError` if that is not safe or not possible."""
    security = safe_security(listen, certificates)
    parts = urlsplit(listen)

    async def live() -> None:
        try:
            scheduler = await Scheduler(
                host=parts.hostname, port=parts.port or 0, protocol=parts.scheme, security=security, dashboard=False,
                dashboard_address="127.0.0.1:0",
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            raise FleetError(f"cannot listen on {listen}: {error}", "choose another port, or end what listens there") from error
        tell(f"scheduler at {scheduler.address}")
        await scheduler.finished()

    _live(live())


def run_worker(
    scheduler: str,
    devices: Sequence[str],
    name: str | None,
    certificates: Certificates,
    tell: Callable[[str], None],
    evaluations: int = 1,
) -> None:
    """Be a Dask worker until interrupted; without ``devices`` one that takes ``evaluations`` at the same time.

    With devices it has one thread, and holds the resource ``device:NAME`` of each once. It outlives its scheduler: when that is
    gone, it looks for it until it is back. Raises :class:`FleetError` if the connection would not be safe.
    """
    security = safe_security(scheduler, certificates)
    host = urlsplit(scheduler).hostname or ""
    resources = dict.fromkeys(map(device_resource, devices), 1.0) if devices else {EVALUATIONS: float(evaluations)}
    threads = 1 if devices else evaluations
    # Boards are asked for by name; of workers for evaluations a machine may have several.
    name = name or f"{socket.gethostname()}-{'-'.join(devices) or f'{EVALUATIONS}-{os.getpid()}'}"

    async def tidy() -> None:
        while True:
            await asyncio.sleep(_TIDY_S)
            await asyncio.to_thread(close_idle)

    async def live() -> None:
        tidying = asyncio.create_task(tidy())
        away = False
        try:
            while True:
                try:
                    # Bound to the interface that leads to the scheduler: on loopback no other machine reaches it.
                    worker = await Worker(
                        scheduler, nthreads=threads, name=name, resources=resources, security=security, memory_limit=0,
                        protocol=urlsplit(scheduler).scheme, host=_own_address(scheduler), dashboard=False,
                        dashboard_address="127.0.0.1:0", death_timeout=10,
                    )  # fmt: skip
                except (OSError, RuntimeError, ValueError, TimeoutError) as error:
                    if not away:
                        tell(f"cannot join {scheduler} yet ({_reason(error)}); trying every {_PAUSE_S:g} s")
                    away = True
                    await asyncio.sleep(_PAUSE_S)
                    continue
                away = False
                tell(f"worker {name} at {worker.address}: {', '.join(resources)}")
                await worker.finished()
                tell(f"the scheduler at {host} is gone; looking for it")
        finally:
            tidying.cancel()

    _live(live())


def _own_address(scheduler: str) -> str | None:
    """The address of this machine's interface towards the scheduler; None where there is no way yet."""
    parts = urlsplit(scheduler)
    with suppress(OSError):
        family, kind, _, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # a datagram socket sends nothing by that
            return str(probe.getsockname()[0])
    return None


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def _live(life: object) -> None:
    quiet_dask()
    with dask.config.set({"distributed.comm.timeouts.connect": "10s", **CALM}):
        asyncio.run(life)  # type: ignore[arg-type]
