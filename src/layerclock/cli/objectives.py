"""What the words of ``--objective`` mean."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerclock.cli.measured import AS_USUAL, MeasuredLatency, Wishes
from layerclock.cli.trust import tell_distrust
from layerclock.errors import ArgumentError, PredictorError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import find_devices, load_evaluator, load_space, open_device
from layerclock.search.objective import Objective, accuracy_objective, latency_objective, macs_objective, params_objective
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from layerclock.interfaces import AccuracyEvaluator, Predictor, SearchSpace

__all__ = ["HELP", "is_of_generation", "parse_objectives", "word"]

HELP = (
    "accuracy:EVALUATOR, latency:PREDICTOR.onnx, latency:TABLE.parquet, latency:DEVICE (measured), "
    "latency:ENCODER.onnx+LENGTH*DECODER.onnx (generation), macs or params."
)

_GENERATION = re.compile(r"(.+\.onnx)\+([0-9]+)\*(.+\.onnx)")


def is_of_generation(text: str) -> bool:
    """Whether an objective is the latency of a generated sequence, which no single run of a network takes."""
    kind, _, what = text.partition(":")
    return kind == "latency" and _GENERATION.fullmatch(what) is not None


def parse_objectives(
    texts: Sequence[str],
    space: SearchSpace,
    index: SiteIndex,
    folder: Path,
    evaluator: Callable[[str], AccuracyEvaluator] = load_evaluator,
    wishes: Wishes = AS_USUAL,
) -> list[Objective]:
    """The objectives that the user wrote; several latencies are told apart by the names of their files or devices, and where these are
    the same, of their folders.

    ``evaluator`` makes accuracy evaluators of their names, ``wishes`` are for devices that measure.

    Raises :class:`ArgumentError` for a text that is none, and what loading evaluators, predictors, tables and devices raises.
    """
    names = _latency_names([text.partition(":")[2] for text in texts if text.startswith("latency:")])
    objectives = []
    for text in texts:
        kind, _, what = text.partition(":")
        if kind not in ("accuracy", *_KINDS) or bool(what) != (kind in ("accuracy", "latency")):
            raise ArgumentError(f"--objective {text!r} is none", HELP)
        known = _accuracy(evaluator(what), what, space, index) if kind == "accuracy" else _KINDS[kind](what, space, index, folder, wishes)
        made = replace(known, source=f"{text} {known.source}".rstrip())
        objectives.append(replace(made, name=names[what]) if kind == "latency" else made)
    return objectives


def _latency_names(said: Sequence[str]) -> dict[str, str]:
    if len(set(said)) < 2:
        return dict.fromkeys(said, "latency_ms")
    parts = {what: (*Path(what).parts[:-1], Path(what).stem) for what in said}
    names: dict[str, str] = {}
    for depth in range(1, 1 + max(map(len, parts.values()))):
        names = {what: f"latency_{word('_'.join(each[-depth:]))}_ms" for what, each in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def word(text: str) -> str:
    """The text with an underscore for all but letters and digits: for names of files and objectives."""
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def _latency(what: str, space: SearchSpace, index: SiteIndex, folder: Path, wishes: Wishes) -> Objective:
    if found := _GENERATION.fullmatch(what):
        return latency_objective(_generation(found[1], found[3], int(found[2]), space))
    if what.endswith(".parquet"):
        return _by_table(what, space)
    if what.endswith(".onnx"):
        return latency_objective(_predictor(what, space, index))
    if what in [entry.name for entry in find_devices()]:
        device = open_device(what, wishes.over(DeviceOptions()))
        measured = MeasuredLatency(device, space, folder / f"measured-{word(what)}")
        return Objective("latency_ms", measured, unit="ms", target=device.target, source=device.target.id, together=True)
    raise ArgumentError(
        f"--objective 'latency:{what}' is neither a file nor a device", "PREDICTOR.onnx, TABLE.parquet, or a name of `layerclock devices`"
    )


def _by_table(what: str, space: SearchSpace) -> Objective:
    from layerclock.datasets.table import read_table
    from layerclock.predictors.fitting import fit

    table = read_table(what)
    tell_distrust(what, table)
    # A fit anew may differ in its last digits: it is the table that has to be the same.
    return replace(latency_objective(fit(table, space)), source=table.content_hash[:12])


def _predictor(what: str, space: SearchSpace, index: SiteIndex) -> Predictor:
    from layerclock.predictors.portable import load

    predictor = load(what)
    if predictor.card.space_digest != index.digest:
        raise PredictorError(f"{what} predicts networks of {predictor.card.space!r}, not of {space.name!r}", "search the predictor's space")
    return predictor


def _generation(encoder: str, decoder: str, length: int, space: SearchSpace) -> Predictor:
    """The predictor of a generated sequence, of whose parts each must be for that part of the searched space."""
    from layerclock.predictors.portable import load
    from layerclock.search.generation import generation_latency

    name, _, written = space.name.partition(":")
    others = [parameter for parameter in written.split(",") if parameter and not parameter.startswith("part=")]
    predictors = load(encoder), load(decoder)
    for what, predictor, part in ((encoder, predictors[0], "encoder"), (decoder, predictors[1], "decoder")):
        wanted = f"{name}:{','.join([f'part={part}', *others])}"
        try:
            digest = SiteIndex.of(load_space(wanted)).digest
        except ArgumentError:
            raise ArgumentError(
                f"a network of {space.name!r} has no {part} of its own, and generates nothing",
                "latency:PREDICTOR.onnx, without a second one",
            ) from None
        if predictor.card.space_digest != digest:
            raise PredictorError(
                f"{what} predicts networks of {predictor.card.space!r}, not of {wanted!r}",
                "the encoder's predictor stands first; search their space with the same sizes and lengths",
            )
    return generation_latency(*predictors, length)


def _accuracy(evaluator: AccuracyEvaluator, what: str, space: SearchSpace, index: SiteIndex) -> Objective:
    own = getattr(evaluator, "space", None)
    if own is not None and SiteIndex.of(own).digest != index.digest:
        raise ArgumentError(
            f"the evaluator {what!r} judges networks of {own.name!r}, not of {space.name!r}", "search the evaluator's space"
        )
    return accuracy_objective(evaluator, cheap=bool(getattr(evaluator, "cheap", False)))


_KINDS: dict[str, Callable[[str, SearchSpace, SiteIndex, Path, Wishes], Objective]] = {
    "latency": _latency,
    "macs": lambda _what, _space, index, _folder, _wishes: macs_objective(index),
    "params": lambda _what, _space, index, _folder, _wishes: params_objective(index),
}
