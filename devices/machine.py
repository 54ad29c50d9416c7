"""Facts about this machine: what identifies the hardware, under which conditions it runs, and what disturbs it."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

__all__ = [
    "Disturbance",
    "available_memory_bytes",
    "conditions",
    "cpu_fingerprint",
    "peak_resident_bytes",
    "return_free_memory",
]

# Instruction sets that CPU runtimes choose their kernels by; the rest of the flags only lengthens the fingerprint.
_FLAGS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "fphp", "asimdhp", "sve", "sve2", "i8mm", "bf16",
)  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def _read(path: Path | str) -> str:
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
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
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
        "turbo_off": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "cgroup_cpu_max": _cpu_max(),
        "load_average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    return {name: value for name, value in facts.items() if value}


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Readings of the whole machine; what it does not tell is None, never zero.

    ``steal_s``: time of a processor that the hypervisor gave to others, mean over the processors; ``throttled_s``: time that the
    control group was held back by its quota; ``frequency_mhz`` and ``temperature_c`` of the moment (the highest over the processors).
    """

    steal_s: float | None = None
    throttled_s: float | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None

    @classmethod
    def now(cls) -> Disturbance:
        """The present readings."""
        return cls(_steal_s(), _throttled_s(), _frequency_mhz(), _temperature_c())

    def since(self, earlier: Disturbance) -> dict[str, float]:
        """Counters as the growth since ``earlier``, momentary readings as they are; unknown ones are left out."""
        now, before = asdict(self), asdict(earlier)
        grown = {name: now[name] - before[name] for name in ("steal_s", "throttled_s") if None not in (now[name], before[name])}
        return grown | {name: now[name] for name in ("frequency_mhz", "temperature_c") if now[name] is not None}


def _steal_s() -> float | None:
    lines = [line.split() for line in _read("/proc/stat").splitlines() if line.startswith("cpu")]
    processors = len(lines) - 1  # the first line is the sum of all
    return int(lines[0][8]) / os.sysconf("SC_CLK_TCK") / processors if processors > 0 and len(lines[0]) > 8 else None


def _groups() -> list[Path]:
    """This process's control group and those around it, each of which may have limits of its own; of version 1 the root alone."""
    own = next((line.removeprefix("0::") for line in _read(_OWN_CGROUP).splitlines() if line.startswith("0::")), "/")
    if ".." in Path(own).parts:  # it lies outside of what can be seen from here
        return [_CGROUP]
    folder = _CGROUP / own.strip("/")
    return [folder, *(around for around in folder.parents if around == _CGROUP or _CGROUP in around.parents)]


def _cpu_max() -> str:
    limits = [limit for group in _groups() if (limit := _read(group / "cpu.max"))]
    return next(
        (limit for limit in limits if not limit.startswith("max")), limits[0] if limits else _read(_CGROUP / "cpu/cpu.cfs_quota_us")
    )


def _throttled_s() -> float | None:
    told = [(group / "cpu.stat", "throttled_usec", 1e-6) for group in _groups()] + [(_CGROUP / "cpu/cpu.stat", "throttled_time", 1e-9)]
    found = [int(line.split()[1]) * unit for file, name, unit in told for line in _read(file).splitlines() if line.split()[:1] == [name]]
    return sum(found) if found else None


def _highest(files: list[Path], scale: float) -> float | None:
    values = [float(text) * scale for text in map(_read, files) if text.lstrip("-").isdigit()]
    return max(values) if values else None


def _frequency_mhz() -> float | None:
    return _highest(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")), 1e-3)


def _temperature_c() -> float | None:
    return _highest(list(Path("/sys/class/thermal").glob("thermal_zone*/temp")), 1e-3)


def available_memory_bytes() -> int | None:
    """Memory that new processes can take without swapping, within the control group; None where nobody tells."""
    found = [int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").splitlines() if line.startswith("MemAvailable:")]
    version_1 = (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    for group, limit, usage in (*((group, "memory.max", "memory.current") for group in _groups()), version_1):
        texts = [_read(group / name) for name in (limit, usage)]
        if all(text.isdigit() for text in texts):
            cached = [int(line.split()[1]) for line in _read(group / "memory.stat").splitlines() if line.startswith("inactive_file ")]
            found.append(max(0, int(texts[0]) - int(texts[1]) + sum(cached)))
    return min(found) if found else None


def return_free_memory() -> None:
    """Give the system back what was allocated and freed: loading a network leaves several times its size. Only glibc keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_resident_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not tell."""
    found = [int(line.split()[1]) * 1024 for line in _read("/proc/self/status").splitlines() if line.startswith("VmHWM:")]
    return found[0] if found else None
