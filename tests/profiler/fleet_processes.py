"""A fleet of real processes on loopback, started as a user starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layerclock.profiler.fleet.cluster import Cluster
from layerclock.profiler.fleet.safety import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LAYERCLOCK", "Fleet", "running_fleet"]

LAYERCLOCK = str(Path(sys.executable).parent / "layerclock")


@dataclass
class Fleet:
    """Processes of one scheduler and its workers, by name."""

    address: str
    folder: Path
    certificates: Certificates = field(default_factory=Certificates)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def scheduler(self) -> None:
        self._start("scheduler", ["scheduler", "--listen", self.address], {})

    def board(self, name: str, device: str = "fake:cpu", **environment: str) -> None:
        self._start(name, ["worker", "--scheduler", self.address, "--device", device, "--name", name], environment)

    def evaluator(self, name: str, **environment: str) -> None:
        self._start(name, ["worker", "--scheduler", self.address, "--name", name], environment)

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> None:
        files = {"--tls-ca": self.certificates.ca, "--tls-cert": self.certificates.cert, "--tls-key": self.certificates.key}
        words += [word for option, file in files.items() if file for word in (option, str(file))]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([LAYERCLOCK, "fleet", *words], stdout=log, stderr=log, env=os.environ | environment)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def cluster(self, wait_s: float = 60.0, tell: Callable[[str], None] | None = None) -> Cluster:
        return Cluster(self.address, self.certificates, wait_s, tell)

    def wait(self, *names: str) -> None:
        """Until these, and no others, are its members."""
        end = time.monotonic() + 60
        with self.cluster() as cluster:
            while {member.name for member in cluster.members()} != set(names):
                assert time.monotonic() < end, f"{names} did not come together"
                time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_fleet(folder: Path, scheme: str = "tcp", certificates: Certificates | None = None) -> Iterator[Fleet]:
    """A fleet with its scheduler; whatever is left of it is killed at the end."""
    fleet = Fleet(f"{scheme}://127.0.0.1:{_free_port()}", folder, certificates or Certificates())
    fleet.scheduler()
    try:
        yield fleet
    finally:
        for name in list(fleet.processes):
            fleet.kill(name)
