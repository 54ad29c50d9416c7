"""``layerclock coexplore`` as a user types it: its files, its report, and what it says to bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from layerclock.devices.accelerators.designs import load_design
from layerclock.devices.accelerators.fpga_design import FpgaDesign
from layerclock.plugins import open_device

SPACE = "nas-bench-201:channels=8,cells=1,resolution=8"
DESIGNS = """
kind: fpga
boards: [{dsp: 400, bram: 400, bus_bits: 512, bandwidth_gb_s: 12.8, clock_mhz: 200, static_w: 1.0}]
stages:
  count: [1, 2]
  each: {tm: [8, 16], tn: [4, 8], input_port: [2, 4], weight_port: 4, output_port: 4}
"""


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("layerclock")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hardware") / "designs.yaml"
    path.write_text(DESIGNS)
    return path


def words(hardware: Path, folder: Path, *more: str) -> tuple[str, ...]:
    return (
        "coexplore", "--space", SPACE, "--hardware", str(hardware), "--objective", "params", "--objective", "throughput",
        "--objective", "energy", "--evaluations", "30", "-o", str(folder), "-q", *more,
    )  # fmt: skip


def test_a_front_of_pairs_with_designs_that_are_devices(hardware: Path, tmp_path: Path) -> None:
    asked = words(hardware, tmp_path, "--algorithm", "nsga2", "--constraint", "throughput_per_s>=2000", "--json")
    document = json.loads(run(*asked).stdout)
    table = pq.read_table(tmp_path / "evaluations.parquet").to_pandas()
    assert len(table) == document["evaluations"] == 30
    assert (table["throughput_per_s"] >= 2000).all()
    assert {"energy_mj", "latency_ms", "cycles", "utilisation", "dsp", "bram", "port_bits", "feasible"} <= set(table.columns)
    assert document["fast_level"]["asked"] == sum(document["fast_level"][name] for name in ("unbuildable", "bound", "model", "passed"))
    assert document["pareto"]
    for pair in document["pareto"]:
        row = table.iloc[pair["evaluation"]]
        assert row["pareto"]
        assert row["energy_mj"] == pair["energy_mj"]
        assert {name.split(".")[0] for name in pair["design"]} == {"design"}
        design = load_design(pair["design_file"])
        assert isinstance(design, FpgaDesign)
        assert sum(stage.tm * stage.tn for stage in design.stages) == pair["dsp"]
        assert open_device(f"sim:fpga-tiling@{pair['design_file']}").target.precision == "int16"
    assert {gain["against"] for gain in document["gains"]} >= {"the median", "the worst", "the middle of the space"}
    assert json.loads((tmp_path / "report.json").read_text())["pareto"] == document["pareto"]
    # The same command again evaluates nothing, and says the same; a given design stands in the place of the middle.
    fixed = document["pareto"][0]["design_file"]
    again = json.loads(run(*asked, "--fixed", fixed).stdout)
    assert again["pareto"] == document["pareto"]
    assert fixed in {gain["against"] for gain in again["gains"]}


def test_people_get_tables(hardware: Path, tmp_path: Path) -> None:
    said = run(*words(hardware, tmp_path, "--algorithm", "random")).stdout
    assert "Pareto-optimal of 30 evaluated pairs" in said
    assert "Against fixed designs" in said
    assert "cannot be built" in said


def test_what_cannot_be_is_one_clear_error(hardware: Path, tmp_path: Path) -> None:
    said = run(*words(hardware, tmp_path, "--constraint", "throughput_per_s>=1e12"), expect=1).stderr
    assert "throughput_per_s>=1000000000000" in said
    assert "hint" in said
    assert "measure of pairs 'area'" in run(*words(hardware, tmp_path, "--objective", "area"), expect=1).stderr
    missing = tmp_path / "none.yaml"
    assert "cannot read the design" in run(*words(missing, tmp_path), expect=1).stderr
