"""NNLQP's latency lists (Liu et al., ICPP 2022): networks as ONNX files, measured on many platforms.

Format, after the README of https://github.com/ModelTC/NNLQP: a text file `gt.txt` with a line a measurement, whose words are the graph's
number, the ONNX file's path, the batch, milliseconds, the family, the platform's number, and "train" or "test", which may be missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from layerclock.datasets.public.latencies import NamedLatencies, Settings
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["PLATFORMS", "read_nnlqp"]

SOURCE = "https://github.com/ModelTC/NNLQP"
# As `demo.py` there numbers them.
PLATFORMS = {
    2: "cpu-openppl-fp32",
    9: "hi3559A-nnie11-int8",
    10: "gpu-T4-trt7.1-fp32",
    12: "gpu-T4-trt7.1-int8",
    13: "gpu-P4-trt7.1-fp32",
    14: "gpu-P4-trt7.1-int8",
    16: "hi3519A-nnie12-int8",
    18: "atlas300-acl-fp16",
    23: "mul270-neuware-int8",
}
_PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
_STAGES = {"": False, "train": False, "test": True}


@dataclass(frozen=True, slots=True)
class _Line:
    graph: int
    path: str
    batch: int
    latency_ms: float
    family: str
    platform: int
    held_out: bool


def read_nnlqp(path: Path) -> list[NamedLatencies]:
    """The list at ``path``, taken apart by platform and batch. Raises :class:`TableError` if a line has another form."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot read {path}: {error}", "give a gt.txt of NNLQP's dataset") from error
    lines = [_line(path, number, text) for number, text in enumerate(texts, start=1) if text.strip()]
    groups: dict[tuple[int, int], list[_Line]] = {}
    for line in lines:
        groups.setdefault((line.platform, line.batch), []).append(line)
    return [_of(platform, batch, group) for (platform, batch), group in groups.items()]


def _line(path: Path, number: int, text: str) -> _Line:
    words = text.split()
    try:
        graph, file, batch, latency, family, platform, *stage = words
        held_out = _STAGES[" ".join(stage)]
        return _Line(int(graph), file, int(batch), float(latency), family, int(platform), held_out)
    except (KeyError, ValueError) as error:
        raise TableError(
            f"{path}, line {number}, is no measurement: {text[:80]!r}", "graph, file, batch, ms, family, platform, train or test"
        ) from error


def _of(platform: int, batch: int, lines: Sequence[_Line]) -> NamedLatencies:
    device = PLATFORMS.get(platform, f"platform-{platform}")
    *_, runtime, precision = device.split("-")
    settings = Settings(batch, _PRECISIONS[precision], runtime) if platform in PLATFORMS else Settings(batch)
    latency_ms = np.array([[line.latency_ms] for line in lines])
    return NamedLatencies(
        collection="nnlqp",
        names=tuple(line.path for line in lines),
        kinds=tuple(line.family for line in lines),
        facts=tuple(json.dumps({"graph": line.graph}) for line in lines),
        latency_ms=latency_ms,
        std_ms=np.full(latency_ms.shape, np.nan),
        holdout=np.array([line.held_out for line in lines]),
        devices=(device,),
        source=SOURCE,
        licence="unspecified",
        settings={device: settings},
    )
