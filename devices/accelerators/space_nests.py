"""The loop nests of every layer that a search space can hold, read from exported networks that cover them, and cached.

A layer such as an inverted bottleneck is several convolutions. Which, its attributes tell only to those who know the space; the
exported networks tell it of any space, and each layer's own count of multiply-accumulates confirms it.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.accelerators.workload import LoopNest, NestColumns, model_nests
from layerclock.devices.cache import cache_folder
from layerclock.errors import SpaceError
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.interfaces import ModelFile, SearchSpace

__all__ = ["SpaceNests", "space_nests"]

# Part of the cache key: raise it when the same space gives other loop nests.
_VERSION = 1
# Networks are drawn so many at a time, and the one that covers most is exported; so many that show nothing new are the end.
_DRAWN, _PATIENCE = 512, 40


@dataclass(frozen=True)
class SpaceNests:
    """The loop nests of a space's layers: ``U`` distinct ones, and for each of the ``V`` distinct layers which it is made of.

    ``of_layer`` holds V tuples of numbers into ``nests``, in order of execution; a layer without multiply-accumulates has none.
    A cost that adds up over operators is therefore, for N genomes and D designs and ``cost`` float64[U, D]::

        index.counts(genomes) @ space_nests.counts @ cost  # [N, D]
    """

    nests: tuple[LoopNest, ...]
    of_layer: tuple[tuple[int, ...], ...]

    @property
    def columns(self) -> NestColumns:
        """The distinct loop nests as columns."""
        return NestColumns.of(self.nests)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each layer holds each loop nest: int64[V, U]."""
        counts = np.zeros((len(self.of_layer), len(self.nests)), dtype=np.int64)
        for layer, numbers in enumerate(self.of_layer):
            np.add.at(counts[layer], list(numbers), 1)
        return counts

    def sequences(self, index: SiteIndex, genomes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Numbers of each network's loop nests in order of execution, -1 behind the last: what pipelines are cut from. int64[N, L]."""
        longest = max(map(len, self.of_layer))
        table = np.array([[*numbers, *[-1] * (longest - len(numbers))] for numbers in (*self.of_layer, ())], dtype=np.int64)
        layers = index.layers(genomes)
        loose = table[layers].reshape(len(layers), -1)
        tight = np.take_along_axis(loose, np.argsort(loose < 0, axis=1, kind="stable"), axis=1)
        return tight[:, : int((loose >= 0).sum(axis=1).max(initial=0))]


def space_nests(space: SearchSpace, export: Callable[[npt.ArrayLike], ModelFile] | None = None) -> SpaceNests:
    """The loop nests of all layers of ``space``: from the cache, else from networks that ``export`` writes (the usual exporter).

    Raises :class:`SpaceError` if a layer's operators do not have the multiply-accumulates that the layer claims, and what
    exporting raises. Needs onnx, and torch unless it is in the cache.
    """
    index = SiteIndex.of(space)
    if any("uncounted" in dict(layer.attributes) for layer in index.vocabulary):
        raise SpaceError(
            f"the layers of {space.name} do not say what they multiply", "take the loop nests of its exported networks, one by one"
        )
    path = cache_folder() / "nests" / f"{index.digest}-{_VERSION}.json"
    if path.exists():
        held = json.loads(path.read_text())
        return SpaceNests(tuple(LoopNest(*row) for row in held["nests"]), tuple(map(tuple, held["of_layer"])))
    if export is None:
        from layerclock.devices.export import Exporter

        export = Exporter(space)
    found = _cover(space, index, export)
    numbers = {nest: number for number, nest in enumerate(dict.fromkeys(nest for nests in found for nest in nests))}
    nests = SpaceNests(tuple(numbers), tuple(tuple(numbers[nest] for nest in nests) for nests in found))
    _write(path, nests)
    return nests


def _write(path: Path, nests: SpaceNests) -> None:
    text = json.dumps({"nests": [astuple(nest) for nest in nests.nests], "of_layer": nests.of_layer})
    make_folder(path.parent)
    write_atomically(path, lambda draft: draft.write_text(text))


def _cover(space: SearchSpace, index: SiteIndex, export: Callable[[npt.ArrayLike], ModelFile]) -> list[tuple[LoopNest, ...]]:
    """Loop nests of each distinct layer, from as few networks as a greedy choice among random ones finds."""
    found: dict[int, tuple[LoopNest, ...]] = {number: () for number, layer in enumerate(index.vocabulary) if not layer.macs}
    generator = np.random.default_rng(0)
    seen: set[bytes] = set()
    vain = 0
    while len(found) < len(index.vocabulary) and vain < _PATIENCE:
        drawn = index.canonical(generator.integers(0, index.cardinality, (_DRAWN, len(index.genes))))
        fresh = np.array([row for row in drawn if row.tobytes() not in seen]).reshape(-1, len(index.genes))
        if not len(fresh):
            break
        wanted = np.ones(len(index.vocabulary), dtype=bool)
        wanted[list(found)] = False
        genome = fresh[((index.counts(fresh) > 0) & wanted).sum(axis=1).argmax()]
        seen.add(genome.tobytes())
        known = len(found)
        found |= _network(index, genome, export(genome))
        vain = 0 if len(found) > known else vain + 1
    missing = [number for number in range(len(index.vocabulary)) if number not in found]
    if missing:
        raise SpaceError(
            f"the operators of {space.name}'s layer {index.vocabulary[missing[0]].key} were not found in {len(seen)} exported networks",
            "its site must name the module in build(), and its macs count convolutions and matrix products",
        )
    return [found[number] for number in range(len(index.vocabulary))]


def _network(index: SiteIndex, genome: npt.NDArray[np.int64], model: ModelFile) -> dict[int, tuple[LoopNest, ...]]:
    """The layers of one network whose operators are all there; exporters drop what no output depends on."""
    at_site: dict[str, list[LoopNest]] = {}
    for placed in model_nests(model.path):
        at_site.setdefault(placed.site, []).append(placed.nest)
    whole = {}
    for site, number in zip(index.sites, index.layers(genome[None])[0], strict=True):
        nests = tuple(at_site.get(site.name, ()))
        if number >= 0 and sum(nest.macs for nest in nests) == index.vocabulary[number].macs:
            whole[int(number)] = nests
    return whole
