"""Tables and predictors as an enemy, or a bad disk, would leave them: every kind of damage, drawn from a seed."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hostile_models import MODEL_EDITS, on_model
from hostile_tables import TABLE_EDITS, on_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Mutant", "mutants"]

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file's content, how it came about, and which readers it is for: ``table``, ``predictor`` or ``kernelwise``."""

    reader: str
    kind: str
    content: bytes


class _TouchesTripwire:
    """What unpickling it would run."""

    def __init__(self, tripwire: str) -> None:
        self.tripwire = tripwire

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.tripwire, "w")


def mutants(originals: dict[str, bytes], number: int, tripwire: Path, seed: int = 0) -> list[Mutant]:
    """``number`` mutants of ``originals`` (by reader), kinds in turn.

    Whatever runs code of the file makes ``tripwire`` exist.
    """
    rng = np.random.default_rng(seed)
    anything: dict[str, Callable[[bytes, Random], bytes]] = {
        "truncated": lambda content, rng: content[: int(rng.integers(0, len(content)))],
        "one bit flipped": lambda content, rng: _flipped(content, rng, 1),
        "many bits flipped": lambda content, rng: _flipped(content, rng, int(rng.integers(2, 200))),
        "a stretch of zeros": lambda content, rng: _overwritten(content, rng, 0),
        "a stretch of ones": lambda content, rng: _overwritten(content, rng, 255),
        "a stretch left out": _cut,
        "a stretch twice": _doubled,
        "the end flipped": lambda content, rng: content[:-600] + _flipped(content[-600:], rng, 3),
        "the start flipped": lambda content, rng: _flipped(content[:200], rng, 3) + content[200:],
        "followed by noise": lambda content, rng: content + rng.bytes(int(rng.integers(1, 4000))),
        "noise": lambda content, rng: rng.bytes(len(content)),
        "pickle": lambda _, __: pickle.dumps(_TouchesTripwire(str(tripwire))),
        "pickle in front": lambda content, _: pickle.dumps(_TouchesTripwire(str(tripwire))) + content,
        "zip bomb": lambda _, __: _zip_bomb(),
        "torch file": lambda _, __: _torch_like(tripwire),
    }
    menus: dict[str, dict[str, Callable[[bytes, Random], bytes]]] = {
        "table": {**anything, **{name: on_table(edit) for name, edit in TABLE_EDITS.items()}},
        "predictor": {**anything, **{name: on_model(edit) for name, edit in MODEL_EDITS.items()}},
        "kernelwise": {**anything, **{name: on_model(edit) for name, edit in MODEL_EDITS.items()}},
    }
    order = ("table", "predictor", "table", "kernelwise")
    made: list[Mutant] = []
    turns = dict.fromkeys(menus, 0)
    while len(made) < number:
        reader = order[len(made) % len(order)]
        names = list(menus[reader])
        kind = names[turns[reader] % len(names)]
        turns[reader] += 1
        made.append(Mutant(reader, kind, menus[reader][kind](originals[reader], rng)))
    return made


def _flipped(content: bytes, rng: Random, bits: int) -> bytes:
    changed = bytearray(content)
    for position in rng.integers(0, 8 * len(content), bits).tolist():
        changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def _stretch(content: bytes, rng: Random) -> tuple[int, int]:
    start = int(rng.integers(0, len(content)))
    return start, min(len(content), start + int(rng.integers(1, 400)))


def _overwritten(content: bytes, rng: Random, value: int) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + bytes([value]) * (end - start) + content[end:]


def _cut(content: bytes, rng: Random) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + content[end:]


def _doubled(content: bytes, rng: Random) -> bytes:
    start, end = _stretch(content, rng)
    return content[:end] + content[start:]


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(50_000_000))
    return file.getvalue()


def _torch_like(tripwire: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_TouchesTripwire(str(tripwire))))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()
