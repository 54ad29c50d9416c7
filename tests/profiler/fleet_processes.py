"""A fleet of real processes on loopback, started as a user starts them, and a plug-in by which its boards may differ."""

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

import pytest

from layerclock.profiler.fleet.cluster import Cluster
from layerclock.profiler.fleet.safety import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LAYERCLOCK", "Fleet", "fleet", "plugin", "running_fleet"]

LAYERCLOCK = str(Path(sys.executable).parent / "layerclock")


# A third party's package: a fake device whose processor, and an evaluator whose weights, are what the environment says. The device's
# processes write down when they ran.
_PLUGIN = r"""
import os
import time
from dataclasses import replace

import numpy as np

from layerclock.devices.fake import FakeDevice
from layerclock.errors import ArgumentError
from layerclock.interfaces import DeviceEntry


class Session:
    def __init__(self, session):
        self.session = session

    def run(self):
        with open(os.environ["APART_LOG"], "a") as log:
            log.write(f"{os.getpid()}\n")
        return self.session.run()

    def kernel_times(self, runs, mark):
        return self.session.kernel_times(runs, mark)


class Device(FakeDevice):
    def load(self, model):
        return Session(super().load(model))


class Adapter:
    def discover(self):
        return [DeviceEntry("apart:cpu", "as the environment says", True)]

    def open(self, name, options):
        device = Device(name, options)
        device.target = replace(device.target, fingerprint=(("cpu", os.environ.get("APART", "one")),))
        return device


class Evaluator:
    metric = "score"

    def __init__(self):
        if "APART_LACKS" in os.environ:
            raise ArgumentError("there are no weights here", "put them there")

    def evaluate(self, genomes):
        time.sleep(float(os.environ.get("APART_S", "0")))
        return np.asarray(genomes).sum(axis=1) + float(os.environ.get("APART_SCORE", "1"))
"""
_ENTRY_POINTS = "[layerclock.devices]\napart = apart_plugin:Adapter\n[layerclock.evaluators]\napart-score = apart_plugin:Evaluator\n"


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


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plug-in on the path of this process and of those that it starts."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "apart_plugin.py").write_text(_PLUGIN)
    (folder / "apart_plugin-1.dist-info").mkdir()
    (folder / "apart_plugin-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: apart-plugin\nVersion: 1\n")
    (folder / "apart_plugin-1.dist-info" / "entry_points.txt").write_text(_ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fleet(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One for a module's tests, which find what the tests before have left of it."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running
