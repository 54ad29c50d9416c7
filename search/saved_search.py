"""A search read back from its folder as it stands, without its space: what was evaluated, and the front."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from layerclock.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.search.objective import FloatArray
    from layerclock.space import Choice, GenomeArray

__all__ = ["FRONT_MEASURED", "SavedMeasure", "SavedSearch", "read_search"]

FRONT_MEASURED = "front_measured.csv"


@dataclass(frozen=True, slots=True, eq=False)
class SavedMeasure:
    """One objective, or metric beside them, of N evaluations.

    ``values`` float64[N] in ``unit``, NaN where the evaluation failed; ``lower`` and ``upper`` float64[N] of a prediction with an
    interval, else None. ``maximise`` is None for a metric, which has no direction.
    """

    name: str
    unit: str
    source: str
    maximise: bool | None
    values: FloatArray
    lower: FloatArray | None
    upper: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class SavedSearch:
    """Every evaluation of a search in order: ``genomes`` int64[N, G], ``configs`` the chosen values of each one's active genes,
    ``feasible`` and ``front`` bool[N]; ``measured_ms`` the front's latency as measured at the end, by evaluation, and on which device.
    """

    space: str
    digest: str
    algorithm: str
    seed: int
    budget: int
    rejected: int
    stopped: str
    constraints: tuple[str, ...]
    measures: tuple[SavedMeasure, ...]
    genomes: GenomeArray
    configs: tuple[Mapping[str, Choice], ...]
    feasible: npt.NDArray[np.bool_]
    front: npt.NDArray[np.bool_]
    failed: int
    measured_on: str
    measured_ms: Mapping[int, float]

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def objectives(self) -> tuple[SavedMeasure, ...]:
        """The measures that were searched for."""
        return tuple(measure for measure in self.measures if measure.maximise is not None)


def read_search(folder: Path | str) -> SavedSearch:
    """Read ``evaluations.parquet`` of a search or co-exploration, and ``front_measured.csv`` where there is one. Needs pyarrow.

    Raises :class:`SearchError` saying what is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / "evaluations.parquet"
    try:
        table = pq.read_table(path)
        said = json.loads((table.schema.metadata or {})[b"layerclock"])
        columns = {name: table[name].to_pylist() for name in table.column_names}
        measured_on, measured_ms = _measured(Path(folder) / FRONT_MEASURED, columns["genome"])
        return _search(said, columns, measured_on, measured_ms)
    except KeyError as error:
        raise SearchError(f"{path} is Parquet, but no search: {error} is missing", "layerclock search -o FOLDER writes one") from error
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise SearchError(f"{path} is no readable search: {first}", "it may be truncated: copy it again, or search again") from error


def _search(said: dict[str, Any], columns: dict[str, list[Any]], measured_on: str, measured_ms: dict[int, float]) -> SavedSearch:
    described = [(one, bool(one["maximise"])) for one in said["objectives"]] + [(one, None) for one in said["metrics"]]
    # A measure's column is its name, with the unit where the name does not end with it.
    of = {}
    for one, _ in described:
        column = next((name for name in columns if _is_column(name, one)), None)
        if column is None:
            raise KeyError(str(one["name"]))
        of[str(one["name"])] = column
    taken = {f"{of[name]}{end}" for name in of for end in ("", "_lower", "_upper")}
    genes = [name for name in columns if name not in taken | {"evaluation", "genome", "feasible", "pareto", "failure"}]
    genomes = np.array(columns["genome"], dtype=np.int64).reshape(len(columns["genome"]), -1 if columns["genome"] else 0)
    return SavedSearch(
        space=str(said["space"]), digest=str(said["digest"]), algorithm=str(said["algorithm"]), seed=int(said["seed"]),
        budget=int(said["budget"]), rejected=int(said["rejected"]), stopped=str(said["stopped"]),
        constraints=tuple(map(str, said["constraints"])),
        measures=tuple(
            SavedMeasure(
                str(one["name"]), str(one["unit"]), str(one["source"]), maximise, _numbers(columns[of[str(one["name"])]]),
                *(_numbers(columns[end]) if (end := f"{of[str(one['name'])]}_{side}") in columns else None for side in ("lower", "upper")),
            )
            for one, maximise in described
        ),
        genomes=genomes,
        configs=tuple({gene: columns[gene][row] for gene in genes if columns[gene][row] is not None} for row in range(len(genomes))),
        feasible=np.array(columns["feasible"], dtype=np.bool_),
        front=np.array(columns["pareto"], dtype=np.bool_),
        failed=sum(reason is not None for reason in columns["failure"]),
        measured_on=measured_on,
        measured_ms=measured_ms,
    )  # fmt: skip


def _is_column(name: str, described: dict[str, Any]) -> bool:
    return name in (described["name"], f"{described['name']}_{described['unit']}")


def _numbers(column: list[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in column], dtype=np.float64)


def _measured(path: Path, genomes: list[list[int]]) -> tuple[str, dict[int, float]]:
    """The device, and the measured times by number of evaluation, of the networks that are among ``genomes``."""
    if not path.is_file():
        return "", {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    number_of = {" ".join(map(str, genome)): number for number, genome in enumerate(genomes)}
    found = {number_of[row["genome"]]: float(row["measured_latency_ms"]) for row in rows if row.get("genome") in number_of}
    return (rows[0]["device"] if found else ""), found
