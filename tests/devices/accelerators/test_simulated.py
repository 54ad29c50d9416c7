"""Designs as devices: they keep the adapters' rules, take what their model says, and refuse what cannot be built or run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.devices.accelerators import simulated
from layerclock.devices.accelerators.designs import load_design
from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaDesign
from layerclock.devices.accelerators.fpga_tiling import nest_costs
from layerclock.devices.accelerators.workload import model_nests
from layerclock.devices.conformance import check_device
from layerclock.errors import ArgumentError, DeviceError, DeviceUnavailableError, UnknownNameError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import find_devices, open_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile

EXAMPLES = Path(__file__).parents[3] / "examples"
FPGA = f"sim:fpga-tiling@{EXAMPLES / 'fpga.yaml'}"
PIPELINE = """
kind: fpga
boards: [{dsp: 2520, bram: 1824, bus_bits: 1024, bandwidth_gb_s: 25.6, clock_mhz: 100}]
stages:
  - {tm: 16, tn: 8, lanes: 16, input_port: 8, weight_port: 8, output_port: 8}
  - {tm: 16, tn: 8, lanes: 16, input_port: 8, weight_port: 8, output_port: 8}
"""


def changed(folder: Path, old: str, new: str, text: str = PIPELINE) -> str:
    """The device of a design in which ``old`` is replaced."""
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(text.replace(old, new))
    return f"sim:fpga-tiling@{path}"


def test_the_adapter_keeps_every_rule(tiny_model: ModelFile) -> None:
    assert [finding for finding in check_device(open_device(FPGA), tiny_model) if not finding.kept] == []


def test_the_models_are_listed_with_what_they_leave_out() -> None:
    listed = {entry.name: entry for entry in find_devices() if entry.name.startswith("sim:")}
    assert set(listed) == {"sim:fpga-tiling@DESIGN.yaml", "sim:zigzag@DESIGN.yaml"}
    assert listed["sim:fpga-tiling@DESIGN.yaml"].available
    assert all("element-wise operators, pooling, reuse between layers" in entry.description for entry in listed.values())


def test_a_model_whose_package_is_absent_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulated._PACKAGES, "zigzag", "a-package-that-nobody-has")
    entry = next(entry for entry in simulated.SimulatedAdapter().discover() if "zigzag" in entry.name)
    assert not entry.available
    assert "not installed" in entry.reason
    assert "layerclock[zigzag]" in entry.hint
    with pytest.raises(DeviceUnavailableError, match=r"pip install 'layerclock\[zigzag\]'"):
        open_device(f"sim:zigzag@{EXAMPLES / 'array.yaml'}")


def test_one_engine_takes_what_the_closed_form_says(tiny_model: ModelFile) -> None:
    session = open_device(FPGA).load(tiny_model)
    design = load_design(EXAMPLES / "fpga.yaml")
    assert isinstance(design, FpgaDesign)
    cycles = nest_costs([placed.nest for placed in model_nests(tiny_model.path)], FpgaBatch.of([design]).engines).cycles
    times = session.kernel_times(3)
    others = [kernel for kernel in times.kernels if not kernel.macs]  # a nanosecond each
    assert others
    assert times.samples_ns.sum(axis=1).tolist() == [pytest.approx(cycles.sum() * 5 + len(others))] * 3
    assert session.run() == session.run() == pytest.approx(cycles.sum() * 5 + len(others), abs=1)
    assert (times.samples_ns[0] == times.samples_ns[2]).all()


def test_every_number_of_the_design_is_part_of_the_target(tmp_path: Path) -> None:
    targets = [
        open_device(changed(tmp_path, old, new)).target
        for old, new in (("", ""), ("tm: 16", "tm: 8"), ("dsp: 2520", "dsp: 2500"), ("kind: fpga", "kind: fpga\nbits: 8"))
    ]
    prints = [dict(target.fingerprint) for target in targets]
    assert len({print_["design"] for print_ in prints}) == 4
    assert prints[1]["stages[1].tm"] == "8"
    assert prints[2]["boards[0].dsp"] == "2500"
    assert [target.precision for target in targets] == ["int16", "int16", "int16", "int8"]
    assert not open_device(FPGA).on_host


def test_a_second_stage_takes_its_part_of_the_layers(tiny_model: ModelFile, tmp_path: Path) -> None:
    slow = open_device(changed(tmp_path, "", "")).load(tiny_model).kernel_times(1)
    text = PIPELINE.replace("  - {tm: 16", "  - {tm: 4", 1)
    mixed = open_device(changed(tmp_path, "", "", text)).load(tiny_model).kernel_times(1)
    differs = slow.samples_ns[0] != mixed.samples_ns[0]
    assert differs.any()
    assert not differs.all()


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("dsp: 2520", "dsp: 200", DeviceUnavailableError, "board 0 has 200 DSP, its stages take 288"),
        ("tm: 16", "tm: [8, 16]", ArgumentError, "a space of 4 designs"),
        ("kind: fpga", "kind: [", ArgumentError, "is not YAML"),
    ],
)
def test_what_cannot_be_built_is_refused(old: str, new: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        open_device(changed(tmp_path, old, new))


def test_files_of_the_other_kind_and_strange_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is not the design of an FPGA"):
        open_device(f"sim:fpga-tiling@{EXAMPLES / 'array.yaml'}")
    with pytest.raises(ArgumentError, match="is not the design of an array"):
        open_device(f"sim:zigzag@{EXAMPLES / 'fpga.yaml'}")
    with pytest.raises(ArgumentError, match="cannot read the design"):
        open_device(f"sim:fpga-tiling@{tmp_path / 'none.yaml'}")
    for name in ("sim:fpga-tiling", "sim:fpga-tiling@", "sim:tpu@x.yaml", "fake:cpu@x.yaml"):
        with pytest.raises(UnknownNameError):
            open_device(name)
    for options in (DeviceOptions(threads=2), DeviceOptions(precision="float16"), DeviceOptions(extra={"a": "b"})):
        with pytest.raises(DeviceUnavailableError, match="neither threads nor options"):
            open_device(FPGA, options)
    assert open_device(FPGA, DeviceOptions(precision="int16")).target == open_device(FPGA).target


def test_a_layer_that_no_stage_can_run_is_named(tiny_model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot run \S*Conv of layer"):
        open_device(changed(tmp_path, "output_port: 8}", "output_port: 8, weight_words: 4}")).load(tiny_model)


def test_a_campaign_fills_a_table_like_that_of_any_device(profile_tiny: Callable[..., LatencyTable], tmp_path: Path) -> None:
    device = open_device(FPGA)
    table = profile_tiny(device, folder=tmp_path / "campaign", networks=3, holdout=1)
    assert table.target == device.target
    rows = table.level("layer")
    assert np.array(rows["p50_us"].to_pylist()).min() > 0
    assert table.noise_floor == 0
    assert table.level("network")["status"].to_pylist().count("failed") == 0
