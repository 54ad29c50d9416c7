from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from layerclock.devices import machine
from layerclock.devices.machine import Disturbance, available_memory_bytes, conditions, cpu_fingerprint, peak_resident_bytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(platform.system() != "Linux", reason="other systems tell less of their processor")
def test_the_fingerprint_identifies_the_processor_and_its_instruction_sets() -> None:
    facts = dict(cpu_fingerprint())
    assert {"architecture", "cpu", "isa", "os"} <= set(facts)
    assert len(facts) == len(cpu_fingerprint())
    assert all(facts.values())
    assert {"x86_64": "sse4_2", "aarch64": "asimd"}.get(platform.machine(), "") in facts["isa"]


def test_the_fingerprint_is_the_same_every_time() -> None:
    first = cpu_fingerprint()
    cpu_fingerprint.cache_clear()
    assert cpu_fingerprint() == first


def test_what_changes_from_day_to_day_is_not_in_the_fingerprint() -> None:
    facts = conditions()
    assert {"kernel", "python", "cpus_usable", "load_average"} <= set(facts)
    assert not set(facts) & {name for name, _ in cpu_fingerprint()}
    assert all(isinstance(value, str) and value for value in facts.values())


def test_what_disturbed_is_the_growth_of_counters_and_the_moment_of_readings() -> None:
    before = Disturbance(steal_s=1.0, throttled_s=2.0, frequency_mhz=3000.0, temperature_c=40.0)
    after = Disturbance(steal_s=1.5, throttled_s=2.0, frequency_mhz=2000.0, temperature_c=60.0)
    assert after.since(before) == {"steal_s": 0.5, "throttled_s": 0.0, "frequency_mhz": 2000.0, "temperature_c": 60.0}


def test_what_the_machine_does_not_tell_is_left_out_and_never_zero() -> None:
    assert Disturbance().since(Disturbance()) == {}
    assert Disturbance(steal_s=1.0).since(Disturbance()) == {}
    assert Disturbance().since(Disturbance(steal_s=1.0, temperature_c=50.0)) == {}
    assert Disturbance(steal_s=2.0, temperature_c=50.0).since(Disturbance(steal_s=1.0)) == {"steal_s": 1.0, "temperature_c": 50.0}


def test_the_present_readings_of_this_machine_are_possible() -> None:
    before = Disturbance.now()
    assert all(value >= 0 for value in Disturbance.now().since(before).values())


@pytest.mark.skipif(platform.system() != "Linux", reason="read from /proc")
def test_memory_is_told_in_bytes() -> None:
    available, peak = available_memory_bytes(), peak_resident_bytes()
    assert available is not None
    assert peak is not None
    assert 2**20 < peak < 2**42
    assert 0 <= available < 2**46


def test_limits_of_the_groups_around_this_process_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd lays them out: a service in a slice, either of which may have a quota."""
    own = tmp_path / "work.slice" / "profile.service"
    own.mkdir(parents=True)
    (tmp_path / "self").write_text("4:memory:/elsewhere\n0::/work.slice/profile.service\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "self")
    for group, throttled in ((own, 250_000), (own.parent, 500_000)):
        (group / "cpu.stat").write_text(f"usage_usec 9\nthrottled_usec {throttled}\n")
    (own / "cpu.max").write_text("max 100000")
    (own.parent / "cpu.max").write_text("150000 100000")
    (own / "memory.max").write_text("max")
    (own.parent / "memory.max").write_text("4096")
    (own.parent / "memory.current").write_text("3000")
    (own.parent / "memory.stat").write_text("inactive_file 1000\n")
    assert Disturbance.now().throttled_s == pytest.approx(0.75)
    assert conditions()["cgroup_cpu_max"] == "150000 100000"
    assert available_memory_bytes() == 4096 - 3000 + 1000
    (tmp_path / "self").write_text("0::/../../other\n")
    assert Disturbance.now().throttled_s is None
