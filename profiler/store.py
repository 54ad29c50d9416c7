"""A campaign's folder: what was asked for, and every measurement as a small file of its own.

``campaign.json`` says what is measured; ``parts/<network>-<round>.parquet`` holds one network's raw samples of one
round, with what was seen of the machine around each run. Parts appear whole or not at all, so that a campaign can be
stopped at any moment and goes on where it was.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.atomic import locked, make_folder, write_atomically
from layerclock.errors import CampaignError
from layerclock.interfaces import KernelTimes
from layerclock.network import Kernel, TensorSpec
from layerclock.profiler.measurement import Measurement, Watched
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["CampaignFolder", "CampaignRecord", "Done"]

_FORMAT = 3


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """What a campaign measures: enough to resume it and to refuse another one in its folder."""

    space: str
    space_digest: str
    target: Target
    profiled: tuple[tuple[int, ...], ...]
    holdout: tuple[tuple[int, ...], ...]
    runs: int
    affinity: tuple[int, ...]
    command: str
    started_utc: str
    calibration: tuple[tuple[int, ...], ...] = ()

    @property
    def genomes(self) -> tuple[tuple[int, ...], ...]:
        """Profiled networks first, then the held-out ones and those for calibration; their position is the network's number."""
        return self.profiled + self.holdout + self.calibration

    def role(self, number: int) -> str:
        """What the network of this number was measured for: one of :data:`~layerclock.datasets.schema.ROLES`."""
        known = number - len(self.profiled)
        return "profiled" if known < 0 else "holdout" if known < len(self.holdout) else "calibration"

    def loading_order(self) -> list[int]:
        """The networks' numbers, those of each role spread evenly between the others."""
        roles = (self.profiled, self.holdout, self.calibration)
        place = [(position + 0.5) / len(role) for role in roles for position in range(len(role))]
        return sorted(range(len(place)), key=place.__getitem__)


@dataclass(frozen=True, slots=True)
class Done:
    """What a folder holds already: the rounds of each network, the networks that failed, and the seconds spent so far."""

    rounds: Mapping[int, frozenset[int]]
    failed: frozenset[int]
    spent_s: float


class CampaignFolder:
    """Reads and writes the folder of one campaign."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log(self) -> Path:
        """What the runtimes said while they measured."""
        return self.path / "runtime.log"

    @property
    def table_path(self) -> Path:
        """Where the campaign's latency table is written."""
        return self.path / "table.parquet"

    def start(self, record: CampaignRecord) -> CampaignRecord:
        """Make the folder, or check that the campaign already in it is the same one; returns the record in force.

        A campaign without held-out networks may go on with further profiled ones behind those that it has.
        Raises :class:`CampaignError` if the folder holds another campaign.
        """
        make_folder(self.path / "parts")
        file = self.path / "campaign.json"
        if not file.exists():
            if any((self.path / "parts").iterdir()):
                raise CampaignError(f"{self.path} holds parts but no campaign.json to say of what", "choose another folder with -o")
            self._write(record)
            return record
        present = self.record()
        before = len(present.profiled)
        if not (present.holdout or present.calibration) and len(record.profiled) > before and record.profiled[:before] == present.profiled:
            longer = replace(present, profiled=record.profiled)
        else:
            longer = present
        changed = [name for name in _IDENTITY if getattr(longer, name) != getattr(record, name)]
        if present.target != record.target:
            differing = present.target.differences(record.target)
            changed = [f"{name} ({own} there, {now} now)" for name, (own, now) in differing.items()] + changed
        if changed:
            raise CampaignError(
                f"{self.path} holds another campaign: it differs in {', '.join(changed[:4])}", "choose another folder with -o"
            )
        if longer is not present:
            self._write(longer)
        return longer

    def _write(self, record: CampaignRecord) -> None:
        text = json.dumps({"format": _FORMAT, **asdict(record)}, indent=1)
        write_atomically(self.path / "campaign.json", lambda draft: draft.write_text(text))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from measuring into this folder; the lock ends with the process, however it ends.

        Raises :class:`CampaignError` if another one holds it.
        """
        busy = CampaignError(f"another process is measuring into {self.path}", "wait for it, or choose another folder with -o")
        with locked(self.path, busy):
            # Left by a process that was killed while it wrote.
            for draft in (*(self.path / "parts").glob(".*"), *self.path.glob(".table.parquet.*"), *self.path.glob(".campaign.json.*")):
                draft.unlink(missing_ok=True)
            yield

    def record(self) -> CampaignRecord:
        """The campaign of this folder. Raises :class:`CampaignError` if there is none or it cannot be read."""
        file = self.path / "campaign.json"
        try:
            fields: dict[str, Any] = json.loads(file.read_text())
            if fields.pop("format") != _FORMAT:
                raise CampaignError(f"{file} has a format that this version does not know", "use the version that wrote it")
            fields["target"] = Target.from_json(json.dumps(fields["target"]))
            for name in ("profiled", "holdout", "calibration"):
                fields[name] = tuple(tuple(map(int, genome)) for genome in fields.get(name, ()))
            fields["affinity"] = tuple(map(int, fields["affinity"]))
            return CampaignRecord(**fields)
        except FileNotFoundError as error:
            raise CampaignError(f"{self.path} holds no campaign", "start one with: layerclock profile") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CampaignError(f"cannot read {file}: {error}", "choose another folder with -o") from error

    def _part(self, network: int, round_number: int) -> Path:
        return self.path / "parts" / f"{network:05d}-{round_number:03d}.parquet"

    def _parts(self) -> Iterator[tuple[Path, int, int]]:
        """Each part with its network and round, in order. Raises :class:`CampaignError` for a name that is none."""
        for path in sorted((self.path / "parts").glob("*.parquet")):
            try:
                network, round_number = map(int, path.stem.split("-"))
            except ValueError as error:
                raise CampaignError(f"{path} is no part of this campaign", "delete this file and run the same command again") from error
            yield path, network, round_number

    def done(self) -> Done:
        """What was measured so far, from the footers of the parts. Raises :class:`CampaignError` on a damaged one."""
        rounds: dict[int, set[int]] = {}
        failed = set()
        sittings: dict[str, float] = {}
        for path, network, round_number in self._parts():
            with _naming(path):
                written = _footer(pq.read_schema(path), network, round_number)
                rounds.setdefault(network, set()).add(round_number)
                if written["failure"]:
                    failed.add(network)
                sittings[written["sitting"]] = max(sittings.get(written["sitting"], 0.0), float(written["sitting_s"]))
        return Done({network: frozenset(seen) for network, seen in rounds.items()}, frozenset(failed), sum(sittings.values()))

    def forget_failures(self) -> None:
        """Drop the parts that say why a network could not be measured, so that it is tried again."""
        for path, network, round_number in list(self._parts()):
            with _naming(path):
                if _footer(pq.read_schema(path), network, round_number)["failure"]:
                    path.unlink()

    def add(self, measurement: Measurement, sitting: str = "", sitting_s: float = 0.0) -> None:
        """Write one measurement; ``sitting`` names the process that measures, ``sitting_s`` is its age in seconds.

        Raises :class:`~layerclock.errors.OutputError` if the disk refuses.
        """
        rows: list[dict[str, Any]] = [
            {"kind": "rest", "samples_ns": measurement.rest_ns},
            {"kind": "warm_up", "samples_ns": measurement.warm_up_ns},
            {"kind": "end_to_end", "samples_ns": measurement.end_to_end_ns, **_written(measurement.watched)},
        ]
        if measurement.kernels is not None and measurement.kernels_watched is not None:
            rows.append({"kind": "counted", **_written(measurement.kernels_watched)})
            for kernel, samples in zip(measurement.kernels.kernels, measurement.kernels.samples_ns.T, strict=True):
                rows.append({"kind": "kernel", "kernel": _kernel_text(kernel), "samples_ns": samples})
        footer = {
            "network": measurement.network,
            "round": measurement.round,
            "failure": measurement.failure,
            "board": measurement.board,
            "facts": dict(measurement.facts),
            "sitting": sitting,
            "sitting_s": sitting_s,
        }
        table = pa.Table.from_pylist(rows, schema=_PART_SCHEMA).replace_schema_metadata({_PART_KEY: json.dumps(footer)})
        write_atomically(self._part(measurement.network, measurement.round), lambda draft: pq.write_table(table, draft))

    def measurements(self) -> Iterator[Measurement]:
        """Everything measured so far. Raises :class:`CampaignError` on a damaged part, and names it."""
        for path, network, round_number in self._parts():
            with _naming(path):
                table = pq.read_table(path)
                written = _footer(table.schema, network, round_number)
                rows = table.to_pylist()
                by_kind = {row["kind"]: row for row in rows}
                kernels = [row for row in rows if row["kind"] == "kernel"]
                times = watched = None
                if kernels:
                    samples = np.array([row["samples_ns"] for row in kernels], dtype=np.float64).T
                    times = KernelTimes(tuple(_kernel(row["kernel"]) for row in kernels), samples)
                    watched = _watched(by_kind["counted"])
                measurement = Measurement(
                    network, round_number, np.array(by_kind["end_to_end"]["samples_ns"], dtype=np.float64), _watched(by_kind["end_to_end"]),
                    times, watched, np.array(by_kind["warm_up"]["samples_ns"], dtype=np.float64),
                    np.array(by_kind["rest"]["samples_ns"], dtype=np.float64), written["facts"], written["failure"],
                    written.get("board", ""),
                )  # fmt: skip
            yield measurement


_IDENTITY: Sequence[str] = ("space", "space_digest", "profiled", "holdout", "calibration", "runs", "affinity")

_PART_KEY = b"measurement"
_NUMBERS = pa.list_(pa.float64())
_PART_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("kernel", pa.string()),
        ("samples_ns", _NUMBERS),
        ("before_ns", _NUMBERS),
        ("after_ns", _NUMBERS),
        ("switches", pa.list_(pa.int64())),
    ]
)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what a damaged part raises into an error that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CampaignError(f"the part {path} is damaged: {error}", "delete this file and run the same command again") from error


def _footer(schema: pa.Schema, network: int, round_number: int) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((schema.metadata or {})[_PART_KEY])
    if (written["network"], written["round"]) != (network, round_number):
        raise ValueError("it holds another network or round than its name says")
    return written


def _written(watched: Watched) -> dict[str, Any]:
    return {"before_ns": watched.before_ns, "after_ns": watched.after_ns, "switches": watched.switches}


def _watched(row: Mapping[str, Any]) -> Watched:
    return Watched(
        np.array(row["before_ns"], dtype=np.float64),
        np.array(row["after_ns"], dtype=np.float64),
        np.array(row["switches"], dtype=np.int64),
    )


@lru_cache(maxsize=4096)
def _kernel_text(kernel: Kernel) -> str:
    return json.dumps(asdict(kernel))


@lru_cache(maxsize=4096)
def _kernel(text: str) -> Kernel:
    fields: dict[str, Any] = json.loads(text)
    for name in ("inputs", "outputs", "weights"):
        fields[name] = tuple(TensorSpec(tuple(spec["shape"]), spec["dtype"]) for spec in fields[name])
    fields["fused_ops"] = tuple(fields["fused_ops"])
    fields["attributes"] = tuple((name, value) for name, value in fields["attributes"])
    return Kernel(**fields)
