"""What ``layerclock profile`` adds to its summary: the accuracy that a precision costs, and what fell back to the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layerclock.errors import ArgumentError
from layerclock.plugins import load_evaluator

if TYPE_CHECKING:
    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, SearchSpace

__all__ = ["accuracy_figures", "fallback_figures"]

# Networks of the table that are judged.
_JUDGED = 4
_PROCESSOR = "CPUExecutionProvider"


def accuracy_figures(device: Device, space: SearchSpace, evaluator_name: str, table: LatencyTable) -> dict[str, float]:
    """Mean accuracy in percent of the table's first networks on the device and in float32, and the loss in points."""
    from layerclock.profiler.accuracy_on_device import accuracy_on_device

    evaluator = load_evaluator(evaluator_name)
    if (name := getattr(evaluator, "space", space).name) != space.name:
        raise ArgumentError(f"{evaluator_name} judges networks of {name}, not of {space.name}", "profile that --space")
    found = accuracy_on_device(device, evaluator, table.networks().genomes[:_JUDGED])  # type: ignore[arg-type]  # refuses others
    return {
        "accuracy_on_device_percent": float(np.mean(found.on_device_percent)),
        "accuracy_float32_percent": float(np.mean(found.float32_percent)),
        "accuracy_drop_points": found.drop_points,
        "networks_judged": float(len(found.on_device_percent)),
    }


def fallback_figures(table: LatencyTable) -> dict[str, int]:
    """Of a provider of ONNX Runtime other than the processor's: kernels that ran on the processor, of all; else nothing."""
    if "provider" not in dict(table.target.options):
        return {}
    ran_by = table.level("kernel")["implementation"].to_pylist()
    return {"kernels_on_the_processor": ran_by.count(_PROCESSOR), "kernels": len(ran_by)}
