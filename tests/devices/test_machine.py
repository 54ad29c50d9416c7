from __future__ import annotations

import platform

import pytest

from layerclock.devices.machine import conditions, cpu_fingerprint


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
