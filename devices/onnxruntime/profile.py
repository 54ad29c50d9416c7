"""What ONNX Runtime's profile says of each kernel."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerclock.errors import DeviceError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Profile", "read_profile"]

# The profile's times are cut to whole microseconds.
_CUT_OFF_US = 0.5


# What runs operators of its own: their events come before its event, which spans them.
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True)
class Profile:
    """By kernel, in order of execution: operation, provider, and duration in us of each run."""

    operation: dict[str, str]
    provider: dict[str, str]
    samples_us: dict[str, list[float]]


@dataclass(slots=True)
class _Run:
    """One run of one node: when it began and how long it took, in us, and whether its work on the device was told."""

    name: str
    operation: str
    provider: str
    began_us: float
    took_us: float
    told: bool = False


def read_profile(path: Path, runs: int, on_host: bool) -> Profile:
    """Read the profile of a session that ran ``runs`` times.

    On the host a node's event spans its computation. Elsewhere it spans no more than the launch: the work is in the events of kind
    ``Kernel`` behind it, which a build of ONNX Runtime with profiling for its device writes. What runs inside a branch or loop is time of
    that. Raises :class:`DeviceError` without events of kernels, or if the profile is incomplete, and :class:`OutputError` where it could
    not be written.
    """
    try:
        events: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"ONNX Runtime could not write its profile into {path.parent.parent}: {error}",
            "free space there, or set TMPDIR to another folder",
        ) from error
    operation: dict[str, str] = {}
    provider: dict[str, str] = {}
    samples: dict[str, list[float]] = defaultdict(list)
    on_device: dict[str, set[int]] = defaultdict(set)  # the runs in which a kernel's work on the device was told
    for run in _runs(events, on_host):
        operation[run.name], provider[run.name] = run.operation, run.provider
        samples[run.name].append(run.took_us)
        if run.told:
            on_device[run.name].add(len(samples[run.name]))
    uneven = [name for name, durations in samples.items() if len(durations) != runs or len(on_device.get(name, ())) not in (0, runs)]
    if not samples or uneven:
        raise DeviceError(f"ONNX Runtime's profile is incomplete: {uneven[:3] or 'it names no kernel'}", "measure this network again")
    if not on_host and not on_device:
        raise DeviceError(
            "this build of ONNX Runtime tells when kernels are launched on the device, not how long they take",
            "use one built with onnxruntime_ENABLE_CUDA_PROFILING, or fit an endtoend predictor to whole networks: --holdout",
        )
    return Profile(operation, provider, dict(samples))


def _runs(events: Sequence[Mapping[str, Any]], on_host: bool) -> list[_Run]:
    """The runs of the network's own nodes, in order of their ends."""
    runs: list[_Run] = []
    for event in events:
        if _is_node(event):
            provider = str(event["args"].get("provider", ""))
            here = on_host or provider == "CPUExecutionProvider"
            name = str(event["name"]).removesuffix("_kernel_time")
            took_us = float(event["dur"]) + _CUT_OFF_US if here else 0.0
            run = _Run(name, str(event["args"]["op_name"]), provider, float(event["ts"]), took_us)
            while run.operation in _CONTROL_FLOW and runs and runs[-1].began_us >= run.began_us:
                inside = runs.pop()
                if not here:
                    run.took_us += inside.took_us
                    run.told |= inside.told
            runs.append(run)
        elif event.get("cat") == "Kernel" and runs and not on_host:
            runs[-1].took_us += float(event["dur"])
            runs[-1].told = True
    return runs


def _is_node(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
