"""What ONNX Runtime's profile says of each kernel."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerclock.errors import DeviceError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Profile", "read_profile"]

# The profile's times are cut to whole microseconds.
_CUT_OFF_US = 0.5


@dataclass(frozen=True, slots=True)
class Profile:
    """By kernel, in order of execution: operation, provider, and duration in us of each run."""

    operation: dict[str, str]
    provider: dict[str, str]
    samples_us: dict[str, list[float]]


def read_profile(path: Path, runs: int, on_host: bool) -> Profile:
    """Read the profile of a session that ran ``runs`` times.

    On the host a node's event spans its computation. Elsewhere it spans no more than the launch: the work is in the events of kind
    ``Kernel`` behind it, which a build of ONNX Runtime with profiling for its device writes. Raises :class:`DeviceError` without them,
    or if the profile is incomplete, and :class:`OutputError` where it could not be written.
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
    name = ""
    for event in events:
        if _is_node(event):
            name = str(event["name"]).removesuffix("_kernel_time")
            operation[name] = str(event["args"]["op_name"])
            provider[name] = str(event["args"].get("provider", ""))
            here = on_host or provider[name] == "CPUExecutionProvider"
            samples[name].append(float(event["dur"]) + _CUT_OFF_US if here else 0.0)
        elif event.get("cat") == "Kernel" and name and not on_host:
            samples[name][-1] += float(event["dur"])
            on_device[name].add(len(samples[name]))
    uneven = [name for name, durations in samples.items() if len(durations) != runs or len(on_device.get(name, ())) not in (0, runs)]
    if not samples or uneven:
        raise DeviceError(f"ONNX Runtime's profile is incomplete: {uneven[:3] or 'it names no kernel'}", "measure this network again")
    if not on_host and not on_device:
        raise DeviceError(
            "this build of ONNX Runtime tells when kernels are launched on the device, not how long they take",
            "use one built with onnxruntime_ENABLE_CUDA_PROFILING, or fit an endtoend predictor to whole networks: --holdout",
        )
    return Profile(operation, provider, dict(samples))


def _is_node(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
