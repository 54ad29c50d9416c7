"""The clock watches the machine around every run, repeats disturbed runs, and says nothing where it cannot look."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.devices.energy import RaplMeter
from layerclock.devices.fake import FakeDevice, FakeSession
from layerclock.interfaces import DeviceOptions, KernelTimes, unmarked
from layerclock.profiler.clock import Reference, measure, rest_readings
from layerclock.profiler.measurement import Order, Watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.interfaces import ModelFile

ORDER = Order(runs=3, most_runs=7, enough_s=30.0, reference_ns=float("nan"), profiled=True)


@pytest.fixture
def session(tiny_model: ModelFile) -> FakeSession:
    return FakeDevice("fake:cpu", DeviceOptions()).load(tiny_model)


def test_a_watched_run_stands_between_two_readings_of_the_reference() -> None:
    reference = Reference()
    for _ in range(4):
        reference.mark()
    watched = reference.watched()
    assert len(watched) == len(watched.reference_ns) == 3
    assert (watched.reference_ns > 0).all()
    assert (watched.switches >= 0).all()
    assert watched.switches.dtype == np.int64
    assert len(Watched.join([watched, watched])) == 6
    assert len(Watched.join([])) == 0


def test_marks_are_forgotten_once_they_were_read() -> None:
    reference = Reference()
    for runs in (2, 1):
        for _ in range(runs + 1):
            reference.mark()
        assert len(reference.watched()) == runs


def test_an_inactive_reference_has_seen_nothing() -> None:
    reference = Reference(active=False)
    for _ in range(3):
        reference.mark()
    watched = reference.watched()
    assert np.isnan(watched.reference_ns).all()
    assert watched.switches.tolist() == [0, 0]
    assert np.isnan(rest_readings(reference)).all()


def test_the_machine_at_rest_is_read_many_times() -> None:
    readings = rest_readings(Reference())
    assert len(readings) > 3
    assert (readings > 0).all()


def test_patience_ends() -> None:
    reference = Reference()
    reference.be_patient(at_rest_ns=1e-6, patience_ns=2e7)  # no machine is ever that fast
    reference.mark()
    reference.mark()
    assert len(reference.watched()) == 1


def test_a_measurement_holds_every_run_with_what_was_seen(session: FakeSession) -> None:
    measured = measure(session, ORDER, Reference(active=False), None)
    assert (measured.network, measured.round, measured.failure) == (-1, -1, "")
    assert len(measured.end_to_end_ns) == len(measured.watched) == 3, "nothing disturbs what nobody watches"
    assert measured.kernels is not None
    assert measured.kernels_watched is not None
    assert len(measured.kernels.samples_ns) == len(measured.kernels_watched) == 3
    assert len(measured.warm_up_ns) >= 3
    assert (measured.warm_up_ns > 0).all()
    assert measured.facts["peak_resident_bytes"] > 0
    assert "energy_j" not in measured.facts, "absent is not zero"


class _Settling(FakeSession):
    """Each run is a little faster than the one before, ``falling`` times; remembers how many counted runs were asked for."""

    falling = 0

    def __init__(self, device: FakeDevice, model: ModelFile) -> None:
        super().__init__(device, model)
        self.runs, self.counted = 0, list[int]()

    def run(self) -> int:
        super().run()
        self.runs += 1
        return round(1e6 * 0.97 ** min(self.runs, self.falling))

    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:
        self.counted.append(runs)
        return super().kernel_times(runs, mark)


@pytest.mark.parametrize(("falling", "fewest", "most"), [(0, 16, 16), (30, 31, 46), (1000, 64, 64)])
def test_a_network_is_warmed_up_until_it_gets_no_faster(tiny_model: ModelFile, falling: int, fewest: int, most: int) -> None:
    session = _Settling(FakeDevice("fake:cpu", DeviceOptions()), tiny_model)
    session.falling = falling
    measured = measure(session, ORDER, Reference(active=False), None)
    assert fewest <= len(measured.warm_up_ns) <= most
    # As many counted runs are cold, within bounds, and left out.
    assert session.counted == [min(len(measured.warm_up_ns), 24) + 3]
    assert measured.kernels is not None
    assert len(measured.kernels.samples_ns) == 3


def test_a_held_out_network_is_not_profiled(session: FakeSession) -> None:
    measured = measure(session, replace(ORDER, profiled=False), Reference(active=False), None)
    assert measured.kernels is None
    assert measured.kernels_watched is None


def test_disturbed_runs_are_kept_and_repeated_up_to_a_bound(session: FakeSession) -> None:
    measured = measure(session, replace(ORDER, reference_ns=1e-6), Reference(), None)  # every run is disturbed
    assert measured.kernels is not None
    assert measured.kernels_watched is not None
    assert len(measured.end_to_end_ns) == len(measured.watched) == 9, "whole turns of the runs asked for, to the bound or beyond"
    assert len(measured.kernels.samples_ns) == len(measured.kernels_watched) == 6, "counted runs at most twice"
    assert np.isfinite(measured.watched.reference_ns).all()


class _NeverMarks(FakeSession):
    def kernel_times(self, runs: int, mark: Callable[[], None] = unmarked) -> KernelTimes:  # noqa: ARG002
        return super().kernel_times(runs, unmarked)


def test_a_device_that_does_not_mark_its_runs_was_not_watched(tiny_model: ModelFile) -> None:
    session = _NeverMarks(FakeDevice("fake:cpu", DeviceOptions()), tiny_model)
    measured = measure(session, ORDER, Reference(), None)
    assert measured.kernels_watched is not None
    assert np.isnan(measured.kernels_watched.reference_ns).all()
    assert measured.kernels_watched.switches.tolist() == [0, 0, 0]


def test_energy_is_that_of_one_run(session: FakeSession, tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("0\n")
    (package / "name").write_text("package-0\n")
    (package / "max_energy_range_uj").write_text("1000000000\n")

    class Burning(FakeSession):
        def run(self) -> int:
            (package / "energy_uj").write_text(str(int((package / "energy_uj").read_text()) + 5000))
            return super().run()

    burning = Burning(session._device, session._model)
    measured = measure(burning, replace(ORDER, profiled=False), Reference(active=False), RaplMeter.find(tmp_path))
    assert measured.facts["energy_j"] == pytest.approx(0.005)
