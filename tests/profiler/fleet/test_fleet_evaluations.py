"""Accuracy evaluations of a search on a fleet's workers without devices."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fleet_processes import LAYERCLOCK

from layerclock.errors import FleetError
from layerclock.profiler.fleet.evaluating import FleetEvaluator, evaluation_slots
from layerclock.search.evaluations import measure
from layerclock.search.objective import accuracy_objective

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_processes import Fleet

    from layerclock.interfaces import SearchSpace
    from layerclock.space import SiteIndex

_SPACE = "digits-mobilenetv3:width=0.25,resolution=32"

pytest_plugins = ("fleet_processes",)


def _search(folder: Path, *words: str) -> list[dict[str, object]]:
    finished = subprocess.run(
        [LAYERCLOCK, "search", "--space", _SPACE, "--objective", "accuracy:apart-score", "--objective", "macs", "--evaluations", "30",
         "--algorithm", "nsga2", "--json", "-q", "-o", str(folder), *words],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    front: list[dict[str, object]] = json.loads(finished.stdout)["pareto"]
    return front


def test_a_search_on_a_fleet_finds_what_it_finds_here(fleet: Fleet, tmp_path: Path) -> None:
    fleet.evaluator("e1", APART_S="0.02")
    fleet.evaluator("e2", APART_S="0.02")
    fleet.wait("e1", "e2")
    assert _search(tmp_path / "fleet", "--fleet", fleet.address) == _search(tmp_path / "here")


def test_a_worker_that_dies_costs_nothing_and_one_that_disagrees_ends_it(
    fleet: Fleet, tiny_space: SearchSpace, tiny_index: SiteIndex
) -> None:
    genomes = tiny_index.canonical(np.random.default_rng(0).integers(0, 2, (40, len(tiny_space.genes))))
    genomes = np.unique(genomes, axis=0)
    told: list[str] = []
    with fleet.cluster(1.0, told.append) as cluster:
        assert evaluation_slots(cluster) == 2
        evaluator = FleetEvaluator(cluster, "apart-score", tiny_space)
        assert evaluator.metric == "score"
        first = evaluator.evaluate(genomes[:10])
        fleet.kill("e1")
        values = evaluator.evaluate(genomes)
        assert values.tolist() == (genomes.sum(axis=1) + 1.0).tolist()
        assert first.tolist() == values[:10].tolist()

        fleet.evaluator("e3", APART_SCORE="2")
        fleet.kill("e2")
        fleet.wait("e3")
        objective = accuracy_objective(evaluator)
        with pytest.raises(FleetError, match="workers disagree"):
            measure(objective, tiny_index.canonical(np.full((1, len(tiny_space.genes)), 1)))
        fleet.evaluator("e4", APART_LACKS="weights")
        fleet.kill("e3")
        fleet.wait("e4")
        with pytest.raises(FleetError, match=r"workers disagree: .*there are no weights here"):
            measure(objective, tiny_index.canonical(np.full((1, len(tiny_space.genes)), 1)))
        with pytest.raises(FleetError, match="no evaluator 'apart-score': there are no weights here"):
            FleetEvaluator(cluster, "apart-score", tiny_space)
        fleet.kill("e4")
        with pytest.raises(FleetError, match="held 'evaluations' within 1 s"):
            FleetEvaluator(cluster, "apart-score", tiny_space)
