"""Whatever ends a campaign - a kill, a full disk, another campaign in its folder - what was measured is kept, and no process stays."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from layerclock.datasets.table import read_table
from layerclock.devices.export import Exporter
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.progress import Progress
    from layerclock.space import SiteIndex

    ProfileTiny = Callable[..., LatencyTable]


@pytest.fixture(scope="module")
def failing_digest(tiny_space: SearchSpace, tiny_index: SiteIndex) -> str:
    """Of the fourth network of the plan."""
    return Exporter(tiny_space)(make_plan(tiny_index, networks=14, holdout=8).profiled[3]).digest


def _command(folder: Path, rounds: int = 2) -> list[str]:
    """The campaign behind ``fake_table``, as a user types it."""
    return [
        str(Path(sys.executable).parent / "layerclock"), "profile", "--device", "fake:cpu", "--space",
        "digits-mobilenetv3:width=0.25,resolution=32", "--networks", "14", "--holdout", "8",
        "--calibration", "0", "--rounds", str(rounds), "--runs", "5",
        "-o", str(folder), "-q",
    ]  # fmt: skip


def _status(process: int) -> tuple[str, int]:
    """State and parent of a process; state Z if it has ended."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def _children(process: int) -> list[int]:
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [child for child in found if _status(child)[1] == process and _status(child)[0] != "Z"]


def _workers(campaign: int) -> list[int]:
    """Worker processes of a campaign: the children of its zygote."""
    zygotes = [child for child in _children(campaign) if b"layerclock.profiler.zygote" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [worker for zygote in zygotes for worker in _children(zygote)]


def _await(happened: Callable[[], bool], patience_s: float = 60) -> bool:
    end = monotonic() + patience_s
    while not happened() and monotonic() < end:
        sleep(0.02)
    return happened()


def _parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()} if (folder / "parts").exists() else {}


def _keys(table: LatencyTable) -> Counter[tuple[str, str, str]]:
    return Counter((row["level"], row["role"], row["key"]) for row in table.rows.to_pylist())


def test_a_killed_campaign_leaves_no_process_and_goes_on(tmp_path: Path, fake_table: LatencyTable) -> None:
    folder = tmp_path / "campaign"
    process = subprocess.Popen(_command(folder, rounds=12), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert _await(lambda: sum(not name.startswith(".") for name in _parts(folder)) >= 5)
    zygote, workers = _children(process.pid), _workers(process.pid)
    process.kill()
    process.wait()
    assert (len(zygote), len(workers)) == (1, 22)
    assert _await(lambda: all(_status(one)[0] == "Z" for one in (*zygote, *workers)))
    kept = {name: written for name, written in _parts(folder).items() if not name.startswith(".")}
    assert 5 <= len(kept) < 22 * 12

    finished = subprocess.run(_command(folder), capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert kept.items() <= _parts(folder).items()
    assert not any(name.startswith(".") for name in _parts(folder))
    assert _keys(read_table(folder / "table.parquet")) == _keys(fake_table)


def test_workers_that_are_killed_are_replaced_and_nothing_is_lost(
    profile_tiny: ProfileTiny, tmp_path: Path, fake_table: LatencyTable
) -> None:
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.stage == "measure" and progress.done in (0, 30):
            for worker in _workers(os.getpid()):
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=kill)
    assert len(killed) == 44
    assert _keys(table) == _keys(fake_table)
    assert "failed" not in table.level("network")["status"].to_pylist()
    assert len(_parts(tmp_path)) == 44


def test_a_second_campaign_in_the_folder_is_refused_while_one_measures(profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    said: list[tuple[int, str]] = []

    def start_another(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("measure", 3):
            second = subprocess.run(_command(tmp_path), capture_output=True, text=True, timeout=120)
            said.append((second.returncode, second.stderr))

    profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=start_another)
    ((code, words),) = said
    assert code == 1
    assert "another process is measuring into" in words
    assert "Traceback" not in words


def _no_file_above_a_kilobyte() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


def test_a_full_disk_ends_the_campaign_clearly_and_keeps_what_was_measured(
    profile_tiny: ProfileTiny, tmp_path: Path, fake_table: LatencyTable
) -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("measure", 7):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=interrupt)
    kept = _parts(tmp_path)
    full = subprocess.run(_command(tmp_path), capture_output=True, text=True, timeout=120, preexec_fn=_no_file_above_a_kilobyte)
    assert full.returncode == 1, full.stderr
    assert "error: cannot write" in full.stderr
    assert "hint: free space" in full.stderr
    assert "Traceback" not in full.stderr
    assert _parts(tmp_path) == kept
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path)
    assert kept.items() <= _parts(tmp_path).items()
    assert _keys(table) == _keys(fake_table)


@pytest.mark.parametrize("fault", ["crash", "hang", "exhaust"])
def test_a_network_that_fails_while_it_runs_costs_its_own_rows(
    fault: str, profile_tiny: ProfileTiny, tmp_path: Path, fake_table: LatencyTable, failing_digest: str
) -> None:
    reasons = {"crash": "crashed with SIGSEGV", "hang": "did not end within 2 s", "exhaust": "out of memory"}
    device = open_device("fake:cpu", DeviceOptions(extra={fault: failing_digest}))
    table = profile_tiny(device, folder=tmp_path, limit_s=2.0 if fault == "hang" else 60.0)
    failed = [row for row in table.level("network").to_pylist() if row["status"] == "failed"]
    assert len(failed) == 1
    assert reasons[fault] in failed[0]["reason"]
    # Only what ran in no other network is missing, too.
    assert _keys(table) < _keys(fake_table)
    assert table.level("network")["key"].to_pylist() == fake_table.level("network")["key"].to_pylist()
    assert len(_parts(tmp_path)) == 43
