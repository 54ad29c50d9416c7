"""nn-Meter's bench dataset (Zhang et al., MobiSys 2021): latencies of 26,000 networks of thirteen families.

Format, after `nn_meter/dataset/bench_dataset.py` and `gnn_dataloader.py` of https://github.com/microsoft/nn-Meter: a JSONL file for each
family; in each line the network's "id", its "graph" (operators by name), and for each device, such as "cortexA76cpu_tflite21", its
milliseconds or null.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.public.latencies import NamedLatencies, Settings
from layerclock.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["read_nn_meter"]

SOURCE = "https://github.com/microsoft/nn-Meter"


def read_nn_meter(paths: Sequence[Path]) -> NamedLatencies:
    """The networks of all files together. Raises :class:`TableError` if one cannot be read, or a line has another form."""
    networks = [(path.stem, entry) for path in paths for entry in _entries(path)]
    devices = tuple(dict.fromkeys(name for _, entry in networks for name in entry if name not in ("id", "graph")))
    latency_ms = [[np.nan if entry.get(device) is None else entry[device] for device in devices] for _, entry in networks]
    shape = (len(networks), len(devices))
    return NamedLatencies(
        collection="nn-meter",
        names=tuple(entry["id"] for _, entry in networks),
        kinds=tuple(family for family, _ in networks),
        facts=tuple(json.dumps({"operators": len(entry["graph"])}) for _, entry in networks),
        latency_ms=np.array(latency_ms, dtype=np.float64).reshape(shape),
        std_ms=np.full(shape, np.nan),
        holdout=np.zeros(len(networks), dtype=np.bool_),
        devices=devices,
        source=SOURCE,
        licence="MIT",
        settings={device: Settings(runtime=device.rpartition("_")[2]) for device in devices if "_" in device},
    )


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _entry(f"{path}, line {number}", line)
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot read {path}: {error}", "give a .jsonl of nn-Meter's datasets.zip") from error


def _entry(place: str, line: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
        told = {name: value for name, value in entry.items() if name not in ("id", "graph")}
        sound = isinstance(entry["id"], str) and isinstance(entry["graph"], dict)
    except (AttributeError, KeyError, ValueError) as error:
        raise TableError(f"{place}, is no network: {error}", f"each line has id, graph and milliseconds by device: see {SOURCE}") from error
    if not sound or not all(value is None or type(value) in (int, float) for value in told.values()):
        raise TableError(f"{place}, tells more than milliseconds", f"each line has id, graph and milliseconds by device: see {SOURCE}")
    return entry
