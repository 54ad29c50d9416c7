"""The files of a search."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest

from layerclock.errors import MissingExtraError, OutputError, SearchError
from layerclock.network import Layer, TensorSpec
from layerclock.search.loop import pareto_search
from layerclock.search.objective import Objective
from layerclock.search.result_files import read_pareto
from layerclock.space import Gene, GenomeArray, Site, SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from layerclock.search.result import SearchResult


@dataclass(frozen=True)
class MixedSpace:
    """Genes of whole numbers, fractions and texts; ``act`` and ``ratio`` change nothing where there are no blocks."""

    name = "mixed"
    inputs = (TensorSpec((1, 3, 8, 8)),)
    genes = (Gene("blocks", (0, 1, 2)), Gene("ratio", (0.5, 1, 2)), Gene("act", ("relu", "gelu")))

    @property
    def sites(self) -> tuple[Site, ...]:
        def layer(blocks: int, ratio: float, act: str) -> Layer | None:
            attributes = (("a", act), ("b", blocks), ("r", ratio))
            return Layer("op", (), (), attributes, macs=int(blocks * ratio * 10), params=1) if blocks else None

        return (Site.of("body", self.genes, layer),)

    def build(self, genome: npt.ArrayLike) -> torch.nn.Module:
        raise NotImplementedError


SPACE = MixedSpace()
INDEX = SiteIndex.of(SPACE)


@pytest.fixture(scope="module")
def result() -> SearchResult:
    def energy(genomes: GenomeArray) -> npt.NDArray[np.floating[Any]]:
        values = genomes[:, 0] * 2.0 + genomes[:, 1]
        return np.where((genomes[:, 1] == 2) & (genomes[:, 2] == 1), np.nan, values)

    objectives = [
        Objective("energy", energy, unit="mj"),
        Objective("top1_percent", lambda genomes: 50.0 + 10 * genomes[:, 0] + genomes[:, 2], maximise=True),
    ]
    return pareto_search(
        SPACE, objectives, ["energy<=5"], evaluations=50, seed=4, metrics=[Objective("macs", lambda g: INDEX.macs(g) * 1.0)]
    )


def test_pandas_reads_every_evaluation_back(result: SearchResult, tmp_path: Path) -> None:
    result.write(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(file.name for file in folder.iterdir()) == ["evaluations.parquet", "pareto.csv", "pareto.json"]
    frame = pd.read_parquet(folder / "evaluations.parquet")
    names = ["evaluation", "energy_mj", "top1_percent", "macs", "blocks", "ratio", "act", "genome", "feasible", "pareto", "failure"]
    assert list(frame.columns) == names
    assert len(frame) == len(result) == 13  # one network without blocks, 2 * 3 * 2 with
    np.testing.assert_array_equal(np.stack(list(frame["genome"])), result.genomes)
    np.testing.assert_array_equal(frame[["energy_mj", "top1_percent"]].to_numpy(dtype=float), result.values)
    np.testing.assert_array_equal(frame["feasible"], result.feasible)
    np.testing.assert_array_equal(frame.index[frame["pareto"]], np.sort(result.pareto()))
    assert set(frame["failure"].dropna()) == {"energy is nan"}
    assert frame["energy_mj"].isna().sum() == 2 == frame["failure"].notna().sum()
    for number in range(len(result)):
        written = {gene.name: frame[gene.name].iloc[number] for gene in INDEX.genes if not pd.isna(frame[gene.name].iloc[number])}
        assert written == result.config(number)
    schema = pq.read_schema(folder / "evaluations.parquet")
    assert [str(schema.field(name).type) for name in ("blocks", "ratio", "act")] == ["int64", "double", "string"]
    description = json.loads(schema.metadata[b"layerclock"])
    assert (description["space"], description["digest"], description["seed"]) == ("mixed", INDEX.digest, 4)


def test_the_pareto_set_reads_back_from_csv_and_json(result: SearchResult, tmp_path: Path) -> None:
    result.write(str(tmp_path))
    front = result.pareto()
    with (tmp_path / "pareto.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["evaluation"]) for row in rows] == front.tolist()
    assert [float(row["energy_mj"]) for row in rows] == result.values[front, 0].tolist()
    for row, number in zip(rows, front.tolist(), strict=True):
        written = {name: row[name] for name in ("blocks", "ratio", "act") if row[name]}
        assert written == {name: str(value) for name, value in result.config(number).items()}
    for path in (tmp_path, tmp_path / "pareto.json"):
        saved = read_pareto(path, INDEX)
        np.testing.assert_array_equal(saved.genomes, result.genomes[front])
        np.testing.assert_array_equal(saved.values, result.values[front])
        assert saved.configs == tuple(result.config(int(number)) for number in front)
        assert (saved.space, saved.digest, saved.seed, len(saved)) == ("mixed", INDEX.digest, 4, len(front))
        assert (saved.objectives, saved.units, saved.maximise) == (("energy", "top1_percent"), ("mj", ""), (False, True))
        assert saved.constraints == ("energy<=5",)


def test_a_search_still_without_a_feasible_network_can_be_written(tmp_path: Path) -> None:
    def write(so_far: SearchResult) -> None:
        so_far.write(tmp_path)

    with pytest.raises(SearchError):
        pareto_search(SPACE, [Objective("a", lambda genomes: genomes[:, 0] * 1.0)], ["a>=9"], evaluations=5, progress=write)
    assert len(pd.read_parquet(tmp_path / "evaluations.parquet")) == 5
    assert len(read_pareto(tmp_path, INDEX)) == 0


def test_writing_replaces_older_files_and_leaves_no_drafts(result: SearchResult, tmp_path: Path) -> None:
    for name in ("evaluations.parquet", "pareto.csv", "pareto.json"):
        (tmp_path / name).write_text("old")
    result.write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(read_pareto(tmp_path)) == len(result.pareto())


def test_a_folder_that_cannot_be_written_is_an_output_error(result: SearchResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        result.write(tmp_path / "file" / "folder")
    assert caught.value.hint


def test_without_pyarrow_the_error_names_the_extra(result: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        result.write(tmp_path)
    assert not list(tmp_path.iterdir())


def _damage(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def damaged(content: Any) -> Any:
        change(content)
        return content

    return damaged


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: [], "is not a Pareto set"),
        (lambda content: {**content, "format": "other"}, "is not a Pareto set"),
        (lambda content: {**content, "version": 2}, "format version 2.*reads version 1"),
        (_damage(lambda content: content.pop("networks")), "'networks' is missing"),
        (_damage(lambda content: content["networks"][0]["values"].pop("energy")), "'energy' is missing"),
        (_damage(lambda content: content["networks"][0].update(genome=[0, 0.5, 0])), "whole numbers"),
        (_damage(lambda content: content["networks"][0].update(genome=[True, 0, 0])), "whole numbers"),
        (_damage(lambda content: content["networks"][0].update(genome=[0, 0])), "differ in length"),
        (_damage(lambda content: content["networks"].append(content["networks"][0])), "stands there twice"),
        (_damage(lambda content: content["networks"][0]["values"].update(energy=float("nan"))), "not finite"),
        (_damage(lambda content: content["networks"][0]["values"].update(energy="fast")), "fast"),
        (_damage(lambda content: content["networks"][0]["values"].update(energy=-9.0, top1_percent=99.0)), "dominates another"),
        (_damage(lambda content: content.update(objectives=[])), "no objective"),
        (_damage(lambda content: content.update(objectives=["energy"])), "is damaged"),
        (_damage(lambda content: content.update(networks="none")), "is damaged"),
        (_damage(lambda content: content["networks"][0].update(genome=[10**30, 0, 0])), "is damaged"),
        (_damage(lambda content: content.update(digest="0" * 16)), "belongs to a space of digest 0000"),
        (_damage(lambda content: content["networks"][0].update(genome=[0, 9, 0])), r"gene 1 \(ratio\) is 9"),
        (_damage(lambda content: content["networks"][0].update(genome=[0, 1, 0])), "not canonical"),
        (_damage(lambda content: content["networks"][0].update(config={"blocks": 2})), "disagree"),
    ],
)
def test_a_damaged_pareto_file_is_refused_with_the_reason(
    result: SearchResult, tmp_path: Path, damage: Callable[[Any], Any], message: str
) -> None:
    result.write(tmp_path)
    file = tmp_path / "pareto.json"
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(SearchError, match=message):
        read_pareto(file, INDEX)


def test_a_missing_file_and_no_json_are_search_errors(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="cannot read"):
        read_pareto(tmp_path)
    (tmp_path / "pareto.json").write_text("{")
    with pytest.raises(SearchError, match="is not JSON"):
        read_pareto(tmp_path)
