"""What a report is made of: tables, predictors and searches, found in the paths that were given."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from layerclock.datasets.table import LatencyTable, read_table
from layerclock.errors import ArgumentError, LayerclockError, PredictorError
from layerclock.plugins import load_space
from layerclock.predictors.portable import OnnxPredictor, is_kernelwise, load
from layerclock.predictors.portable_kernels import KernelPredictor, load_kernelwise
from layerclock.profiler.drift import Drift, read_drift
from layerclock.search.saved_search import SavedSearch, read_search
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Inputs", "PredictorInput", "SearchInput", "TableInput", "read_inputs", "space_index"]


@dataclass(frozen=True)
class TableInput:
    """A latency table, with how the machine did while it was measured where the campaign's folder tells."""

    name: str
    path: Path
    table: LatencyTable
    drift: Drift | None

    @cached_property
    def index(self) -> SiteIndex | None:
        """The table's space; None where it is not installed here, or is another one by now."""
        return space_index(self.table.space, self.table.space_digest)


@dataclass(frozen=True, slots=True)
class PredictorInput:
    """A predictor of either kind."""

    name: str
    path: Path
    predictor: OnnxPredictor | KernelPredictor


@dataclass(frozen=True, slots=True)
class SearchInput:
    """A search or co-exploration."""

    name: str
    path: Path
    search: SavedSearch


@dataclass(slots=True)
class Inputs:
    """Everything that was found, in the order of the paths; ``left_out`` says what was not taken, and why."""

    tables: list[TableInput] = field(default_factory=list)
    predictors: list[PredictorInput] = field(default_factory=list)
    searches: list[SearchInput] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_inputs(paths: Sequence[Path | str]) -> Inputs:
    """Read what ``paths`` name: campaign folders (with the predictors and the search that lie in them), tables, predictors, searches.

    Raises :class:`ArgumentError` for a path that is none of these, and what the readers raise for a damaged file.
    """
    found = Inputs()
    if not paths:
        raise ArgumentError("a report needs something to report on", "name a campaign's folder, a table, a predictor or a search")
    for path in dict.fromkeys(Path(path) for path in paths):
        if path.is_dir():
            _folder(path, found)
        elif path.name in ("evaluations.parquet", "pareto.json", "pareto.csv"):
            found.searches.append(SearchInput(path.parent.name or str(path), path.parent, read_search(path.parent)))
        elif path.suffix == ".onnx":
            found.predictors.append(PredictorInput(path.name, path, _predictor(path)))
        elif path.suffix == ".parquet":
            found.tables.append(_table(path))
        else:
            raise ArgumentError(
                f"{path} does not exist" if not path.exists() else f"{path} is none of ours",
                "give a campaign's folder, a table (.parquet), a predictor (.onnx) or a search's folder",
            )
    _make_names_distinct(found)
    return found


def _folder(folder: Path, found: Inputs) -> None:
    before = len(found.tables) + len(found.searches)
    if (folder / "evaluations.parquet").is_file():
        found.searches.append(SearchInput(folder.name or str(folder), folder, read_search(folder)))
    if (folder / "table.parquet").is_file():
        found.tables.append(_table(folder / "table.parquet"))
        for path in sorted(folder.glob("*.onnx")):
            try:
                found.predictors.append(PredictorInput(path.name, path, _predictor(path)))
            except LayerclockError as error:  # a network beside a table is no predictor, and nobody named it
                found.left_out.append(error.message)
        if (folder / "search" / "evaluations.parquet").is_file():
            found.searches.append(SearchInput(f"{folder.name}/search", folder / "search", read_search(folder / "search")))
    if len(found.tables) + len(found.searches) == before:
        begun = (folder / "campaign.json").exists()
        raise ArgumentError(
            f"{folder} holds a campaign without a table yet" if begun else f"{folder} holds neither a table nor a search",
            "run the same layerclock profile again: it goes on" if begun else "layerclock profile and layerclock search write such folders",
        )


def _table(path: Path) -> TableInput:
    named = path.parent.name if path.name == "table.parquet" else path.stem
    return TableInput(named or str(path), path, read_table(path), read_drift(path.parent))


def _predictor(path: Path) -> OnnxPredictor | KernelPredictor:
    if not path.is_file():
        raise PredictorError(f"there is no predictor {path}", "layerclock fit writes one")
    return load_kernelwise(path) if is_kernelwise(path) else load(path)


def _make_names_distinct(found: Inputs) -> None:
    """Where two inputs of a kind have one name, their whole paths stand for it."""
    found.tables = [
        TableInput(str(one.path), one.path, one.table, one.drift) if _twice(one.name, [t.name for t in found.tables]) else one
        for one in found.tables
    ]
    found.predictors = [
        PredictorInput(str(one.path), one.path, one.predictor) if _twice(one.name, [p.name for p in found.predictors]) else one
        for one in found.predictors
    ]
    found.searches = [
        SearchInput(str(one.path), one.path, one.search) if _twice(one.name, [s.name for s in found.searches]) else one
        for one in found.searches
    ]


def _twice(name: str, names: list[str]) -> bool:
    return names.count(name) > 1


def space_index(name: str, digest: str = "") -> SiteIndex | None:
    """The index of a space by its name; None if there is none such here, or its digest is another than ``digest``."""
    try:
        index = SiteIndex.of(load_space(name))
    except LayerclockError:
        return None
    return index if not digest or index.digest == digest else None
