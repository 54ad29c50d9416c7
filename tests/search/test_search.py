"""The search loop with NSGA-II."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_space import EVERY_TINY, INDEX, OFA, TINY, TINY_INDEX, FloatingArray, counted, quality

from layerclock.errors import ArgumentError, DeviceError, MissingExtraError, SearchError, UnknownNameError
from layerclock.search.loop import pareto_search
from layerclock.search.objective import Constraint, FloatArray, Objective, accuracy_objective, macs_objective, params_objective
from layerclock.search.pareto import non_dominated
from layerclock.search.ranking import hypervolume
from layerclock.search.result import SearchResult
from layerclock.search.spaces.mobilenetv3 import ofa_mobilenetv3
from layerclock.search.variation import Variation
from layerclock.space import GenomeArray, SiteIndex, sample

if TYPE_CHECKING:
    from layerclock.search.task import Task


def test_the_front_beats_random_search_and_the_first_population_alone() -> None:
    params, top1 = params_objective(INDEX), quality(INDEX)
    small, large = INDEX.params(Variation(INDEX).extremes(np.random.default_rng(0)))
    scale = (large - small) * 100.0
    reference = (large * 1.001, 0.0)

    def front(genomes: GenomeArray) -> float:
        points = np.stack([params.evaluate(genomes), -top1.evaluate(genomes)], axis=1)
        return float(hypervolume(points, reference) / scale)

    found, random, spread = [], [], []
    for seed in range(3):
        found.append(pareto_search(OFA, [params, top1], evaluations=200, seed=seed).hypervolume(reference) / scale)
        random.append(front(sample(INDEX, 200, np.random.default_rng(seed))))
        spread.append(front(Variation(INDEX).first_population(200, np.random.default_rng(seed))))
    print(f"hypervolume: NSGA-II {np.round(found, 4)}, random {np.round(random, 4)}, first population {np.round(spread, 4)}")
    assert min(found) > max(random) + 0.03
    assert min(found) > max(spread) + 0.005


def test_exactly_the_asked_number_of_distinct_canonical_networks_is_evaluated(capfd: pytest.CaptureFixture[str]) -> None:
    top1, batches = counted(quality(INDEX))
    result = pareto_search(OFA, [params_objective(INDEX), top1], evaluations=157, population=20, seed=3)
    assert (len(result), result.stopped, result.rejected) == (157, "budget", 0)
    asked = np.concatenate(batches)
    np.testing.assert_array_equal(asked, result.genomes)
    assert len({row.tobytes() for row in INDEX.canonical(asked)}) == 157
    assert max(map(len, batches)) <= 20 < len(asked) / 5  # in batches, but never a batch beyond the population
    np.testing.assert_array_equal(result.values[:, 0], INDEX.params(asked))
    assert capfd.readouterr() == ("", "")


def test_the_pareto_set_is_what_pairwise_comparison_says() -> None:
    result = pareto_search(OFA, [quality(INDEX), macs_objective(INDEX)], evaluations=120, seed=1)
    values = result.minimised
    expected = [a for a in range(120) if not any((values[b] <= values[a]).all() and (values[b] < values[a]).any() for b in range(120))]
    assert sorted(result.pareto()) == expected
    assert (np.diff(result.values[result.pareto(), 0]) >= 0).all()
    assert result.config(int(result.pareto()[0])) == INDEX.decode(result.genomes[result.pareto()[0]])


def test_equal_points_do_not_dominate_each_other() -> None:
    points = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(non_dominated(points), [True, True, True, False, False])
    assert non_dominated(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_front_of_any_points_is_the_pairwise_one(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 6, (150, objectives)).astype(np.float64)  # with many ties
    expected = [not any((other <= point).all() and (other < point).any() for other in points) for point in points]
    np.testing.assert_array_equal(non_dominated(points), expected)


def test_a_small_space_is_exhausted_and_its_front_is_the_true_one() -> None:
    objectives = [macs_objective(TINY_INDEX), quality(TINY_INDEX)]
    result = pareto_search(TINY, objectives, evaluations=1000, population=6)
    assert (len(result), result.stopped) == (len(EVERY_TINY), "exhausted") == (28, "exhausted")
    values = np.stack([objectives[0].evaluate(EVERY_TINY), -objectives[1].evaluate(EVERY_TINY)], axis=1)
    truth = {row.tobytes() for row in EVERY_TINY[non_dominated(values)]}
    assert {row.tobytes() for row in result.genomes[result.pareto()]} == truth
    assert 3 < len(truth) < 28


def test_the_budget_may_be_just_the_space() -> None:
    assert pareto_search(TINY, [macs_objective(TINY_INDEX)], evaluations=28).stopped == "budget"


def test_one_objective_finds_the_best_network() -> None:
    top1 = quality(TINY_INDEX)
    result = pareto_search(TINY, [top1], evaluations=1000)
    assert result.values[result.pareto(), 0] == [top1.evaluate(EVERY_TINY).max()]


def test_a_cheap_constraint_is_kept_before_anything_expensive_runs() -> None:
    top1, batches = counted(quality(INDEX))
    limit = float(np.quantile(INDEX.params(sample(INDEX, 500, np.random.default_rng(0))), 0.05))
    result = pareto_search(OFA, [params_objective(INDEX), top1], [f"params<={limit}"], evaluations=80)
    assert len(result) == 80 == sum(map(len, batches))
    assert (INDEX.params(np.concatenate(batches)) <= limit).all()
    assert result.feasible.all()
    assert result.rejected > 0
    assert str(result.constraints[0]) == f"params<={limit}".removesuffix(".0")


def test_an_expensive_constraint_is_recorded_and_kept_out_of_the_front() -> None:
    result = pareto_search(OFA, [params_objective(INDEX), quality(INDEX)], [Constraint("top1_percent", ">=", 80.0)], evaluations=80)
    assert len(result) == 80
    np.testing.assert_array_equal(result.feasible, result.values[:, 1] >= 80)
    assert 0 < result.feasible.sum() < 80
    assert result.values[result.pareto(), 1].min() >= 80


def test_a_metric_is_recorded_and_can_be_constrained_but_is_not_optimised() -> None:
    limit = int(np.median(TINY_INDEX.macs(EVERY_TINY)))
    metric = macs_objective(TINY_INDEX)
    result = pareto_search(TINY, [params_objective(TINY_INDEX)], [f"macs>={limit}"], evaluations=100, metrics=[metric])
    assert (result.metric_values[:, 0] >= limit).all()
    allowed = TINY_INDEX.macs(EVERY_TINY) >= limit
    assert (len(result), result.rejected, result.stopped) == (allowed.sum(), (~allowed).sum(), "exhausted")
    assert result.values[result.pareto()[0], 0] == TINY_INDEX.params(EVERY_TINY)[allowed].min()


def test_an_impossible_cheap_constraint_names_itself_and_the_nearest_value() -> None:
    top1, batches = counted(quality(INDEX))
    smallest = int(INDEX.params(np.zeros((1, len(INDEX.genes)), dtype=np.int64))[0])
    with pytest.raises(SearchError, match=rf"params<=1000: .* the nearest has params={smallest}") as caught:
        pareto_search(OFA, [params_objective(INDEX), top1], ["params<=1000"], evaluations=50, population=50)
    assert "relax" in caught.value.hint
    assert not batches


def test_an_impossible_constraint_of_an_expensive_objective_leaves_its_evaluations_with_the_progress() -> None:
    seen: list[SearchResult] = []
    with pytest.raises(SearchError, match=r"top1_percent>=101: of 30 proposed, the nearest has top1_percent=\d\d\.\d"):
        pareto_search(OFA, [params_objective(INDEX), quality(INDEX)], ["top1_percent>=101"], evaluations=30, progress=seen.append)
    assert (len(seen[-1]), seen[-1].stopped, len(seen[-1].pareto()), seen[-1].hypervolume((1e9, 0))) == (30, "budget", 0, 0.0)


def test_arguments_that_cannot_be_are_refused_at_once() -> None:
    macs = macs_objective(TINY_INDEX)
    with pytest.raises(ArgumentError, match="no number satisfies both macs>=9 and macs<=3"):
        pareto_search(TINY, [macs], ["macs<=3", "macs>=9"])
    with pytest.raises(ArgumentError, match="not all whole numbers"):
        pareto_search(TINY, [macs], evaluations=20.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="choices of 1 genes are allowed"):
        pareto_search(TINY, [macs], allowed=[(0,)])
    with pytest.raises(ArgumentError, match="'tiny' is no search space"):
        pareto_search("tiny", [macs])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="3 is no evaluator"):
        accuracy_objective(3)  # type: ignore[arg-type]


def test_an_impossible_constraint_on_a_small_space_ends() -> None:
    with pytest.raises(SearchError, match=r"macs>=100000: of 28 proposed, the nearest has macs=2400"):
        pareto_search(TINY, [macs_objective(TINY_INDEX)], ["macs>=100000"])


def test_a_search_that_finds_nothing_further_stops_and_says_so() -> None:
    smallest = int(INDEX.params(np.zeros((1, len(INDEX.genes)), dtype=np.int64))[0])
    result = pareto_search(OFA, [params_objective(INDEX), quality(INDEX)], [f"params<={smallest}"], evaluations=50, population=50)
    assert (len(result), result.stopped) == (1, "stalled")
    assert result.rejected >= 5000


def test_failed_evaluations_are_recorded_with_their_reason_and_never_feasible() -> None:
    def evaluate(genomes: GenomeArray) -> FloatingArray:
        if (genomes[:, 0] == 1).any():
            raise DeviceError("the runtime refused", "try another")
        values = np.asarray(genomes.sum(axis=1), dtype=np.float64)
        values[genomes[:, 1] == 1] = np.nan
        return values

    result = pareto_search(TINY, [macs_objective(TINY_INDEX), Objective("top1_percent", evaluate, maximise=True)], evaluations=100)
    assert len(result) == 28
    refused, lost = result.genomes[:, 0] == 1, (result.genomes[:, 0] != 1) & (result.genomes[:, 1] == 1)
    assert {result.failures[row] for row in np.flatnonzero(refused)} == {"top1_percent: the runtime refused (try another)"}
    assert {result.failures[row] for row in np.flatnonzero(lost)} == {"top1_percent is nan"}
    np.testing.assert_array_equal(result.feasible, ~(refused | lost))
    np.testing.assert_array_equal(np.isnan(result.values[:, 1]), refused | lost)
    assert not np.isnan(result.values[:, 0]).any()
    assert result.feasible[result.pareto()].all()


def test_a_network_that_a_cheap_objective_cannot_judge_costs_nothing_more() -> None:
    top1, batches = counted(quality(TINY_INDEX))
    cheap = Objective("latency_ms", lambda genomes: np.where(genomes[:, 1] == 1, np.inf, 1.0), cheap=True)
    result = pareto_search(TINY, [cheap, top1], evaluations=100)
    assert (np.concatenate(batches)[:, 1] == 0).all()
    assert {result.failures[row] for row in np.flatnonzero(result.genomes[:, 1] == 1)} == {"latency_ms is inf"}


def test_a_search_in_which_everything_fails_ends_early() -> None:
    top1 = Objective("top1_percent", lambda genomes: np.full(len(genomes), np.nan), maximise=True)
    top1, batches = counted(top1)
    with pytest.raises(SearchError, match=r"all 20 evaluations failed; the first: top1_percent is nan"):
        pareto_search(OFA, [params_objective(INDEX), top1], evaluations=1000, population=20)
    assert sum(map(len, batches)) == 20


def test_defects_of_an_objective_pass_through() -> None:
    def broken(genomes: GenomeArray) -> FloatingArray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pareto_search(TINY, [Objective("a", broken)])
    with pytest.raises(ArgumentError, match=r"'a' returned shape \(\) for \d+ networks"):
        pareto_search(TINY, [Objective("a", np.sum)])


class Stubborn:
    """An algorithm that proposes the same few networks for ever, not canonical and with repeats."""

    name = "stubborn"

    def __init__(self) -> None:
        self.told: list[GenomeArray] = []

    def propose(self) -> GenomeArray:
        return np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [2, 1, 1, 1, 1], [2, 1, 1, 1, 1]])

    def tell(self, genomes: GenomeArray, values: FloatArray, violation: FloatArray) -> None:
        assert violation.shape == (len(genomes),)
        assert values.shape == (len(genomes), 2)
        assert (values[:, 1] <= 0).all()  # a maximised objective comes negated
        self.told.append(genomes)


def test_any_algorithm_can_drive_the_loop_and_none_evaluates_twice() -> None:
    stubborn = Stubborn()

    def factory(task: Task) -> Stubborn:
        assert (task.index.digest, task.objectives, task.population, task.seed) == (TINY_INDEX.digest, 2, 5, 9)
        return stubborn

    result = pareto_search(TINY, [macs_objective(TINY_INDEX), quality(TINY_INDEX)], evaluations=20, population=5, seed=9, algorithm=factory)
    assert (result.algorithm, len(result)) == ("stubborn", 20)
    np.testing.assert_array_equal(np.concatenate(stubborn.told), result.genomes)
    np.testing.assert_array_equal(result.genomes[:2], [[0, 0, 0, 0, 0], [2, 1, 1, 1, 1]])


def test_progress_sees_each_batch() -> None:
    lengths: list[int] = []
    result = pareto_search(
        OFA, [params_objective(INDEX)], evaluations=35, population=10, progress=lambda so_far: lengths.append(len(so_far))
    )
    assert sorted(set(lengths)) == lengths[:-1]
    assert lengths[-2:] == [35, 35]
    assert {10, 20, 30} <= set(lengths)
    assert result.budget == 35


def test_one_seed_gives_one_result_whatever_python_hashes() -> None:
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_search as t\n"
        "objectives = [t.params_objective(t.INDEX), t.quality(t.INDEX)]\n"
        "found = t.pareto_search(t.OFA, objectives, ['params<=6e6'], evaluations=120, seed=int(sys.argv[2]))\n"
        "print(hashlib.sha256(found.genomes.tobytes() + found.values.tobytes()).hexdigest(), found.rejected)\n"
    )

    def run(hash_seed: str, seed: str) -> str:
        command = [sys.executable, "-W", "error", "-c", code, str(Path(__file__).parent), seed]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert run("1", "5") == run("2", "5") != run("1", "6")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"evaluations": 0}, "evaluations=0"), ({"population": 1}, "population=1"), ({"seed": -1}, "seed=-1")],
)
def test_numbers_that_make_no_search_are_refused(changed: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        pareto_search(
            TINY, [macs_objective(TINY_INDEX)], (), changed.get("evaluations", 10), changed.get("population"), changed.get("seed", 0)
        )


def test_objectives_need_names_of_their_own() -> None:
    macs = macs_objective(TINY_INDEX)
    with pytest.raises(ArgumentError, match="there is no objective"):
        pareto_search(TINY, [])
    for metric in (macs, Objective("depth", np.sum), Objective("pareto", np.sum)):
        with pytest.raises(ArgumentError, match="is taken"):
            pareto_search(TINY, [macs], metrics=[metric])
    with pytest.raises(UnknownNameError, match="did you mean macs"):
        pareto_search(TINY, [macs], ["mac<=3"])


def test_a_result_refuses_what_no_search_can_have_found() -> None:
    good = pareto_search(TINY, [macs_objective(TINY_INDEX)], evaluations=5)

    def changed(genomes: GenomeArray, values: FloatArray) -> SearchResult:
        return SearchResult(
            space=good.space,
            index=good.index,
            objectives=good.objectives,
            metrics=(),
            constraints=(),
            algorithm="none",
            seed=0,
            population=10,
            begun_with="",
            budget=5,
            genomes=genomes,
            values=values,
            metric_values=np.zeros((len(genomes), 0)),
            failures=good.failures,
            rejected=0,
            stopped="budget",
        )

    assert len(changed(good.genomes, good.values)) == 5
    with pytest.raises(SearchError, match="twice"):
        changed(good.genomes[[0, 1, 2, 3, 3]], good.values)
    with pytest.raises(SearchError, match="not canonical"):
        changed(np.array([[0, 0, 0, 0, 1]] * 5), good.values)
    with pytest.raises(SearchError, match="shape"):
        changed(good.genomes, good.values[:4])


def test_hypervolume_is_in_the_objectives_own_direction() -> None:
    objectives = [Objective("a", lambda genomes: genomes[:, 0] + 1.0), Objective("b", lambda genomes: genomes[:, 1] + 1.0, maximise=True)]
    result = pareto_search(TINY, objectives, evaluations=100)
    assert result.hypervolume((4.0, 0.0)) == pytest.approx((4 - 1) * (2 - 0))
    with pytest.raises(ArgumentError, match="1 coordinates for 2 objectives"):
        result.hypervolume((4.0,))


def test_without_pymoo_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "layerclock.search.algorithms.nsga2")
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(MissingExtraError, match=r"NSGA-II needs the package 'pymoo'.*layerclock\[search\]"):
        pareto_search(TINY, [macs_objective(TINY_INDEX)])


def test_an_objective_of_another_space_is_refused() -> None:
    space = ofa_mobilenetv3()
    foreign = Objective("latency_ms", lambda genomes: np.zeros(len(genomes)), space_digest="of another space")
    with pytest.raises(ArgumentError, match="latency_ms"):
        pareto_search(space, [foreign, params_objective(SiteIndex.of(space))], evaluations=4)
