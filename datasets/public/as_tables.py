"""Published latencies as latency tables: one table a device, a row a network that it measured.

Only what was published is in them: a latency, and now and then a standard deviation. Everything that a campaign of ours would know besides
(samples, intervals, noise) is null.
"""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from layerclock.datasets.public.latencies import Settings
from layerclock.datasets.schema import SCHEMA, SCHEMA_VERSION
from layerclock.datasets.table import LatencyTable, Provenance
from layerclock.errors import TableError
from layerclock.plugins import load_space
from layerclock.space import SiteIndex
from layerclock.target import Target
from layerclock.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from layerclock.datasets.public.latencies import NamedLatencies, PublicLatencies
    from layerclock.space import GenomeArray

    FloatArray = npt.NDArray[np.float64]

__all__ = ["AS_PUBLISHED", "named_tables", "published_provenance", "published_target", "space_tables"]

AS_PUBLISHED = "as published"
_NOT_TOLD = "not told"


def published_target(device: str, settings: Settings | None = None) -> Target:
    """The target of published numbers: what is not known of it stays untold, so that it equals no measured target."""
    known = settings or Settings()
    return Target(device, AS_PUBLISHED, known.runtime, known.precision or _NOT_TOLD, None, known.batch)


def published_provenance(source: str, licence: str, conditions: Mapping[str, str] | None = None) -> Provenance:
    """Where imported numbers come from; ``conditions`` holds the source, since when they were measured is not known."""
    return Provenance(
        tool=f"layerclock {VERSION}",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        started_utc="",
        written_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=licence,
        conditions={"source": source, **(conditions or {})},
    )


def space_tables(latencies: PublicLatencies) -> list[LatencyTable]:
    """A table for each device with at least one latency; networks that a device did not measure have no row in its table.

    Raises :class:`~layerclock.errors.UnknownNameError` if there is no such space, and :class:`~layerclock.errors.GenomeError` if a
    genome is not of it.
    """
    space = load_space(latencies.space)
    index = SiteIndex.of(space)
    genomes = index.check(latencies.genomes)
    shared = {
        "role": pa.array(["profiled"] * len(genomes)),
        "key": pa.array([" ".join(map(str, row)) for row in genomes.tolist()]),
        "op": pa.array([space.name] * len(genomes)),
        "attributes": pa.array(_decoded(index, genomes)),
        "genome": pa.array(genomes.tolist(), pa.list_(pa.int64())),
        "macs": pa.array(index.macs(genomes)),
        "params": pa.array(index.params(genomes)),
    }
    untold = np.full(latencies.latency_ms.shape, np.nan)
    return _tables(latencies, shared, untold, space.name, index.digest)


def named_tables(latencies: NamedLatencies) -> list[LatencyTable]:
    """The same for networks of no space: rows without a genome, in tables whose space is the collection's name and has no digest."""
    shared = {
        "role": pa.array(np.where(latencies.holdout, "holdout", "profiled").tolist(), pa.string()),
        "key": pa.array(latencies.names, pa.string()),
        "op": pa.array(latencies.kinds, pa.string()),
        "attributes": pa.array(latencies.facts, pa.string()),
    }
    return _tables(latencies, shared, latencies.std_ms, latencies.collection, "")


def _tables(
    latencies: PublicLatencies | NamedLatencies, shared: Mapping[str, pa.Array], std_ms: FloatArray, space: str, digest: str
) -> list[LatencyTable]:
    provenance = published_provenance(latencies.source, latencies.licence)
    tables = []
    for column, device in enumerate(latencies.devices):
        measured = np.flatnonzero(np.isfinite(latencies.latency_ms[:, column]))
        if not len(measured):
            continue
        target = published_target(device, latencies.settings.get(device))
        latency_us, std_us = latencies.latency_ms[measured, column] * 1e3, std_ms[measured, column] * 1e3
        columns = {name: values.take(pa.array(measured)) for name, values in shared.items()}
        columns |= {"latency_us": pa.array(latency_us), "std_us": pa.array(std_us, from_pandas=True)}
        # A published standard deviation goes with a mean.
        columns["mean_us"] = pa.array(np.where(np.isnan(std_us), np.nan, latency_us), from_pandas=True)
        tables.append(LatencyTable(_rows(columns, len(measured), target), {target.id: target}, space, digest, provenance))
    if not tables:
        raise TableError(f"{latencies.source} holds no latency of any device", "give the published files")
    return tables


def _rows(columns: Mapping[str, pa.Array], number: int, target: Target) -> pa.Table:
    constant: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "level": "network",
        "batch": target.batch,
        "method": "end-to-end",
        "n_networks": 1,
        "status": "steady",
        "reason": "",
        "target_id": target.id,
        "device": target.device,
        "runtime_version": f"{target.runtime} {target.runtime_version}",
        "threads": target.threads,
        "affinity": "",
    }
    untold = {field.name: pa.repeat(pa.scalar(constant.get(field.name), field.type), number) for field in SCHEMA}
    return pa.Table.from_arrays([columns.get(field.name, untold[field.name]).cast(field.type) for field in SCHEMA], schema=SCHEMA)


def _decoded(index: SiteIndex, genomes: GenomeArray) -> list[str]:
    """``index.decode`` of each genome as JSON with sorted keys."""
    order = sorted(range(len(index.genes)), key=lambda number: index.genes[number].name)
    texts = [[f"{json.dumps(gene.name)}: {json.dumps(choice)}" for choice in gene.choices] for gene in index.genes]
    active = index.active(genomes)[:, order].tolist()
    return [
        "{" + ", ".join(texts[gene][row[gene]] for gene, alive in zip(order, alive_row, strict=True) if alive) + "}"
        for row, alive_row in zip(genomes.tolist(), active, strict=True)
    ]
