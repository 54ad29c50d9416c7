"""Latency tables: rows of measurements with the targets they are valid for, in one Parquet file. Needs pyarrow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from layerclock.atomic import write_atomically
from layerclock.datasets.bounded_parquet import read_bounded
from layerclock.datasets.json_rows import json_rows
from layerclock.datasets.schema import FAILED_LATER, FOOTER_KEY, LEVELS, ROLES, SCHEMA, SCHEMA_VERSION, STATUSES
from layerclock.errors import ArgumentError, TableError, TargetMismatchError
from layerclock.target import Target
from layerclock.timing import mean_known

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["LatencyTable", "NetworkTimes", "Provenance", "read_table", "table_of"]

# Parts of the footer that are numbers by name.
_MEASURED_PARTS = ("additivity", "interference", "coverage", "ceilings")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a table comes from. ``conditions`` are the machine's at the time; ``parents`` the hashes of merged tables."""

    tool: str
    command: str
    started_utc: str
    written_utc: str
    licence: str = "unspecified"
    conditions: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkTimes:
    """End-to-end measurements: genomes int64[N, G], latency_ms float64[N], noise_floor float64[N] (relative)."""

    genomes: npt.NDArray[np.int64]
    latency_ms: npt.NDArray[np.float64]
    noise_floor: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def mean_noise(self) -> float:
        """Mean of the noise floors, NaN where none is known: after a single round, or in what others published."""
        return mean_known(self.noise_floor)


@dataclass(frozen=True)
class LatencyTable:
    """Rows in the columns of :mod:`layerclock.datasets.schema`, with what stands in the footer.

    ``additivity`` compares, for the profiled networks, the sum of a network's layer rows with its end-to-end time;
    ``interference`` holds what was seen to disturb the machine (:meth:`layerclock.profiler.observations.Observed.interference`);
    ``coverage`` how many of the space's layers were measured; ``ceilings``, where they were measured, the device's best
    flops_per_s and bytes_per_s.
    """

    rows: pa.Table
    targets: Mapping[str, Target]
    space: str
    space_digest: str
    provenance: Provenance
    additivity: Mapping[str, float] = field(default_factory=dict)
    interference: Mapping[str, float] = field(default_factory=dict)
    coverage: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows.schema.names != SCHEMA.names:
            differing = sorted(set(self.rows.schema.names) ^ set(SCHEMA.names)) or ["their order"]
            raise TableError(f"the rows do not have the columns of schema {SCHEMA_VERSION}: {', '.join(differing[:4])}")
        for name, allowed in (("level", LEVELS), ("role", ROLES), ("status", STATUSES), ("target_id", tuple(self.targets))):
            strange = [value for value in pc.unique(self.rows[name]).to_pylist() if value not in allowed]
            if strange:
                raise TableError(f"column {name!r} holds {strange[0]!r}", f"allowed: {', '.join(allowed)}")

    @classmethod
    def from_rows(
        cls, rows: Sequence[Mapping[str, Any]], target: Target, space: str, space_digest: str, provenance: Provenance,
        additivity: Mapping[str, float], interference: Mapping[str, float] | None = None, coverage: Mapping[str, float] | None = None,
    ) -> LatencyTable:  # fmt: skip
        """A table of one target; the columns that follow from the target are filled in here."""
        constant = {
            "schema_version": SCHEMA_VERSION,
            "target_id": target.id,
            "device": target.device,
            "runtime_version": f"{target.runtime} {target.runtime_version}",
            "threads": target.threads,
            "batch": target.batch,
            "affinity": provenance.conditions.get("affinity", ""),
        }
        table = pa.Table.from_pylist([{**row, **constant} for row in rows], schema=SCHEMA)
        return cls(table, {target.id: target}, space, space_digest, provenance, additivity, interference or {}, coverage or {})

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def target(self) -> Target:
        """The one target of the table; raises :class:`TargetMismatchError` if it holds several."""
        if len(self.targets) != 1:
            raise TargetMismatchError(
                f"the table holds {len(self.targets)} targets: {', '.join(self.targets)}",
                "take one: layerclock table query DATASET --target ID -o FILE, or table.of_target(ID) in Python",
            )
        return next(iter(self.targets.values()))

    def of_target(self, identity: str) -> LatencyTable:
        """The rows of one of the table's targets, by its id, as a table that names this one as its parent.

        Raises :class:`~layerclock.errors.ArgumentError` for a target that the table does not hold.
        """
        if identity not in self.targets:
            raise ArgumentError(f"the table holds no target {identity!r}", f"it holds {', '.join(self.targets)}")
        rows = self.rows.filter(pc.equal(self.rows["target_id"], identity))
        provenance = replace(self.provenance, parents=(self.content_hash,))
        # What was seen of all targets together is not told of one.
        return LatencyTable(rows, {identity: self.targets[identity]}, self.space, self.space_digest, provenance)

    @property
    def content_hash(self) -> str:
        """SHA-256 over rows and targets; what the provenance says does not change it."""
        digest = hashlib.sha256()
        for text in sorted(target.to_json() for target in self.targets.values()):
            digest.update(text.encode())
        for text in json_rows(self.rows):
            digest.update(text.encode())
        return digest.hexdigest()

    def level(self, level: str) -> pa.Table:
        """The rows of one level: ``layer``, ``kernel`` or ``network``."""
        return self.rows.filter(pc.equal(self.rows["level"], level))

    def file_of(self, network: Mapping[str, Any]) -> str:
        """The name of the file that a network's row tells of, without its ending; empty in a table of another space than files."""
        if not self.space.startswith("onnx:"):
            return ""
        # A single file is no choice, and the row does not tell it; the names of several cannot be told apart in the space's.
        return str(json.loads(network["attributes"] or "{}").get("model", self.space.removeprefix("onnx:")))

    def to_pandas(self, level: str | None = None) -> pd.DataFrame:
        """The rows (of one level) as a data frame."""
        frame: pd.DataFrame = (self.rows if level is None else self.level(level)).to_pandas()
        return frame

    def layer_latencies_us(self) -> dict[str, float]:
        """Latency of each measured layer by key; failed rows are not among them."""
        rows = self.level("layer")
        found = zip(rows["key"].to_pylist(), rows["latency_us"].to_pylist(), strict=True)
        return {key: latency for key, latency in found if latency is not None}

    def failures(self) -> list[str]:
        """Why networks failed, one reason a network, those that were measured in earlier rounds included."""
        rows = self.level("network").select(["status", "reason"]).to_pylist()
        return [row["reason"] or "" for row in rows if row["status"] == "failed" or (row["reason"] or "").startswith(FAILED_LATER)]

    def networks(self, role: str = "profiled") -> NetworkTimes:
        """End-to-end times of the networks of one role; failed ones are left out, and those of no space, which have no genome.

        Raises :class:`TableError` if their genomes are of several lengths.
        """
        rows = self.level("network")
        rows = rows.filter(pc.is_valid(rows["genome"]))
        lengths = pc.unique(pc.list_value_length(rows["genome"])).to_pylist()
        if len(lengths) > 1:
            raise TableError(f"the networks' genomes are of {len(lengths)} lengths", "they are of several spaces: use the original file")
        genes = lengths[0] if lengths else 0
        rows = rows.filter(pc.and_(pc.equal(rows["role"], role), pc.is_valid(rows["latency_us"])))
        genomes = np.array(rows["genome"].to_pylist(), dtype=np.int64)
        latency_us = rows["latency_us"].to_numpy(zero_copy_only=False).astype(np.float64)
        noise = rows["noise_floor"].to_numpy(zero_copy_only=False).astype(np.float64)
        return NetworkTimes(genomes.reshape(len(rows), genes), latency_us / 1e3, noise)

    @property
    def noise_floor(self) -> float:
        """Mean relative noise of the end-to-end times, NaN after a single round: no predictor can show a smaller mean error."""
        return mean_known(np.concatenate([self.networks(role).noise_floor for role in ROLES]))

    def footer(self) -> dict[str, Any]:
        """What stands in a file's footer, as JSON takes it: targets, space, provenance, content hash, and what was seen."""
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.space,
            "space_digest": self.space_digest,
            "targets": [asdict(target) for target in self.targets.values()],
            "provenance": asdict(self.provenance),
            "additivity": dict(self.additivity),
            "interference": dict(self.interference),
            "coverage": dict(self.coverage),
            "ceilings": dict(self.ceilings),
            "content_hash": self.content_hash,
        }

    def write(self, path: Path | str) -> None:
        """Write one Parquet file, whole or not at all. Raises :class:`~layerclock.errors.OutputError`."""
        footer = self.footer()
        rows = self.rows.replace_schema_metadata({FOOTER_KEY: json.dumps(footer)})
        write_atomically(Path(path), lambda draft: pq.write_table(rows, draft, compression="zstd", write_page_checksum=True))


def read_table(path: Path | str) -> LatencyTable:
    """Read a latency table and check it against its content hash.

    Raises :class:`TableError` if the file is absent, truncated, of another kind or newer schema, or was changed.
    """
    file = Path(path)
    if not file.is_file():
        raise TableError(f"there is no table {file}", "layerclock profile writes <folder>/table.parquet")
    try:
        rows = read_bounded(file)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TableError(f"{file} is no readable Parquet file: {first}", "it may be truncated: copy it again") from error
    try:
        footer: dict[str, Any] = json.loads((rows.schema.metadata or {})[FOOTER_KEY])
    except KeyError as error:
        raise TableError(f"{file} is Parquet, but no latency table: {error} is missing", "layerclock profile makes one") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{file} has a damaged footer: {error}", "copy it again, or profile again") from error
    return table_of(rows, footer, str(file))


def table_of(rows: pa.Table, footer: Any, source: str) -> LatencyTable:
    """The table of rows and a footer as :meth:`LatencyTable.footer` gives it, checked against its content hash.

    Raises :class:`TableError`, which names ``source``, if they are not of a table, of a newer schema, or were changed.
    """
    try:
        version = int(footer["schema_version"])
        if version < 1:
            raise ValueError(f"there is no schema {version}")
        if version > SCHEMA_VERSION:
            raise TableError(f"{source} has schema {version}; this version reads up to {SCHEMA_VERSION}", "update layerclock")
        provenance = {**footer["provenance"], "parents": tuple(footer["provenance"]["parents"])}
        table = LatencyTable(
            _in_schema(rows),
            _targets(footer["targets"]),
            _text(footer["space"]),
            _text(footer["space_digest"]),
            Provenance(**{name: _words(value) for name, value in provenance.items()}),
            *({name: float(value) for name, value in footer[part].items()} for part in _MEASURED_PARTS),
        )
        written_hash = _text(footer["content_hash"])
    except KeyError as error:
        raise TableError(f"{source} is Parquet, but no latency table: {error} is missing", "layerclock profile makes one") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError, pa.ArrowException) as error:
        raise TableError(f"{source} has a damaged footer: {error}", "copy it again, or profile again") from error
    if table.content_hash != written_hash:
        raise TableError(f"{source} was changed after it was written: its content hash differs", "use the original file")
    return table


def _in_schema(rows: pa.Table) -> pa.Table:
    """The columns of the schema, whose types may be as another writer had them, if numbers are numbers and texts texts."""
    rows = rows.select(SCHEMA.names)
    for written, own in zip(rows.schema, SCHEMA, strict=True):
        if pa.types.is_string(own.type) and (pa.types.is_integer(written.type) or pa.types.is_floating(written.type)):
            raise TypeError(f"the column {own.name!r} holds no texts")
    return rows.cast(SCHEMA)


def _words(value: Any) -> Any:
    """What the provenance may hold: a text, several, or texts by name."""
    if isinstance(value, dict):
        return {str(key): str(text) for key, text in value.items()}
    return tuple(map(_text, value)) if isinstance(value, tuple) else _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:60]} is no text")
    return value


def _targets(written: Iterable[Mapping[str, Any]]) -> dict[str, Target]:
    targets = [Target.from_json(json.dumps(fields)) for fields in written]
    return {target.id: target for target in targets}
