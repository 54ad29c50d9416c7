"""Designs and spaces of designs as YAML files.

A file holds ``kind: fpga`` or ``kind: array`` and the fields of that design, by name. Wherever a value stands, a space of designs may
have a list of values: a gene, named by its place, such as ``stages[0].tm``. ``boards`` and ``stages`` are lists of mappings; for a
number of them that is a gene itself, they are a mapping of ``count`` and of what ``each`` is like::

    stages: {count: [1, 2, 3], each: {tm: [16, 32, 64], tn: 8, lanes: [0, 32], ...}}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from layerclock.atomic import write_atomically
from layerclock.devices.accelerators.array_design import ArrayDesign
from layerclock.devices.accelerators.fpga_design import FpgaBatch, FpgaBoard, FpgaDesign, FpgaStage
from layerclock.devices.accelerators.rules import Rule, Value, Whole
from layerclock.errors import ArgumentError, GenomeError
from layerclock.space import Gene, GenomeArray, check_genomes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Design", "DesignSpace", "design_digest", "dump_design", "load_design", "load_design_space"]

Design = FpgaDesign | ArrayDesign

_KINDS: dict[str, type[FpgaDesign] | type[ArrayDesign]] = {"fpga": FpgaDesign, "array": ArrayDesign}
_PARTS: dict[str, type[FpgaBoard] | type[FpgaStage]] = {"boards": FpgaBoard, "stages": FpgaStage}
_MOST_PARTS = 64

Choices = tuple[Value, ...]


class DesignSpace:
    """All designs of a file, as genes: positions of choices, like the genes of a search space's networks.

    ``kind`` is ``fpga`` or ``array``. A design space without a list in it has no genes and one design.
    """

    def __init__(self, kind: str, leaves: Mapping[str, Choices], parts: Mapping[str, int]) -> None:
        self.kind = kind
        self._leaves = dict(leaves)
        self._parts = dict(parts)
        self.genes: tuple[Gene, ...] = tuple(Gene(path, choices) for path, choices in leaves.items() if len(choices) > 1)
        self.cardinality = np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)
        self._position = {gene.name: number for number, gene in enumerate(self.genes)}

    @property
    def digest(self) -> str:
        """Hash of the genes and of all that is fixed."""
        return hashlib.sha256(json.dumps([self.kind, self._leaves, self._parts], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Number of genomes; some may be the same design, see :meth:`canonical`."""
        size = 1
        for gene in self.genes:
            size *= len(gene.choices)
        return size

    def check(self, genomes: npt.ArrayLike) -> GenomeArray:
        """Return ``genomes`` as int64[D, G]; raises :class:`GenomeError` where one does not belong to the space."""
        return check_genomes(genomes, self.cardinality, [gene.name for gene in self.genes])

    def canonical(self, genomes: npt.ArrayLike) -> GenomeArray:
        """The genomes with the genes of boards and stages that are not there at their first choice: int64[D, G]."""
        checked = self.check(genomes)
        active = np.ones(checked.shape, dtype=bool)
        for part in self._parts:
            count = self._column(checked, f"{part}.count")
            for number, gene in enumerate(self.genes):
                if gene.name.startswith(f"{part}["):
                    active[:, number] = int(gene.name[len(part) + 1 : gene.name.index("]")]) < count
        return np.where(active, checked, 0)

    def design(self, genome: npt.ArrayLike) -> Design:
        """The design of one genome. A stage on a board that is not there stands on the last one."""
        checked = self.check(np.asarray(genome, dtype=np.int64)[None])[0]
        values = {
            path: choices[checked[self._position[path]]] if len(choices) > 1 else choices[0] for path, choices in self._leaves.items()
        }
        if self.kind == "array":
            return ArrayDesign(**values)  # type: ignore[arg-type]  # each was checked by its rule
        built: dict[str, list[Any]] = {}
        for part, made in _PARTS.items():
            rows = [{name: values[f"{part}[{number}].{name}"] for name in made.rules} for number in range(int(values[f"{part}.count"]))]
            for row in rows:
                if "board" in row:
                    row["board"] = min(int(row["board"]), len(built["boards"]) - 1)
            built[part] = [made(**row) for row in rows]  # type: ignore[arg-type]  # each was checked by its rule
        return FpgaDesign(tuple(built["boards"]), tuple(built["stages"]), int(values["bits"]))

    def batch(self, genomes: npt.ArrayLike) -> FpgaBatch:
        """The designs of D genomes as columns. Raises :class:`GenomeError` where the space is not one of FPGAs."""
        if self.kind != "fpga":
            raise GenomeError("columns are made of FPGA designs only", "take design() of each genome")
        checked = self.check(genomes)
        counts = {part: self._column(checked, f"{part}.count").astype(np.int64) for part in _PARTS}
        columns = {
            part: {
                name: np.stack([self._column(checked, f"{part}[{number}].{name}") for number in range(self._parts[part])], axis=1)
                for name in made.rules
            }
            for part, made in _PARTS.items()
        }
        stage = {name: values.astype(np.int64) for name, values in columns["stages"].items()}
        bits = self._column(checked, "bits").astype(np.int64)
        return FpgaBatch.of_columns(bits, stage, columns["boards"], counts["stages"], counts["boards"])

    def _column(self, genomes: GenomeArray, path: str) -> npt.NDArray[np.float64]:
        choices = np.array(self._leaves[path], dtype=np.float64)
        return choices[genomes[:, self._position[path]]] if len(choices) > 1 else np.full(len(genomes), choices[0])


def load_design(path: Path | str) -> Design:
    """The one design of a YAML file. Raises :class:`ArgumentError` with the place in the file, also where it holds several designs."""
    space = load_design_space(path)
    if space.genes:
        first = space.genes[0]
        raise ArgumentError(
            f"{path}: {first.name} has {len(first.choices)} choices, and so the file is a space of {space.size} designs",
            "give one value for each field",
        )
    return space.design(np.zeros(0, dtype=np.int64))


def load_design_space(path: Path | str) -> DesignSpace:
    """The designs of a YAML file. Raises :class:`ArgumentError` with the place in the file where it is not valid."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ArgumentError(f"cannot read the design {path}: {error.strerror}", "give a YAML file, such as those in examples/") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ArgumentError(f"{path} is not YAML: {problem}", "see the files in examples/") from error
    return _Reader(str(path)).space(content)


def dump_design(design: Design, path: Path | str) -> None:
    """Write a design as a file that :func:`load_design` reads. Raises :class:`~layerclock.errors.OutputError` if it cannot be written."""
    text = yaml.safe_dump(_plain(design), sort_keys=False)
    write_atomically(Path(path), lambda draft: draft.write_text(text))


def design_digest(design: Design) -> str:
    """Hash of a design: the same for the same numbers, however its file is written."""
    return hashlib.sha256(json.dumps(_plain(design), sort_keys=True).encode()).hexdigest()[:16]


def _plain(design: Design) -> dict[str, Any]:
    kind = next(name for name, made in _KINDS.items() if isinstance(design, made))
    content: dict[str, Any] = json.loads(json.dumps(asdict(design)))
    return {"kind": kind, **content}


class _Reader:
    """Turns a file's content into leaves, each a tuple of choices by its place in the file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._leaves: dict[str, Choices] = {}

    def space(self, content: object) -> DesignSpace:
        given = self._mapping(content, "")
        kind = given.pop("kind", None)
        if kind not in _KINDS:
            raise self._wrong("kind", f"is {kind!r}, not one of {', '.join(_KINDS)}")
        parts = {}
        if kind == "fpga":
            parts = {part: self._several(given.pop(part, None), part) for part in _PARTS}
        self._fields(given, _KINDS[kind], "")
        return DesignSpace(kind, self._leaves, parts)

    def _several(self, content: object, part: str) -> int:
        """Read a list of parts, or a count of equal ones; returns the largest number of them."""
        if isinstance(content, list):
            self._leaves[f"{part}.count"] = (len(content),)
            rows = content
        else:
            given = self._mapping(content, part)
            self._known(given, ("count", "each"), part)
            counts = self._choices(given.get("count"), Whole(1, _MOST_PARTS), f"{part}.count")
            rows = [given.get("each")] * max(int(count) for count in counts)
        if not 1 <= len(rows) <= _MOST_PARTS:
            raise self._wrong(part, f"holds {len(rows)} of them, not 1 to {_MOST_PARTS}")
        for number, row in enumerate(rows):
            place = f"{part}[{number}]"
            self._fields(self._mapping(row, place), _PARTS[part], f"{place}.")
        return len(rows)

    def _fields(self, given: dict[str, object], made: type[Any], prefix: str) -> None:
        rules: Mapping[str, Rule] = made.rules
        defaults = {field.name: field.default for field in fields(made)}
        self._known(given, tuple(rules), prefix.removesuffix("."))
        for name, rule in rules.items():
            value = given.get(name, defaults[name])
            if value is MISSING:
                raise self._wrong(f"{prefix}{name}", "is missing")
            self._choices(value, rule, f"{prefix}{name}")

    def _choices(self, content: object, rule: Rule, place: str) -> Choices:
        values: list[Any] = content if isinstance(content, list) else [content]
        for position, value in enumerate(values):
            problem = rule.problem(value)
            if problem:
                raise self._wrong(f"{place}[{position}]" if isinstance(content, list) else place, problem)
        if not values or len(set(values)) < len(values):
            raise self._wrong(place, "has no choice" if not values else "names a choice twice")
        self._leaves[place] = tuple(values)
        return self._leaves[place]

    def _mapping(self, content: object, place: str) -> dict[str, object]:
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise self._wrong(place or "the file", f"is {type(content).__name__}, not a mapping of fields")
        return dict(content)

    def _known(self, given: dict[str, object], names: tuple[str, ...], place: str) -> None:
        unknown = sorted(given.keys() - set(names))
        if unknown:
            raise self._wrong(f"{place}.{unknown[0]}".removeprefix("."), f"is no field; there are {', '.join(names)}")

    def _wrong(self, place: str, problem: str) -> ArgumentError:
        return ArgumentError(f"{self._file}: {place} {problem}", "see the files in examples/")
