"""HW-NAS-Bench (Li et al., ICLR 2021, arXiv:2103.10584): latencies of NAS-Bench-201's cells, and a table of FBNet's layers.

Format, after `hw_nas_bench_api.py` of https://github.com/GATECH-EIC/HW-NAS-Bench: one pickle. Under "nasbench201", for each data set, a
list of milliseconds for each "<device>_latency", and under "config" the "arch_str" of each. Under "fbnet", for each "<device>_latency",
milliseconds by layer; the layers' names are put together from their sizes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.datasets.plain_pickle import read_plain_pickle
from layerclock.datasets.public.as_tables import space_tables
from layerclock.datasets.public.codes import CELLS, FBNET_SPACE, from_arch_strings, space_or
from layerclock.datasets.public.latencies import PublicLatencies, Settings
from layerclock.datasets.public.layer_tables import PublishedLayer, layer_table
from layerclock.errors import TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.network import Layer

__all__ = ["CELL_SPACES", "LAYER_SPACES", "hw_nas_bench_tables", "read_hw_nas_bench"]

SOURCE = "https://github.com/GATECH-EIC/HW-NAS-Bench"
_LICENCE = "MIT"
_REMEDY = f"give HW-NAS-Bench-v1_0.pickle of {SOURCE}"

# Its data sets, and the spaces of the networks for them.
CELL_SPACES = {"cifar10": CELLS, "cifar100": f"{CELLS}:classes=100", "ImageNet16-120": f"{CELLS}:resolution=16,classes=120"}
_IDLE = re.compile(r"Skip_H\d+_W\d+_Cin(\d+)_Cout\1_stride1")
LAYER_SPACES = (FBNET_SPACE, "fbnet")


def hw_nas_bench_tables(path: Path, space: str = "") -> list[LatencyTable]:
    """All that the file holds, or what it holds for ``space``: networks of NAS-Bench-201, layers of FBNet.

    Raises :class:`TableError` if the file cannot be read or is not of that form, or holds nothing for ``space``.
    """
    held = read_plain_pickle(path)
    wanted = load_space(space).name if space else ""
    tables: list[LatencyTable] = []
    for dataset, name in CELL_SPACES.items():
        if wanted in ("", name):
            tables += space_tables(_cells(held, path, dataset, name))
    for name in LAYER_SPACES:
        if wanted in ("", name):
            tables += _layer_tables(held, path, name)
    if not tables:
        raise TableError(f"{path} holds nothing for {space}", f"it holds {', '.join((*CELL_SPACES.values(), *LAYER_SPACES))}")
    return tables


def read_hw_nas_bench(path: Path, dataset: str = "cifar10") -> PublicLatencies:
    """The latencies of NAS-Bench-201's networks for one of the data sets in :data:`CELL_SPACES`. Raises :class:`TableError`."""
    if dataset not in CELL_SPACES:
        raise TableError(f"HW-NAS-Bench has no data set {dataset!r}", f"data sets: {', '.join(CELL_SPACES)}")
    return _cells(read_plain_pickle(path), path, dataset, CELL_SPACES[dataset])


def _cells(held: Any, path: Path, dataset: str, name: str) -> PublicLatencies:
    try:
        metrics = held["nasbench201"][dataset]
        config = metrics["config"]
        ordered = [config[number] for number in range(len(config))]
        strings = [one["arch_str"] for one in ordered]
        columns = {key.removesuffix("_latency"): metrics[key] for key in metrics if key.endswith("_latency")}
        latency_ms = np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path} has no latencies of NAS-Bench-201 for {dataset}: {type(error).__name__} {error}", _REMEDY) from error
    space = space_or(name, CELLS, CELLS)
    return PublicLatencies(space.name, from_arch_strings(space, strings), latency_ms, tuple(columns), SOURCE, _LICENCE)


def _layer_tables(held: Any, path: Path, name: str) -> list[LatencyTable]:
    space = load_space(name)
    try:
        devices = {
            key.removesuffix("_latency"): {str(entry): float(time) for entry, time in times.items()}
            for key, times in held["fbnet"].items()
            if key.endswith("_latency")
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path} has no table of FBNet's layers: {type(error).__name__} {error}", _REMEDY) from error
    return [_layers(space, device, times, path) for device, times in devices.items()]


def _layers(space: SearchSpace, device: str, times_ms: Mapping[str, float], path: Path) -> LatencyTable:
    found = {}
    for layer in SiteIndex.of(space).vocabulary:
        entries = next((names for names in _names(layer) if all(name in times_ms for name in names)), None)
        if entries is None:
            raise TableError(f"{path} has no latency of {layer.key} on {device}", _REMEDY)
        used = {name: times_ms[name] for name in entries}
        if min(used.values()) < 0 or not 0 < sum(used.values()) < float("inf"):
            raise TableError(f"{path}: {layer.key} takes {sum(used.values())} ms on {device}", _REMEDY)
        found[layer.key] = PublishedLayer(1e3 * sum(used.values()), used)
    # Theirs is a time for a block that is skipped without a change of shape, too; in our space nothing stands there.
    idle = [time for name, time in times_ms.items() if _IDLE.fullmatch(name)]
    told = {"left_out": f"{len(idle)} skips that change no shape, of at most {max(idle)} ms"} if idle else {}
    return layer_table(space, found, device, Settings(), SOURCE, _LICENCE, told)


def _names(layer: Layer) -> tuple[tuple[str, ...], ...]:
    """The alternatives of what the file may call a layer; each is the names of entries that make it up together."""
    _, incoming, side, _ = layer.inputs[0].shape
    outgoing = layer.outputs[0].shape[1]
    size, has = f"H{side}_W{side}", dict(layer.attributes)
    if layer.op == "pool_linear":
        return ((f"AvgP_{size}_Cin{incoming}_Cout{incoming}_kernel{side}_stride1", f"FC_Cin{incoming}_Cout{outgoing}"),)
    channels = f"{size}_Cin{incoming}_Cout{outgoing}"
    if layer.op == "conv":
        return (f"ConvNorm_{channels}_kernel{has['k']}_stride{has['s']}_group1",), (f"Skip_{channels}_stride{has['s']}",)
    return ((f"ConvBlock_{channels}_exp{has['e']}_kernel{has['k']}_stride{has['s']}_group{has['g']}",),)
