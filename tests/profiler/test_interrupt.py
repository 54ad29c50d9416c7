"""A real interrupt of the real program: it ends with 130, keeps what was measured, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from layerclock.datasets.table import read_table


def _heed_interrupts() -> None:
    # A test run in the background of a script ignores SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.usefixtures("fake_folder")  # whose exports are in the cache, so that measuring starts soon
def test_an_interrupted_profile_goes_on_with_the_same_command(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    command = [
        str(Path(sys.executable).parent / "layerclock"), "profile", "--device", "fake:cpu", "--space",
        "digits-mobilenetv3:width=0.25,resolution=32", "--networks", "14", "--holdout", "8",
        "--calibration", "0", "--rounds", "16", "-o", str(folder),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts)
    parts = folder / "parts"
    patience = monotonic() + 120
    while process.poll() is None and monotonic() < patience and (not parts.exists() or len(list(parts.glob("*.parquet"))) < 5):
        sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert 5 <= len(kept) < 352
    assert not list(parts.glob(".*"))

    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    now = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert len(now) == 352
    assert kept.items() <= now.items()
    table = read_table(folder / "table.parquet")
    assert (len(table.networks()), len(table.networks("holdout"))) == (14, 8)
