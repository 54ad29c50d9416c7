"""The desk's connection to a fleet: it finds members, gives them work, and waits out what breaks, within a limit."""

from __future__ import annotations

import uuid
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Self

import dask.config
from distributed import Client, Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from layerclock.errors import FleetError
from layerclock.profiler.fleet.quiet import quiet_dask
from layerclock.profiler.fleet.safety import Certificates, safe_security

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Cluster", "Member", "MemberLostError"]

# How often a waiting desk looks for a member, and whether the one that works for it is still there.
_LOOK_S, _LOOK_WHILE_BUSY_S = 0.5, 2.0
_CONNECT_S = 5
_BROKEN_BY_DASK = (CancelledError, CommClosedError, KilledWorker)
_BROKEN = (*_BROKEN_BY_DASK, OSError, RuntimeError)


class MemberLostError(Exception):
    """What was asked of a member will not be answered: it died, or the way to it broke."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as the scheduler knows it; a member that comes back has another address."""

    name: str
    address: str
    resources: tuple[tuple[str, float], ...]

    def holds(self, resource: str) -> float:
        """How much of a resource it holds."""
        return dict(self.resources).get(resource, 0.0)


class Cluster:
    """A fleet as the desk sees it; a context. ``wait_s``: how long a scheduler or a member is waited for; ``tell`` hears what happens.

    It may be used from several threads. Raises :class:`FleetError` if the connection would not be safe or there is no scheduler in time.
    """

    def __init__(
        self, address: str, certificates: Certificates | None = None, wait_s: float = 300.0, tell: Callable[[str], None] | None = None
    ) -> None:
        self.address = address
        self.wait_s = wait_s
        self.tell = tell or (lambda _: None)
        self._security = safe_security(address, certificates or Certificates())
        self._client: Client | None = None
        self._lock = RLock()

    def __enter__(self) -> Self:
        quiet_dask()
        self._connected()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._drop()

    def members(self, resource: str | None = None) -> list[Member]:
        """The members that hold ``resource``, or all, by name, as of now."""
        with self._lock:
            while True:
                client = self._connected()
                try:
                    workers = client.scheduler_info(n_workers=-1)["workers"]
                except _BROKEN:
                    self._drop()
                    continue
                found = [Member(str(known["name"]), address, tuple(known["resources"].items())) for address, known in workers.items()]
                return sorted((one for one in found if resource is None or one.holds(resource)), key=lambda one: one.name)

    def wait_for(self, resource: str, fits: Callable[[list[Member]], Any]) -> Any:
        """What ``fits`` makes of the holders of ``resource``, as soon as it is anything.

        Raises :class:`FleetError` if that is not within ``wait_s`` seconds.
        """
        end, told = monotonic() + self.wait_s, False
        while True:
            found = fits(self.members(resource))
            if found:
                return found
            if monotonic() > end:
                raise FleetError(
                    f"no member of {self.address} that can be used held {resource!r} within {self.wait_s:g} s",
                    "start one with `layerclock fleet worker`; what was measured is kept, and the same command goes on",
                )
            if not told:
                told = True
                self.tell(f"waiting up to {self.wait_s:g} s for a member that holds {resource}")
            sleep(_LOOK_S)

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...], resource: str, member: Member | None = None) -> Future[Any]:
        """Have ``function`` called where ``resource`` is held and free, on ``member`` if one is given.

        Raises :class:`MemberLostError` if the way there is broken.
        """
        with self._lock:
            client = self._connected()
            # A model travels in the task that loads it: Dask would advise against large tasks.
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                try:
                    return client.submit(
                        function, *arguments, key=f"layerclock-{function.__name__}-{uuid.uuid4().hex}", pure=False, resources={resource: 1},
                        workers=[member.address] if member else None, allow_other_workers=False,
                    )  # fmt: skip
                except _BROKEN as error:
                    raise MemberLostError(str(error)) from error

    def result(self, future: Future[Any], resource: str, member: Member | None, patience_s: float) -> Any:
        """What the function returned.

        Raises :class:`MemberLostError` if the member is gone, the way broke, or patience ended, and :class:`FleetError` if the function
        itself raised anything, which would come again.
        """
        begin = monotonic()
        while True:
            try:
                return future.result(timeout=_LOOK_WHILE_BUSY_S)
            except Exception as error:
                if future.status == "error" and not isinstance(error, _BROKEN_BY_DASK):
                    raise FleetError(
                        f"{member.name if member else 'a worker'} met an error of its own: {type(error).__name__}: {error}",
                        "mend that there; what was measured is kept, and the same command goes on",
                    ) from error
                if not isinstance(error, (TimeoutError, *_BROKEN)):
                    raise
                if not isinstance(error, TimeoutError):
                    raise MemberLostError(f"the connection broke ({type(error).__name__})") from error
                holders = self.members(resource)
                if member not in holders if member else not holders:
                    raise MemberLostError(f"{member.name} is gone" if member else "no member is left") from None
                if monotonic() - begin > patience_s:
                    with suppress(*_BROKEN):
                        future.cancel()
                    raise MemberLostError(f"no answer within {patience_s:g} s") from None

    def _connected(self) -> Client:
        """The client, connected anew if need be. Raises :class:`FleetError` after ``wait_s`` seconds without a scheduler."""
        with self._lock:
            if self._client is not None and self._client.status == "running":
                return self._client
            self._drop()
            end, told = monotonic() + self.wait_s, False
            while True:
                try:
                    self._client = Client(
                        self.address, security=self._security, timeout=_CONNECT_S, set_as_default=False, name="layerclock"
                    )
                    return self._client
                except (OSError, RuntimeError, TimeoutError) as error:
                    if monotonic() > end:
                        raise FleetError(
                            f"no scheduler answers at {self.address} within {self.wait_s:g} s ({error})",
                            "start it with `layerclock fleet scheduler`; what was measured is kept, and the same command goes on",
                        ) from error
                    if not told:
                        told = True
                        self.tell(f"no scheduler answers at {self.address}; waiting up to {self.wait_s:g} s")
                    sleep(_LOOK_S)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*_BROKEN):
                client.close(timeout=1)
