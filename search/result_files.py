"""The files of a search: ``evaluations.parquet``, ``pareto.csv`` and ``pareto.json``.

``evaluations.parquet`` has one row an evaluation, in order, ready for pandas and DuckDB: ``evaluation`` (from 0); one
column an objective and metric, with its unit in the name; one column a gene with the *chosen value*, null where the gene
changes nothing in that network; ``genome`` (the list of positions that the other tools take); ``feasible``, ``pareto``
and ``failure`` (null, or why the evaluation failed). The schema's metadata holds, under ``layerclock``, what
``pareto.json`` says of the search. ``pareto.csv`` is the Pareto set alone, without the genomes' positions. A search that
went on has ``earlier.parquet``, too: ``genome``, the measures and ``failure`` of all that was evaluated before.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerclock.atomic import write_atomically
from layerclock.errors import GenomeError, MissingExtraError, SearchError
from layerclock.search.objective import interval_ends
from layerclock.search.pareto import non_dominated
from layerclock.version import VERSION

if TYPE_CHECKING:
    from layerclock.search.objective import FloatArray
    from layerclock.search.result import SearchResult
    from layerclock.space import Choice, GenomeArray, SiteIndex

__all__ = ["SavedPareto", "read_evaluations", "read_pareto", "write_result"]

# What must be the same where a search goes on in its folder.
_SETTINGS = ("space", "digest", "algorithm", "seed", "population", "begun_with", "objectives", "metrics", "constraints")

_FORMAT, _FORMAT_VERSION = "layerclock-pareto", 1
_EVALUATIONS, _EARLIER = "evaluations.parquet", "earlier.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class SavedPareto:
    """A Pareto set that was read back: ``genomes`` int64[P, G] and ``values`` float64[P, M] in the objectives' units.

    ``objectives``, ``units`` and ``maximise`` have one entry an objective, ``configs`` one a network: the chosen values
    of its active genes. ``digest`` is :attr:`SiteIndex.digest` of the space that was searched.
    """

    space: str
    digest: str
    objectives: tuple[str, ...]
    units: tuple[str, ...]
    maximise: tuple[bool, ...]
    constraints: tuple[str, ...]
    seed: int
    genomes: GenomeArray
    values: FloatArray
    configs: tuple[dict[str, Choice], ...]

    def __len__(self) -> int:
        return len(self.genomes)


def write_result(result: SearchResult, folder: Path) -> None:
    """Write the three files into ``folder``, each whole or not at all, replacing older ones.

    Raises :class:`OutputError` if the folder cannot be written and :class:`MissingExtraError` without pyarrow.
    """
    front = result.pareto()
    write_atomically(folder / _EVALUATIONS, lambda path: _write_parquet(result, path))
    write_atomically(folder / "pareto.csv", lambda path: _write_csv(result, front, path))
    description = {**_description(result), "networks": [_network(result, int(number)) for number in front]}
    text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / "pareto.json", lambda path: path.write_text(text, encoding="utf-8"))


def read_pareto(path: Path | str, index: SiteIndex | None = None) -> SavedPareto:
    """Read ``pareto.json`` (or the one in a folder) and check it: its form, and that no network dominates another (which soft constraints
    can make good).

    With ``index`` also that it is of this very space and that its genomes are canonical and mean what the file says.
    Raises :class:`SearchError` saying what is wrong.
    """
    file = Path(path) / "pareto.json" if Path(path).is_dir() else Path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SearchError(f"cannot read {file}: {error.strerror or error}", "give the pareto.json of a search, or its folder") from error
    except ValueError as error:
        raise SearchError(f"{file} is not JSON: {error}", "write it again with SearchResult.write") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise SearchError(f"{file} is not a Pareto set of Layerclock", "give the pareto.json of a search")
    if content.get("version") != _FORMAT_VERSION:
        raise SearchError(f"{file} has format version {content.get('version')!r}", f"this release reads version {_FORMAT_VERSION}")
    try:
        saved = _parse(content)
        _check(saved, index)
    except (KeyError, TypeError, ValueError, OverflowError, GenomeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise SearchError(f"{file} is damaged: {what}", "write it again with SearchResult.write") from error
    return saved


def read_evaluations(folder: Path, search: SearchResult) -> dict[bytes, tuple[FloatArray, str]]:
    """Values float64[K] and failure ("" for none) of every evaluation in ``folder``, by the bytes of its genome; none where it is empty.

    What is there is kept as ``earlier.parquet``, too: while a search goes on, ``evaluations.parquet`` holds only what it has come to again.
    Raises :class:`SearchError` if the folder holds a search of other settings than ``search`` has or of more evaluations than it is to
    make, or files that cannot be read.
    """
    known: dict[bytes, tuple[FloatArray, str]] = {}
    budget = 0
    for name in (_EARLIER, _EVALUATIONS):
        if (folder / name).exists():
            found, budget = _evaluations_of(folder / name, search)
            known |= found
    if len(known) > search.budget < budget:
        raise SearchError(
            f"{folder} holds {len(known)} evaluations of this search, more than the {search.budget} that it is to make",
            f"ask for as many or more ({budget} before), or give another folder",
        )
    if known:
        write_atomically(folder / _EARLIER, lambda path: _write_earlier(known, search, path))
    return known


def _evaluations_of(path: Path, search: SearchResult) -> tuple[dict[bytes, tuple[FloatArray, str]], int]:
    """What a file holds, and how many evaluations its search was to make."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        found = json.loads((table.schema.metadata or {}).get(b"layerclock", b"{}"))
        if not isinstance(found, dict) or "digest" not in found:
            raise ValueError("it was not written by a search")
        columns = (
            [table.column(measured.column).to_pylist() for measured in search.measures] if found["digest"] == search.index.digest else []
        )
        genomes, failures = table.column("genome").to_pylist(), table.column("failure").to_pylist()
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise SearchError(f"{path} is not a search that can go on: {error}", "give another folder") from error
    expected = json.loads(json.dumps(_description(search)))
    for name in _SETTINGS:
        if found.get(name) != expected[name]:
            theirs, own = (_in_words(one) for one in (found.get(name), expected[name]))
            raise SearchError(
                f"{path.parent} holds another search: its {name} is {theirs}, this one's {own}",
                "give another folder, or the same settings to go on (--population too); only the number of evaluations may grow",
            )
    try:
        known = {
            np.array(genome, dtype=np.int64).tobytes(): (
                np.array([np.nan if one is None else one for one in values], dtype=np.float64),
                str(failure or ""),
            )
            for genome, failure, *values in zip(genomes, failures, *columns, strict=True)
        }
    except (TypeError, ValueError) as error:
        raise SearchError(f"{path} is not a search that can go on: {error}", "give another folder") from error
    budget = found.get("budget")
    return known, budget if isinstance(budget, int) else 0


def _in_words(setting: object) -> str:
    """A setting for people: of an objective the name, and where its numbers come from."""
    if not isinstance(setting, list):
        return str(setting)
    said = [f"{one.get('name')} ({one.get('source') or 'no source'})" if isinstance(one, dict) else str(one) for one in setting]
    return ", ".join(said) or "none"


def _write_earlier(known: dict[bytes, tuple[FloatArray, str]], search: SearchResult, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"genome": pa.array([np.frombuffer(genome, dtype=np.int64).tolist() for genome in known], pa.list_(pa.int64()))}
    for column, measured in enumerate(search.measures):
        columns[measured.column] = pa.array([values[column] for values, _ in known.values()], pa.float64(), from_pandas=True)
    columns["failure"] = pa.array([reason or None for _, reason in known.values()], pa.string())
    pq.write_table(pa.table(columns).replace_schema_metadata({"layerclock": json.dumps(_description(search))}), path)


def _description(result: SearchResult) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "tool": f"layerclock {VERSION}",
        "space": result.space,
        "digest": result.index.digest,
        "algorithm": result.algorithm,
        "seed": result.seed,
        "population": result.population,
        "begun_with": result.begun_with,
        "objectives": [
            {"name": goal.name, "unit": goal.unit, "maximise": goal.maximise, "source": goal.source} for goal in result.objectives
        ],
        "metrics": [{"name": metric.name, "unit": metric.unit, "source": metric.source} for metric in result.metrics],
        "constraints": [str(constraint) for constraint in result.constraints],
        "budget": result.budget,
        "evaluations": len(result),
        "rejected": result.rejected,
        "stopped": result.stopped,
    }


def _network(result: SearchResult, number: int) -> dict[str, Any]:
    return {
        "evaluation": number,
        "values": dict(zip([measured.name for measured in result.measures], result.measured[number].tolist(), strict=True)),
        "genome": result.genomes[number].tolist(),
        "config": result.config(number),
    }


def _write_parquet(result: SearchResult, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "tables", "writing evaluations.parquet") from error
    front = np.zeros(len(result), dtype=np.bool_)
    front[result.pareto()] = True
    columns: dict[str, Any] = {"evaluation": pa.array(range(len(result)), pa.int64())}
    for column, measured in enumerate(result.measures):
        columns[measured.column] = pa.array(result.measured[:, column], pa.float64(), from_pandas=True)  # NaN to null
        ends = interval_ends(measured, result.genomes, result.measured[:, column])
        if ends is not None and len(result):
            names = (f"{measured.column}_lower", f"{measured.column}_upper")
            columns |= {name: pa.array(end, pa.float64(), from_pandas=True) for name, end in zip(names, ends, strict=True)}
    configs = [result.config(number) for number in range(len(result))]
    for gene in result.index.genes:
        kinds = {type(choice) for choice in gene.choices}
        kind = pa.int64() if kinds <= {int} else pa.float64() if kinds <= {int, float} else pa.string()
        chosen = [config.get(gene.name) for config in configs]
        columns[gene.name] = pa.array([str(value) if value is not None and kind == pa.string() else value for value in chosen], kind)
    columns["genome"] = pa.array(result.genomes.tolist(), pa.list_(pa.int64()))
    columns["feasible"] = pa.array(result.feasible)
    columns["pareto"] = pa.array(front)
    columns["failure"] = pa.array([reason or None for reason in result.failures], pa.string())
    table = pa.table(columns).replace_schema_metadata({"layerclock": json.dumps(_description(result))})
    pq.write_table(table, path)


def _write_csv(result: SearchResult, front: np.ndarray[Any, np.dtype[np.int64]], path: Path) -> None:
    genes = [gene.name for gene in result.index.genes]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["evaluation", *(measured.column for measured in result.measures), *genes])
        for number in front.tolist():
            config = result.config(number)
            writer.writerow([number, *result.measured[number].tolist(), *(config.get(gene, "") for gene in genes)])


def _parse(content: dict[str, Any]) -> SavedPareto:
    goals, networks = content["objectives"], content["networks"]
    names = tuple(str(goal["name"]) for goal in goals)
    positions = [network["genome"] for network in networks]
    if any(type(position) is not int for genome in positions for position in genome):
        raise ValueError("a genome holds something else than whole numbers")
    if len({len(genome) for genome in positions}) > 1 or len({tuple(genome) for genome in positions}) < len(positions):
        raise ValueError("its genomes differ in length, or one stands there twice")
    return SavedPareto(
        space=str(content["space"]),
        digest=str(content["digest"]),
        objectives=names,
        units=tuple(str(goal["unit"]) for goal in goals),
        maximise=tuple(bool(goal["maximise"]) for goal in goals),
        constraints=tuple(str(constraint) for constraint in content["constraints"]),
        seed=int(content["seed"]),
        genomes=np.array(positions, dtype=np.int64).reshape(len(networks), -1 if networks else 0),
        values=np.array([[float(network["values"][name]) for name in names] for network in networks]).reshape(len(networks), len(names)),
        configs=tuple(dict(network["config"]) for network in networks),
    )


def _check(saved: SavedPareto, index: SiteIndex | None) -> None:
    if not saved.objectives or not np.isfinite(saved.values).all():
        raise ValueError("it has no objective, or a value that is not finite")
    soft = any("~" in constraint for constraint in saved.constraints)
    if not soft and not non_dominated(np.where(saved.maximise, -saved.values, saved.values)).all():
        raise ValueError("one of its networks dominates another")
    if index is None:
        return
    if saved.digest != index.digest:
        raise ValueError(f"it belongs to a space of digest {saved.digest}, not {index.digest}")
    if len(saved) and not np.array_equal(index.canonical(saved.genomes), saved.genomes):
        raise ValueError("it holds a genome that is not canonical")
    if any(index.decode(genome) != config for genome, config in zip(saved.genomes, saved.configs, strict=True)):
        raise ValueError("a network's genome and configuration disagree")
