"""A campaign's folder: what was asked for, and every measurement as a small file of its own.

``campaign.json`` says what is measured; ``parts/<network>-<round>.parquet`` holds one network's raw samples of one
round. Parts appear whole or not at all, so that a campaign can be stopped at any moment and goes on where it was.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from layerclock.atomic import make_folder, write_atomically
from layerclock.errors import CampaignError
from layerclock.interfaces import KernelTimes
from layerclock.network import Kernel, TensorSpec
from layerclock.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["CampaignFolder", "CampaignRecord", "Measurement"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """What a campaign measures: enough to resume it and to refuse another one in its folder."""

    space: str
    space_digest: str
    target: Target
    profiled: tuple[tuple[int, ...], ...]
    holdout: tuple[tuple[int, ...], ...]
    rounds: int
    runs: int
    command: str
    started_utc: str

    @property
    def genomes(self) -> tuple[tuple[int, ...], ...]:
        """Profiled networks first, then the held-out ones; their position is the network's number."""
        return self.profiled + self.holdout


@dataclass(frozen=True)
class Measurement:
    """Raw samples of one network in one round; ``kernels`` is absent for a held-out network."""

    network: int
    round: int
    end_to_end_ns: npt.NDArray[np.float64]
    kernels: KernelTimes | None = None
    failure: str = ""


class CampaignFolder:
    """Reads and writes the folder of one campaign."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def table_path(self) -> Path:
        """Where the campaign's latency table is written."""
        return self.path / "table.parquet"

    def start(self, record: CampaignRecord) -> CampaignRecord:
        """Make the folder, or check that the campaign already in it is the same one; returns the record in force.

        Raises :class:`CampaignError` if the folder holds another campaign.
        """
        make_folder(self.path / "parts")
        file = self.path / "campaign.json"
        if not file.exists():
            if any((self.path / "parts").iterdir()):
                raise CampaignError(f"{self.path} holds parts but no campaign.json to say of what", "choose another folder with -o")
            text = json.dumps({"format": _FORMAT, **asdict(record)}, indent=1)
            write_atomically(file, lambda draft: draft.write_text(text))
            return record
        present = self.record()
        changed = [name for name in _IDENTITY if getattr(present, name) != getattr(record, name)]
        if present.target != record.target:
            differing = present.target.differences(record.target)
            changed = [f"{name} ({own} there, {now} now)" for name, (own, now) in differing.items()] + changed
        if changed:
            raise CampaignError(
                f"{self.path} holds another campaign: it differs in {', '.join(changed[:4])}", "choose another folder with -o"
            )
        return present

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from measuring into this folder; the lock ends with the process, however it ends.

        Raises :class:`CampaignError` if another one holds it.
        """
        make_folder(self.path)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CampaignError(
                    f"another process is measuring into {self.path}", "wait for it, or choose another folder with -o"
                ) from error
            yield

    def record(self) -> CampaignRecord:
        """The campaign of this folder. Raises :class:`CampaignError` if there is none or it cannot be read."""
        file = self.path / "campaign.json"
        try:
            fields: dict[str, Any] = json.loads(file.read_text())
            if fields.pop("format") != _FORMAT:
                raise CampaignError(f"{file} has a format that this version does not know", "use the version that wrote it")
            fields["target"] = Target.from_json(json.dumps(fields["target"]))
            for name in ("profiled", "holdout"):
                fields[name] = tuple(tuple(map(int, genome)) for genome in fields[name])
            return CampaignRecord(**fields)
        except FileNotFoundError as error:
            raise CampaignError(f"{self.path} holds no campaign", "start one with: layerclock profile") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CampaignError(f"cannot read {file}: {error}", "choose another folder with -o") from error

    def _part(self, network: int, round_number: int) -> Path:
        return self.path / "parts" / f"{network:05d}-{round_number:03d}.parquet"

    def has(self, network: int, round_number: int) -> bool:
        """Whether this network was measured in this round (or failed for good)."""
        return self._part(network, round_number).exists()

    def add(self, measurement: Measurement) -> None:
        """Write one measurement. Raises :class:`~layerclock.errors.OutputError` if the disk refuses."""
        rows = [{"kind": "end_to_end", "samples_ns": measurement.end_to_end_ns.tolist()}]
        if measurement.kernels is not None:
            for kernel, samples in zip(measurement.kernels.kernels, measurement.kernels.samples_ns.T, strict=True):
                rows.append({"kind": "kernel", "kernel": json.dumps(asdict(kernel)), "samples_ns": samples.tolist()})
        table = pa.Table.from_pylist(rows, schema=_PART_SCHEMA).replace_schema_metadata(
            {"failure": measurement.failure, "network": str(measurement.network), "round": str(measurement.round)}
        )
        write_atomically(self._part(measurement.network, measurement.round), lambda draft: pq.write_table(table, draft))

    def measurements(self) -> Iterator[Measurement]:
        """All measurements, network by network and round by round. Raises :class:`CampaignError` on a damaged part."""
        for path in sorted((self.path / "parts").glob("*.parquet")):
            try:
                table = pq.read_table(path)
                rows = table.to_pylist()
                network, round_number = map(int, path.stem.split("-"))
                written = table.schema.metadata or {}
                if (int(written[b"network"]), int(written[b"round"])) != (network, round_number):
                    raise ValueError("it holds another network or round than its name says")
                failure = written[b"failure"].decode()
                kernels = [row for row in rows if row["kind"] == "kernel"]
                times = None
                if kernels:
                    samples = np.array([row["samples_ns"] for row in kernels], dtype=np.float64).T
                    times = KernelTimes(tuple(_kernel(row["kernel"]) for row in kernels), samples)
                yield Measurement(network, round_number, np.array(rows[0]["samples_ns"], dtype=np.float64), times, failure)
            except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
                raise CampaignError(f"the part {path} is damaged: {error}", "delete this file and run the same command again") from error


_IDENTITY: Sequence[str] = ("space", "space_digest", "profiled", "holdout", "rounds", "runs")

_PART_SCHEMA = pa.schema([("kind", pa.string()), ("kernel", pa.string()), ("samples_ns", pa.list_(pa.float64()))])


def _kernel(text: str) -> Kernel:
    fields: dict[str, Any] = json.loads(text)
    for name in ("inputs", "outputs"):
        fields[name] = tuple(TensorSpec(tuple(spec["shape"]), spec["dtype"]) for spec in fields[name])
    fields["fused_ops"] = tuple(fields["fused_ops"])
    fields["attributes"] = tuple((name, value) for name, value in fields["attributes"])
    return Kernel(**fields)
