"""Energy counters as the system shows them: files that grow and wrap, and nothing where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.devices.energy import RaplMeter, energy_meter

if TYPE_CHECKING:
    from pathlib import Path


def _package(folder: Path, name: str, energy_uj: int | str, range_uj: int = 10_000_000) -> Path:
    package = folder / name
    package.mkdir()
    (package / "name").write_text("psys\n" if name.endswith(":9") else f"package-{name[-1]}\n")
    (package / "energy_uj").write_text(f"{energy_uj}\n")
    (package / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return package


def test_joules_are_counted_from_when_the_meter_was_made(tmp_path: Path) -> None:
    package = _package(tmp_path, "intel-rapl:0", 7_000_000)
    meter = RaplMeter.find(tmp_path)
    assert meter is not None
    assert meter.read_joules() == 0.0
    (package / "energy_uj").write_text("8500000\n")
    assert meter.read_joules() == 1.5


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    package = _package(tmp_path, "intel-rapl:0", 9_000_000)
    meter = RaplMeter.find(tmp_path)
    assert meter is not None
    (package / "energy_uj").write_text("500000\n")
    assert meter.read_joules() == 1.5
    (package / "energy_uj").write_text("2500000\n")
    assert meter.read_joules() == 3.5
    (package / "energy_uj").write_text("2000000\n")
    assert meter.read_joules() == 13.0


def test_all_packages_count_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    packages = [_package(tmp_path, f"intel-rapl:{number}", 0) for number in range(2)]
    cores, platform = _package(tmp_path, "intel-rapl:0:0", 0), _package(tmp_path, "intel-rapl:9", 0)
    (tmp_path / "intel-rapl").mkdir()
    meter = RaplMeter.find(tmp_path)
    assert meter is not None
    for zone in (*packages, cores, platform):
        (zone / "energy_uj").write_text("1000000\n")
    assert meter.read_joules() == 2.0


def test_an_absent_or_unreadable_meter_is_none(tmp_path: Path) -> None:
    assert RaplMeter.find(tmp_path) is None
    assert RaplMeter.find(tmp_path / "absent") is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert RaplMeter.find(tmp_path) is None
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("none of your business\n")
    assert RaplMeter.find(tmp_path) is None


def test_any_device_has_a_meter_or_none() -> None:
    for name in ("fake:cpu", "onnxruntime:cpu", "openvino:CPU", "nameless"):
        meter = energy_meter(name, {}, on_host=True)
        assert meter is None or meter.read_joules() >= 0
    assert energy_meter("board:0", {}, on_host=False) is None, "this machine's counters do not tell of another's energy"
    assert energy_meter("onnxruntime:CUDAExecutionProvider", {"provider.device_id": "99"}, on_host=False) is None, (
        "there is no hundredth GPU"
    )
