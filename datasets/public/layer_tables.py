"""Published tables of layers as latency tables: a row for each layer of a space that the publication has an entry for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerclock.datasets.kernels import bytes_of, shapes_of
from layerclock.datasets.public.as_tables import published_provenance, published_target
from layerclock.datasets.table import LatencyTable
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.datasets.public.latencies import Settings
    from layerclock.interfaces import SearchSpace
    from layerclock.network import Layer

__all__ = ["PublishedLayer", "layer_table"]


@dataclass(frozen=True, slots=True)
class PublishedLayer:
    """What was published of one layer: its mean time, and where they are told its standard deviation and the number of samples.

    ``entries`` are the publication's own entries that the time is the sum of, as they stand there: they go into the row's attributes.
    """

    mean_us: float
    entries: Mapping[str, Any]
    std_us: float | None = None
    samples: int | None = None


def layer_table(
    space: SearchSpace,
    layers: Mapping[str, PublishedLayer],
    device: str,
    settings: Settings,
    source: str,
    licence: str,
    conditions: Mapping[str, str] | None = None,
) -> LatencyTable:
    """A table of the layers of ``space`` whose keys are in ``layers``; those that are not have no row, and the coverage tells it."""
    index = SiteIndex.of(space)
    rows = [_row(layer, layers[layer.key]) for layer in index.vocabulary if layer.key in layers]
    target = published_target(device, settings)
    return LatencyTable.from_rows(
        rows, target, space.name, index.digest, published_provenance(source, licence, conditions), additivity={},
        coverage={"layers_measured": float(len(rows)), "layers_of_the_space": float(len(index.vocabulary))},
    )  # fmt: skip


def _row(layer: Layer, published: PublishedLayer) -> dict[str, Any]:
    moved = bytes_of((*layer.inputs, *layer.outputs))
    return {
        "level": "layer",
        "role": "profiled",
        "key": layer.key,
        "op": layer.op,
        "attributes": json.dumps({**dict(layer.attributes), "published": dict(published.entries)}, sort_keys=True),
        "in_shapes": shapes_of(layer.inputs),
        "out_shapes": shapes_of(layer.outputs),
        "dtype": layer.outputs[0].dtype,
        "macs": layer.macs,
        "params": layer.params,
        "bytes": None if moved is None else moved + 4 * layer.params,
        "method": "as published",
        "n_samples": published.samples,
        "latency_us": published.mean_us,
        "mean_us": published.mean_us,
        "std_us": published.std_us,
        "status": "steady",
        "reason": "",
    }
