"""A network in a process of its own: what it does to that process costs nobody else, and is told in words."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from threading import Thread, Timer
from time import sleep
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import CampaignError, DeviceError, OutputError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler.measurement import Order
from layerclock.profiler.worker import WorkerKilledError, WorkerPool

if TYPE_CHECKING:
    from layerclock.interfaces import ModelFile

ORDER = Order(runs=3, most_runs=6, enough_s=30.0, reference_ns=float("nan"), profiled=True)


def _pool(log: Path, limit_s: float = 60.0, affinity: tuple[int, ...] = (), **extra: str) -> WorkerPool:
    return WorkerPool(open_device("fake:cpu", DeviceOptions(extra=extra)), limit_s, log, affinity)


def _ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_worker_measures_as_the_device_does_in_this_process(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log") as pool:
        worker = pool.start()
        worker.load(tiny_model)
        worker.wait()
        measured = worker.measure(ORDER)
        assert np.isnan(worker.rest_readings()).all(), "the fake device is not this machine's processor"
    here = open_device("fake:cpu").load(tiny_model).kernel_times(1)
    assert measured.kernels is not None
    assert measured.kernels.kernels == here.kernels
    assert (len(measured.end_to_end_ns), measured.kernels.samples_ns.shape) == (3, (3, len(here.kernels)))
    assert _ended(worker.process)


def test_a_worker_that_crashes_is_told_by_its_signal_and_harms_no_other(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log", crash=tiny_model.digest) as pool:
        crashing, idle = pool.start(), pool.start()
        crashing.load(tiny_model)
        crashing.wait()
        with pytest.raises(DeviceError, match="crashed with SIGSEGV") as raised:
            crashing.measure(ORDER)
        assert not isinstance(raised.value, WorkerKilledError)
        assert str(tmp_path / "log") in str(raised.value)
        assert _ended(crashing.process)
        assert len(idle.rest_readings())


def test_a_worker_that_hangs_is_ended_at_the_limit(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log", limit_s=1.0, hang=tiny_model.digest) as pool:
        worker = pool.start()
        worker.load(tiny_model)
        worker.wait()
        with pytest.raises(DeviceError, match=r"did not end within 1 s .*--limit"):
            worker.measure(ORDER)
        assert _ended(worker.process)


def test_a_worker_without_memory_says_so(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log", exhaust=tiny_model.digest) as pool:
        worker = pool.start()
        worker.load(tiny_model)
        worker.wait()
        with pytest.raises(DeviceError, match="out of memory"):
            worker.measure(ORDER)


def test_a_refused_model_is_the_device_s_own_error(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log", refuse=tiny_model.digest) as pool:
        worker = pool.start()
        worker.load(tiny_model)
        with pytest.raises(DeviceError, match=r"is refused \(as the options ask\)"):
            worker.wait()


def test_a_killed_worker_is_told_from_one_that_crashed(tiny_model: ModelFile, tmp_path: Path) -> None:
    with _pool(tmp_path / "log", hang=tiny_model.digest) as pool:
        idle = pool.start()
        idle.load(tiny_model)
        idle.wait()
        os.kill(idle.process, signal.SIGKILL)
        with pytest.raises(WorkerKilledError, match=r"it was killed \(SIGKILL\)"):
            idle.measure(ORDER)
        busy = pool.start()
        busy.load(tiny_model)
        busy.wait()
        timer = Timer(0.3, os.kill, (busy.process, signal.SIGKILL))
        timer.start()
        with pytest.raises(WorkerKilledError, match=r"running it was killed \(SIGKILL\)"):
            busy.measure(ORDER)
        timer.join()


def test_the_end_of_the_pool_is_the_end_of_its_processes(tiny_model: ModelFile, tmp_path: Path) -> None:
    pool = _pool(tmp_path / "log")
    processes: list[int] = []

    def interrupted() -> None:
        with pool:
            loaded, fresh = pool.start(), pool.start()
            loaded.load(tiny_model)
            processes.extend([loaded.process, fresh.process, pool._process.pid])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(processes) == 3
    assert all(map(_ended, processes))


def test_what_a_worker_leaves_goes_with_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: ModelFile) -> None:
    """Also one that was killed in the middle of it: a runtime's profile and weights are large."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with WorkerPool(open_device("onnxruntime:cpu"), 60.0, tmp_path / "log") as pool:
        worker = pool.start()
        worker.load(tiny_model)
        worker.wait()
        (scratch,) = (tmp_path / "temporary").iterdir()
        timer = Thread(target=lambda: _kill_once_there(scratch, worker.process))
        timer.start()
        with pytest.raises(DeviceError):
            worker.measure(replace(ORDER, runs=2000, most_runs=2000))
        timer.join()
        assert list(scratch.iterdir())
    assert not list((tmp_path / "temporary").iterdir())


def _kill_once_there(folder: Path, process: int) -> None:
    while not list(folder.iterdir()):
        sleep(0.001)
    os.kill(process, signal.SIGKILL)


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*log: Is a directory"), _pool(tmp_path / "log"):
        pass


@pytest.mark.parametrize("room", [100_000, 2_000_000])
def test_a_full_disk_is_no_network_s_fault(room: int, tmp_path: Path, tiny_model: ModelFile) -> None:
    """A limit on the size of files stands for it: ONNX Runtime cannot write the weights, or its profile ends in the middle."""
    with WorkerPool(open_device("onnxruntime:cpu"), 60.0, tmp_path / "log") as pool:
        worker = pool.start()
        worker.load(tiny_model)
        worker.wait()
        resource.prlimit(worker.process, resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(OutputError, match=r"ONNX Runtime could not write .*free space there"):
            worker.measure(replace(ORDER, runs=500, most_runs=500))


def test_workers_are_bound_to_the_processors_asked_for(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    with _pool(tmp_path / "log", affinity=(last,)) as pool:
        assert os.sched_getaffinity(pool.start().process) == {last}
    # The system would leave out of several what is not there, and say nothing.
    for absent in ((100_000,), (last, last + 1)):
        with pytest.raises(CampaignError, match="cannot bind to the processors"), _pool(tmp_path / "log", affinity=absent):
            pass


def test_workers_are_the_first_to_go_when_memory_runs_out(tmp_path: Path) -> None:
    with _pool(tmp_path / "log") as pool:
        worker = pool.start()
        worker.rest_readings()  # by now it has begun to serve
        assert Path(f"/proc/{worker.process}/oom_score_adj").read_text().strip() == "1000"
