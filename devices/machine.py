"""Facts about this machine: what identifies the hardware, and under which conditions it runs."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

__all__ = ["conditions", "cpu_fingerprint"]

# Instruction sets that CPU runtimes choose their kernels by; the rest of the flags only lengthens the fingerprint.
_FLAGS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "fphp", "asimdhp", "sve", "sve2", "i8mm", "bf16",
)  # fmt: skip


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def cpu_fingerprint() -> tuple[tuple[str, str], ...]:
    """Name-value pairs that identify the processor as this process sees it. Unknown facts are left out."""
    cpuinfo: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            cpuinfo.setdefault(name.strip(), value.strip())
    present = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    model = cpuinfo.get("model name") or cpuinfo.get("Model") or platform.processor()
    identity = {k: cpuinfo[k] for k in ("cpu family", "model", "stepping", "CPU implementer", "CPU part") if k in cpuinfo}
    facts = {
        "architecture": platform.machine(),
        "cpu": model,
        "cpu_id": " ".join(f"{name.replace(' ', '_')}={value}" for name, value in identity.items()),
        "isa": " ".join(flag for flag in _FLAGS if flag in present),
        "caches": " ".join(_caches()),
        "hypervisor": "yes" if "hypervisor" in present else "",
        "os": platform.system(),
    }
    return tuple((name, value) for name, value in facts.items() if value)


def _caches() -> list[str]:
    caches = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(str(index / name)) for name in ("level", "type", "size"))
        if size:
            caches.append(f"L{level}{'' if kind == 'Unified' else kind[:1].lower()}={size}")
    return caches


def conditions() -> dict[str, str]:
    """What may change from one day to the next and is recorded beside measurements, not in the target."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    facts = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus_usable": str(len(usable) or os.cpu_count() or ""),
        "affinity": ",".join(map(str, usable)),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cgroup_cpu_max": _read("/sys/fs/cgroup/cpu.max"),
        "load_average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    return {name: value for name, value in facts.items() if value}
