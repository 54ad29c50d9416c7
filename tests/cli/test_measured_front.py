"""``layerclock search --measure``: the front, timed on a device; a search that has grown measures what is new."""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.interfaces import SearchSpace


def test_a_search_that_has_grown_measures_its_front_again(tiny_space: SearchSpace, tmp_path: Path) -> None:
    for evaluations in ("12", "24"):
        command = [
            sys.executable, "-m", "layerclock", "search", "--space", tiny_space.name, "--objective", "params", "--objective",
            "latency:fake:cpu", "--evaluations", evaluations, "--population", "6", "--measure", "fake:cpu", "-o", "s", "-q",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with (tmp_path / "s/front_measured.csv").open() as file:
            measured = list(csv.DictReader(file))
        with (tmp_path / "s/pareto.csv").open() as file:
            assert len(measured) == len(list(csv.DictReader(file)))
        assert all(float(row["measured_latency_ms"]) > 0 for row in measured)
