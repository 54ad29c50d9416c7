"""What differs between two latency tables: targets, layers and whole networks that both measured."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from layerclock.reports.documents import Fact, Missing, Section, percent, rounded
from layerclock.reports.time_spent import layer_names, row_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.reports.inputs import TableInput

    Row = Mapping[str, Any]

__all__ = ["differences"]

_SHOWN = 12


def differences(tables: list[TableInput]) -> Section:
    """The first two tables held against each other; nothing is mixed, so that their targets may differ."""
    if len(tables) < 2 or not all(one.table.targets for one in tables[:2]):
        return Section()
    first, second = tables[:2]
    layers, networks = (_both(first, second, level) for level in ("layer", "network"))
    target = next(iter(first.table.targets.values())).differences(next(iter(second.table.targets.values())))
    words: dict[str, Any] = {
        "first": first.name,
        "second": second.name,
        "targets": [{"name": name.replace("_", " "), "first": str(own), "second": str(other)} for name, (own, other) in target.items()],
        "facts": _facts(first, second, layers, networks),
        "largest": _largest(layers),
        "others": [one.name for one in tables[2:]],
    }
    section = Section(words={"difference": words}, drawings={"difference": None})
    if not layers:
        section.missing.append(
            Missing(
                f"Layers of {first.name} against those of {second.name}",
                "they measured no layer in common",
                "layerclock profile --device DEVICE -o runs/y "
                + ("THE-SAME-FILES.onnx" if first.table.space.startswith("onnx:") else f"--space {first.table.space}"),
            )
        )
        return section
    section.drawings["difference"] = {"first": first.name, "second": second.name, "layers": _columns(layers), "kinds": _by_kind(layers)}
    return section


def _both(first: TableInput, second: TableInput, level: str) -> list[tuple[Row, Row]]:
    """Rows of one level that both tables measured, by key; networks only where they are of one space."""
    if level == "network" and first.table.space_digest != second.table.space_digest:
        return []
    theirs = {row["key"]: row for row in second.table.level(level).to_pylist() if row["latency_us"]}
    ours = [row for row in first.table.level(level).to_pylist() if row["latency_us"]]
    return [(row, theirs[row["key"]]) for row in ours if row["key"] in theirs]


def _ratio(pairs: list[tuple[Row, Row]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([theirs["latency_us"] / ours["latency_us"] for ours, theirs in pairs])


def _facts(first: TableInput, second: TableInput, layers: list[tuple[Row, Row]], networks: list[tuple[Row, Row]]) -> list[Fact]:
    facts = [
        Fact("Noise floors", f"{percent(first.table.noise_floor, 2)} and {percent(second.table.noise_floor, 2)}"),
        Fact("Layers in both", str(len(layers))),
        Fact("Networks in both", str(len(networks))),
    ]
    for name, pairs in (("layers", layers), ("networks", networks)):
        if len(pairs) < 3:
            continue
        ratio = _ratio(pairs)
        low, middle, high = np.quantile(ratio, [0.05, 0.5, 0.95])
        facts.append(
            Fact(f"{second.name} / {first.name}, {name}", f"{middle:.2f} times", note=f"median; nine in ten from {low:.2f} to {high:.2f}")
        )
        order = stats.spearmanr([ours["latency_us"] for ours, _ in pairs], [theirs["latency_us"] for _, theirs in pairs]).statistic
        facts.append(Fact(f"Same order of {name}", f"{order:.3f}", note="Spearman: 1 where both devices agree which is faster"))
    return facts


def _largest(layers: list[tuple[Row, Row]]) -> list[dict[str, Any]]:
    """The layers whose ratio is farthest from the usual one, relative to what the intervals allow."""
    if not layers:
        return []
    ratio = _ratio(layers)
    usual = float(np.median(ratio))
    names = layer_names([ours for ours, _ in layers])
    order = np.argsort(-np.abs(np.log(ratio / usual)))[:_SHOWN]
    return [
        {"name": names[one], "first": f"{layers[one][0]['latency_us']:.4g}", "second": f"{layers[one][1]['latency_us']:.4g}",
         "ratio": f"{ratio[one]:.2f}", "apart": f"{(ratio[one] / usual - 1) * 100:+.0f} %"}
        for one in order.tolist()
    ]  # fmt: skip


def _columns(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    return {
        "name": layer_names([ours for ours, _ in pairs]),
        "op": row_kinds([ours for ours, _ in pairs]),
        **{
            f"{side}_{field}": rounded(pair[position][column] for pair in pairs)
            for position, side in enumerate(("first", "second"))
            for field, column in (("us", "latency_us"), ("low", "interval_low_us"), ("high", "interval_high_us"))
        },
    }  # fmt: skip


def _by_kind(layers: list[tuple[Row, Row]]) -> list[dict[str, Any]]:
    """Quantiles of the ratio for each kind of layer."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for kind, ratio in zip(row_kinds([ours for ours, _ in layers]), _ratio(layers).tolist(), strict=True):
        kinds[kind].append(ratio)
    return [
        {"name": name, "layers": len(ratios), "low": low, "middle": middle, "high": high}
        for name, ratios in sorted(kinds.items(), key=lambda item: -len(item[1]))
        for low, middle, high in (np.quantile(ratios, [0.1, 0.5, 0.9]).tolist(),)
    ]
