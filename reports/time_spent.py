"""Where a network's time goes: its layers and kernels, and their place under the roofline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.kernels import macs_of_a_run
from layerclock.reports.documents import Missing, Section, number, rounded
from layerclock.reports.kinds import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerclock.reports.inputs import TableInput

    Row = Mapping[str, Any]

__all__ = ["layer_names", "row_kinds", "time_spent"]


def time_spent(inputs: list[TableInput]) -> Section:
    """Of each table: its rows of layers and kernels in columns, and which of them each measured network is made of."""
    section = Section(drawings={"spent": []}, words={"spent": []})
    for one in inputs:
        drawing = _drawing(one)
        if not any(network["layers"] or network["kernels"] for network in drawing["networks"]):
            section.missing.append(
                Missing(
                    f"Where the time goes in {one.name}",
                    "the table tells no layers or kernels of single networks, or its space is not installed here",
                    "layerclock profile model.onnx --device onnxruntime:cpu",
                )
            )
            continue
        section.drawings["spent"].append(drawing)
        section.words["spent"].append({"name": one.name, "networks": len(drawing["networks"]), "ceilings": drawing["ceilings"]})
        if not one.table.ceilings:
            section.missing.append(
                Missing(
                    f"The device's ceilings over the roofline of {one.name}",
                    "they are measured with files, not with spaces",
                    "layerclock profile model.onnx --device onnxruntime:cpu",
                )
            )
    return section


def _drawing(one: TableInput) -> dict[str, Any]:
    table = one.table
    rows = {level: [row for row in table.level(level).to_pylist() if row["latency_us"] is not None] for level in ("layer", "kernel")}
    number_of = {level: {row["key"]: position for position, row in enumerate(rows[level])} for level in rows}
    networks = [row for row in table.level("network").to_pylist() if row["latency_us"] is not None]
    placed = _placed(one, [row["genome"] for row in networks], number_of["layer"])
    return {
        "name": one.name,
        "layer": _columns(rows["layer"]),
        "kernel": {**_columns(rows["kernel"]), "name": [_kernel_name(row) for row in rows["kernel"]]},
        "sites": [site.name for site in one.index.sites] if one.index else [],
        "ceilings": {name: rate / 1e9 for name, rate in table.ceilings.items() if name in ("flops_per_s", "bytes_per_s")},
        "networks": [
            {
                "name": _network_name(one, row, position),
                "role": {"holdout": "held out", "calibration": "for calibration"}.get(row["role"], row["role"]),
                "us": rounded([row["latency_us"], row["interval_low_us"], row["interval_high_us"]]),
                "macs": row["macs"],
                "layers": here,
                "kernels": [number_of["kernel"].get(key, -1) for key in row["kernel_keys"] or ()],
            }
            for position, (row, here) in enumerate(zip(networks, placed, strict=True))
        ],
    }


def _placed(one: TableInput, genomes: Sequence[Sequence[int] | None], number_of: Mapping[str, int]) -> list[list[list[int]]]:
    """Of each genome: pairs of a site's number and of the row of the layer that stands there, -1 where it was not measured."""
    if one.index is None:
        # In a table of one file, every layer is that network's.
        alone = len(genomes) == 1 and one.table.space.startswith("onnx:")
        return [[[-1, row] for row in number_of.values()] if alone else [] for _ in genomes]
    row_of = np.array([*(number_of.get(layer.key, -1) for layer in one.index.vocabulary), -2])
    found = row_of[one.index.layers(np.array(genomes, dtype=np.int64))] if genomes else np.zeros((0, 0), dtype=np.int64)
    return [[[site, row] for site, row in enumerate(network) if row != -2] for network in found.tolist()]


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of one level, column by column: name, kind, time and interval in us, work of a run, and how often they were met."""
    return {
        "name": layer_names(rows),
        "op": row_kinds(rows),
        "us": rounded(row["latency_us"] for row in rows),
        "low": rounded(row["interval_low_us"] for row in rows),
        "high": rounded(row["interval_high_us"] for row in rows),
        "macs": [macs_of_a_run(row) for row in rows],
        "bytes": [row["bytes"] for row in rows],
        "times": [row["n_networks"] or 1 for row in rows],
        "noisy": [row["status"] != "steady" for row in rows],
    }


def layer_names(rows: Sequence[Row]) -> list[str]:
    """What to call each row: the module of a file's layer, else its key."""
    return [str(json.loads(row["attributes"] or "{}").get("module", row["key"])) for row in rows]


def row_kinds(rows: Sequence[Row]) -> list[str]:
    """The kind of each row's layer or kernel."""
    attributes = [json.loads(row["attributes"] or "{}") for row in rows]
    return kinds([row["op"] for row in rows], attributes, [row["latency_us"] * (row["n_networks"] or 1) for row in rows])


def _kernel_name(row: Row) -> str:
    return f"{'+'.join(row['fused_ops'] or [row['op']])} {' '.join('x'.join(map(str, shape)) for shape in row['out_shapes'] or ())}".strip()


def _network_name(one: TableInput, row: Row, position: int) -> str:
    if name := one.table.file_of(row):
        return name
    size = "" if row["macs"] is None else f", {number(row['macs'] / 1e6, 'M MACs', 3)}"
    return f"network {position + 1}{size}"
