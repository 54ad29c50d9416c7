"""A fleet for the tests of this folder, and a plug-in by which its boards may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("distributed", reason="fleets need the extra `fleet`")

from fleet_processes import Fleet, running_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A third party's package: a fake device whose processor, and an evaluator whose weights, are what the environment says. The device's
# processes write down when they ran.
_PLUGIN = r"""
import os
import time
from dataclasses import replace

import numpy as np

from layerclock.devices.fake import FakeDevice
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

    def evaluate(self, genomes):
        time.sleep(float(os.environ.get("APART_S", "0")))
        return np.asarray(genomes).sum(axis=1) + float(os.environ.get("APART_SCORE", "1"))
"""
_ENTRY_POINTS = "[layerclock.devices]\napart = apart_plugin:Adapter\n[layerclock.evaluators]\napart-score = apart_plugin:Evaluator\n"


@pytest.fixture(scope="session")
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
