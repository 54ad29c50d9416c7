"""What searches found: every evaluation, the fronts over each other, and the layers of the networks on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.reports.documents import Fact, Missing, Section, number, rounded
from layerclock.reports.inputs import space_index

if TYPE_CHECKING:
    from layerclock.reports.inputs import SearchInput, TableInput
    from layerclock.search.saved_search import SavedMeasure, SavedSearch
    from layerclock.space import SiteIndex

__all__ = ["fronts"]

_STOPPED = {
    "budget": "all evaluations made",
    "exhausted": "the space holds no further network",
    "stalled": "no proposed network met the constraints any more",
    "failed": "the first evaluations all failed",
    "": "still running, or interrupted",
}


def fronts(searches: list[SearchInput], tables: list[TableInput]) -> Section:
    """The searches' evaluations in columns, and of each network of a front its choices and layers."""
    section = Section(words={"searches": []}, drawings={"searches": []})
    if not searches:
        space = next((one.table.space for one in tables if not one.table.space.startswith("onnx:")), "ofa-mobilenetv3")
        command = f"layerclock search --space {space} --objective params --objective latency:cpu.onnx -o runs/s"
        section.missing.append(Missing("What a search found", "no search was given", command))
    for one in searches:
        search = one.search
        found, source = _layers(one, tables)
        section.words["searches"].append({"name": one.name, "facts": _facts(search), "measured_on": search.measured_on})
        section.drawings["searches"].append({
            "name": one.name,
            "measures": [_measure(measure) for measure in search.measures],
            "feasible": search.feasible.tolist(),
            "front": np.flatnonzero(search.front).tolist(),
            "measured": {str(evaluation): value for evaluation, value in search.measured_ms.items() if math.isfinite(value)},
            "measured_on": search.measured_on,
            "networks": found,
            "layers_from": source,
        })  # fmt: skip
        section.tiles.append(_tile(one))
        if not search.front.any():
            section.missing.append(Missing(f"The front of {one.name}", "no evaluated network satisfies every constraint",
                                           "layerclock search with weaker --constraint, or more --evaluations"))  # fmt: skip
        elif not any(network["layers"] for network in found):
            section.missing.append(Missing(f"Layers of the networks that {one.name} found",
                                           f"the space {search.space} is not installed here",
                                           "pip install the package that offers it"))  # fmt: skip
        elif not source:
            section.missing.append(Missing(f"Layer times of the networks that {one.name} found", "no table of this space was given",
                                           f"layerclock report {one.path} runs/x/table.parquet"))  # fmt: skip
        if not search.measured_on and " on " not in search.space:
            section.missing.append(Missing(f"The front of {one.name} as measured", "it was predicted only",
                                           "layerclock search ... --measure DEVICE (the same command goes on)"))  # fmt: skip
    return section


def _measure(measure: SavedMeasure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "unit": measure.unit,
        "source": measure.source,
        "maximise": measure.maximise,
        "values": rounded(measure.values.tolist(), 6),
        "lower": None if measure.lower is None else rounded(measure.lower.tolist(), 6),
        "upper": None if measure.upper is None else rounded(measure.upper.tolist(), 6),
    }


def _facts(search: SavedSearch) -> list[Fact]:
    facts = [
        Fact("Space", search.space),
        Fact("Algorithm", f"{search.algorithm}, seed {search.seed}"),
        Fact("Evaluated", f"{len(search)} of {search.budget} networks", note=_STOPPED.get(search.stopped, search.stopped)),
        Fact("On the front", str(int(search.front.sum()))),
        Fact("Constraints", ", ".join(search.constraints) or "none"),
    ]
    if search.failed or search.rejected:
        facts.append(Fact("Not evaluated", f"{search.failed} failed, {search.rejected} turned down by cheap constraints"))
    for goal in search.objectives:
        values = goal.values[search.front]
        if len(values):
            better = "higher" if goal.maximise else "lower"
            span = f"{number(float(values.min()))} to {number(float(values.max()), goal.unit)}"
            facts.append(Fact(goal.name, span, note=f"on the front; {better} is better; {goal.source}"))
    return facts


def _tile(one: SearchInput) -> Fact:
    best = []
    for goal in one.search.objectives[:2]:
        values = goal.values[one.search.front]
        if len(values):
            best.append(f"{goal.name} {number(float(values.max() if goal.maximise else values.min()), goal.unit, 3)}")
    return Fact(f"Front of {one.name}", f"{int(one.search.front.sum())} networks", "", "best " + ", ".join(best) if best else "")


def _layers(one: SearchInput, tables: list[TableInput]) -> tuple[list[dict[str, Any]], str]:
    """Of each network of the front: its choices, and [site, kind, time in us, low, high, MACs] of each layer; whose times these are."""
    search = one.search
    rows = np.flatnonzero(search.front)
    index = _index(search)
    table = _table_of(search, tables, index)
    times = {} if table is None else {
        row["key"]: rounded((row["latency_us"], row["interval_low_us"], row["interval_high_us"]))
        for row in table.table.level("layer").to_pylist() if row["latency_us"] is not None
    }  # fmt: skip
    found = []
    for row in rows.tolist():
        layers: list[list[Any]] = []
        if index is not None:
            placed = index.network(search.genomes[row, : len(index.genes)]).layers
            layers = [[one.site, one.layer.key, *times.get(one.layer.key, (None, None, None)), one.layer.macs] for one in placed]
        config = {name: str(value) for name, value in search.configs[row].items()}
        found.append({"evaluation": row, "config": config, "layers": layers})
    return found, table.name if table is not None else ""


def _index(search: SavedSearch) -> SiteIndex | None:
    """The space of the networks; of a pair of network and design, that of the network, whose genes come first."""
    index = space_index(search.space, search.digest)
    if index is None and " on " in search.space:
        index = space_index(search.space.partition(" on ")[0])
    return index if index is None or len(index.genes) <= search.genomes.shape[1] else None


def _table_of(search: SavedSearch, tables: list[TableInput], index: SiteIndex | None) -> TableInput | None:
    """The table whose folder or name the search's predictor bears, else the first of the same space."""
    if index is None:
        return None
    fitting = [one for one in tables if one.table.space_digest == index.digest]
    sources = " ".join(measure.source for measure in search.measures)
    return next((one for one in fitting if one.name in sources or str(one.path.parent) in sources), next(iter(fitting), None))
