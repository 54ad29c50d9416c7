"""How good predictors are on measured networks: errors with intervals, by kind of layer, by choice, and what they cover."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.errors import LayerclockError
from layerclock.predictors.evaluate import Evaluation, evaluate
from layerclock.predictors.evaluate_kernels import evaluate_kernelwise
from layerclock.predictors.portable import OnnxPredictor
from layerclock.predictors.portable_kernels import KernelPredictor
from layerclock.reports.documents import Fact, Missing, Section, percent, rounded
from layerclock.reports.kinds import kinds

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.predictors.evaluate_kernels import KernelEvaluation
    from layerclock.reports.inputs import PredictorInput, TableInput

    FloatArray = npt.NDArray[np.float64]

__all__ = ["quality"]

_MOST_GENES = 6


def quality(predictors: list[PredictorInput], tables: list[TableInput]) -> Section:
    """One block a predictor, on the first table that it can be held against."""
    section = Section(words={"predictors": []}, drawings={"predictors": []})
    if not predictors:
        path = tables[0].path if tables else "runs/x/table.parquet"
        section.missing.append(Missing("How good a predictor is", "no predictor was given", f"layerclock fit {path} -o cpu.onnx"))
    for one in predictors:
        card = one.predictor.card
        block: dict[str, Any] = {"name": one.name, "card": _card(one), "facts": [], "on": "", "kind": card.kind}
        reasons = []
        for table in tables:
            try:
                evaluation, drawing, extra = _judge(one, table)
            except LayerclockError as error:
                reasons.append(f"{table.name}: {error.message}")
                continue
            block |= {"facts": _facts(evaluation, extra), "on": f"{evaluation.networks} networks of {table.name}"}
            section.drawings["predictors"].append({"name": one.name, "floor": _or_none(evaluation.noise_floor), **drawing})
            section.tiles.append(_tile(one.name, evaluation))
            break
        else:
            why = "; ".join(reasons) or "no table was given"
            command = f"layerclock report {one.path} TABLE-OF-{card.target.device}.parquet"
            section.missing.append(Missing(f"How good {one.name} is", why, command))
        section.words["predictors"].append(block)
    return section


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _tile(name: str, evaluation: Evaluation) -> Fact:
    """The tone is by what stands beside every error: the noise of the truth."""
    floor = np.nan_to_num(evaluation.noise_floor)
    tone = "good" if evaluation.mean_error <= max(0.05, 2 * floor) else "fair" if evaluation.mean_error <= 0.1 else "bad"
    return Fact(f"Error of {name}", percent(evaluation.mean_error, 2), tone, f"mean over {evaluation.networks} networks")


def _card(one: PredictorInput) -> list[Fact]:
    card = one.predictor.card
    facts = [
        Fact("Kind", card.kind),
        Fact("Valid for", str(card.target)),
        Fact("Fitted on", f"{card.fitted_on_networks} networks"),
        Fact("Noise floor of these", percent(card.noise_floor, 2)),
    ]
    if isinstance(one.predictor, OnnxPredictor):
        facts.insert(1, Fact("Space", one.predictor.card.space))
    return facts


def _facts(found: Evaluation, extra: list[Fact]) -> list[Fact]:
    inside = abs(found.interval_coverage - found.interval_level) <= 0.1
    return [
        Fact("Mean error", percent(found.mean_error, 2), note=f"noise floor of the truth {percent(found.noise_floor, 2)}"),
        Fact("Largest error", percent(found.largest_error)),
        Fact("Within 5 % / 10 %", f"{found.within_5_percent:.0%} / {found.within_10_percent:.0%}".replace("%", " %")),
        Fact("Spearman / Kendall", f"{found.spearman:.3f} / {found.kendall:.3f}"),
        Fact("Inside the interval", percent(found.interval_coverage, 0), "good" if inside else "fair",
             f"meant: {percent(found.interval_level, 0)}"),
        *extra,
    ]  # fmt: skip


def _judge(one: PredictorInput, table: TableInput) -> tuple[Evaluation, dict[str, Any], list[Fact]]:
    """Raises what :func:`evaluate` raises where the two do not belong together."""
    if isinstance(one.predictor, KernelPredictor):
        found = evaluate_kernelwise(one.predictor, table.table)
        return found.networks, _kernelwise(found), [Fact("Known kernels", percent(found.coverage, 0), note="of the time")]
    role = "holdout" if len(table.table.networks("holdout")) >= 2 else "profiled"
    evaluation = evaluate(one.predictor, table.table, role)
    truth = table.table.networks(role)
    predicted = one.predictor.predict(truth.genomes)
    error = predicted.latency_ms / truth.latency_ms - 1
    drawing = {
        "role": {"holdout": "networks that the predictor never saw", "profiled": "the networks that it was fitted on"}[role],
        "names": [f"network {position + 1}" for position in range(len(truth))],
        "measured": rounded(truth.latency_ms.tolist()),
        "noise": rounded((truth.noise_floor * truth.latency_ms).tolist()),
        "predicted": rounded(predicted.latency_ms.tolist()),
        "lower": rounded(predicted.lower_ms.tolist()),
        "upper": rounded(predicted.upper_ms.tolist()),
        "kinds": _by_kind(table, truth.genomes, error),
        "kinds_title": "Error by kind of layer, weighted by its time in each network",
        "choices": _by_choice(one.predictor, table, truth.genomes, error),
        "choices_title": "Error by choice: the genes with the largest differences",
    }
    coverage = [Fact("Layers covered", percent(float(predicted.coverage.mean()), 0), note="mean over the networks")]
    return evaluation, drawing, coverage


def _group(name: str, error: FloatArray, weights: FloatArray, share: float | None = None) -> dict[str, Any]:
    """Weighted mean of signed and of absolute errors in percent, with the standard error of the signed one."""
    weights = weights / weights.sum()
    signed = float(weights @ error)
    deviation = float(np.sqrt((weights**2) @ (error - signed) ** 2))
    return {
        "name": name,
        "signed": round(signed * 100, 3),
        "error": round(float(weights @ np.abs(error)) * 100, 3),
        "deviation": round(1.645 * deviation * 100, 3),
        "share": share,
    }


def _by_kind(table: TableInput, genomes: npt.NDArray[np.int64], error: FloatArray) -> list[dict[str, Any]]:
    """Errors of whole networks, weighted by the time that layers of each kind take in them: only wholes were measured."""
    if table.index is None:
        return []
    latency = table.table.layer_latencies_us()
    times = table.index.counts(genomes) * np.array([latency.get(layer.key, 0.0) for layer in table.index.vocabulary])
    layers = table.index.vocabulary
    named = kinds([layer.op for layer in layers], [dict(layer.attributes) for layer in layers], times.sum(axis=0).tolist())
    spent_in: dict[str, FloatArray] = defaultdict(lambda: np.zeros(len(genomes)))
    for column, name in enumerate(named):
        spent_in[name] = spent_in[name] + times[:, column]
    total = times.sum()
    known = [(name, spent) for name, spent in spent_in.items() if spent.sum() > 0]
    known.sort(key=lambda item: -float(item[1].sum()))
    return [_group(name, error, spent, float(spent.sum() / total)) for name, spent in known]


def _by_choice(
    predictor: OnnxPredictor, table: TableInput, genomes: npt.NDArray[np.int64], error: FloatArray
) -> list[dict[str, Any]]:  # fmt: skip
    """Mean errors of the networks that took each choice of a gene, for the genes whose choices differ most against chance."""
    active = table.index.active(genomes) if table.index is not None else np.ones(genomes.shape, dtype=np.bool_)
    found: list[tuple[float, list[dict[str, Any]]]] = []
    for column, gene in enumerate(predictor.card.genes):
        groups = []
        for position, choice in enumerate(gene.choices):
            here = active[:, column] & (genomes[:, column] == position)
            if here.sum() >= 3:
                groups.append({**_group(f"{gene.name} = {choice}", error[here], np.ones(int(here.sum()))), "networks": int(here.sum())})
        if len(groups) > 1:
            spread = np.ptp([group["signed"] for group in groups]) / (max(group["deviation"] for group in groups) + 1e-9)
            found.append((float(spread), groups))
    found.sort(key=lambda item: -item[0])
    return [group for _, groups in found[:_MOST_GENES] for group in groups]


def _kernelwise(found: KernelEvaluation) -> dict[str, Any]:
    return {
        "role": "networks that were profiled kernel by kernel",
        "names": list(found.names),
        "measured": rounded(found.measured_ms.tolist()),
        "noise": rounded((found.noise_floor * found.measured_ms).tolist()),
        "predicted": rounded(found.predicted_ms.tolist()),
        "lower": rounded(found.lower_ms.tolist()),
        "upper": rounded(found.upper_ms.tolist()),
        "kinds": [
            {"name": name, "signed": signed * 100, "error": error * 100, "deviation": None, "share": share}
            for name, (signed, error, _, share) in sorted(found.by_kernel_family.items(), key=lambda item: -item[1][3])
        ],
        "kinds_title": "Error by family of kernel, weighted by time",
        "choices": [
            {"name": name, "signed": signed * 100, "error": error * 100, "deviation": None, "networks": networks}
            for name, (signed, error, networks) in found.by_network_family.items()
        ],
        "choices_title": "Error by family of network",
    }
