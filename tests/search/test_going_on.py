"""A search that was cut off goes on, a search is driven from outside, and other loops drive ours."""

from __future__ import annotations

from dataclasses import replace
from threading import get_ident
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from tiny_space import INDEX, OFA, TINY, TINY_INDEX, counted, quality

from layerclock.errors import ArgumentError, DeviceError, SearchError
from layerclock.search.loop import Search, pareto_search
from layerclock.search.objective import Constraint, Objective, macs_objective, penalised
from layerclock.search.plugs import optuna_objective, pymoo_problem
from layerclock.search.result_files import read_pareto
from layerclock.search.warm_start import common_choices, translate
from layerclock.space import GenomeArray, sample

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.search.objective import FloatArray
    from layerclock.search.result import SearchResult

MACS = macs_objective(INDEX)


@pytest.mark.parametrize("algorithm", ["nsga2", "linas"])
def test_a_search_that_was_cut_off_ends_as_if_nothing_had_happened(algorithm: str, tmp_path: Path) -> None:
    top1, batches = counted(quality(INDEX))
    whole = pareto_search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=48, population=15, algorithm=algorithm)
    batches.clear()

    def falls(genomes: GenomeArray) -> FloatArray:
        if sum(map(len, batches)) > 30:
            raise KeyboardInterrupt
        return np.asarray(top1.evaluate(genomes), dtype=np.float64)

    cut = Objective(top1.name, falls, maximise=True)
    folder = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        pareto_search(OFA, [MACS, cut], ["macs<=4e8"], evaluations=48, population=15, algorithm=algorithm, folder=folder)
    kept = pq.read_table(folder / "evaluations.parquet").num_rows
    assert 15 <= kept <= 48
    batches.clear()
    on = pareto_search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=48, population=15, algorithm=algorithm, folder=folder)
    np.testing.assert_array_equal(on.genomes, whole.genomes)
    np.testing.assert_array_equal(on.values, whole.values)
    assert sum(map(len, batches)) == 48 - kept
    # Nothing is evaluated where all is known, and the budget may grow.
    batches.clear()
    pareto_search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=48, population=15, algorithm=algorithm, folder=folder)
    assert not batches
    longer = pareto_search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=56, population=15, algorithm=algorithm, folder=folder)
    assert sum(map(len, batches)) == 8
    assert len(longer) == len(read_pareto(folder, INDEX).genomes) + (~np.isin(np.arange(56), longer.pareto())).sum()


def test_a_search_that_is_stopped_again_while_it_goes_on_forgets_nothing(tmp_path: Path) -> None:
    top1, batches = counted(quality(INDEX))
    settings: dict[str, Any] = {"population": 10, "folder": tmp_path}
    pareto_search(OFA, [MACS, top1], evaluations=30, **settings)

    def stop(_: SearchResult) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pareto_search(OFA, [MACS, top1], evaluations=30, progress=stop, **settings)
        assert pq.read_table(tmp_path / "evaluations.parquet").num_rows < 30
    batches.clear()
    assert len(pareto_search(OFA, [MACS, top1], evaluations=30, **settings)) == 30
    assert not batches


def test_failures_are_remembered_too(tmp_path: Path) -> None:
    fails = Objective("a", lambda genomes: np.where(genomes[:, 0] == 0, np.nan, 1.0 + genomes[:, 1]))
    first = pareto_search(TINY, [fails], evaluations=12, population=4, folder=tmp_path)
    assert any(first.failures)
    asked, batches = counted(fails)
    again = pareto_search(TINY, [asked], evaluations=12, population=4, folder=tmp_path)
    assert (again.failures, batches) == (first.failures, [])


def test_what_is_cheap_is_never_taken_from_memory(tmp_path: Path) -> None:
    top1 = quality(TINY_INDEX)

    def search(scale: float) -> SearchResult:
        return pareto_search(
            TINY, [Objective("size", lambda genomes: scale * TINY_INDEX.macs(genomes), cheap=True), top1],
            evaluations=12, population=4, folder=tmp_path,
        )  # fmt: skip

    np.testing.assert_array_equal(search(1.0).values[:, 0] * 2, search(2.0).values[:, 0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "its seed is 0, this one's 1"),
        ({"algorithm": "random"}, "its algorithm is nsga2"),
        ({"constraints": ["macs<=1000"]}, "its constraints"),
    ],
)
def test_a_folder_of_another_search_is_refused(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    macs = macs_objective(TINY_INDEX)
    pareto_search(TINY, [macs], evaluations=5, folder=tmp_path)
    settings: dict[str, object] = {"seed": 0, "algorithm": "nsga2", "constraints": [], **changed}
    with pytest.raises(SearchError, match=message):
        pareto_search(
            TINY, [macs], settings["constraints"], evaluations=5, seed=settings["seed"], algorithm=settings["algorithm"], folder=tmp_path  # type: ignore[arg-type]
        )  # fmt: skip
    (tmp_path / "evaluations.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SearchError, match="not a search that can go on"):
        pareto_search(TINY, [macs], evaluations=5, folder=tmp_path)


def test_asked_and_told_is_the_same_search() -> None:
    top1 = quality(INDEX)
    whole = pareto_search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=50, population=12, seed=3)
    search = Search(OFA, [MACS, top1], ["macs<=4e8"], evaluations=50, population=12, seed=3)
    while len(asked := search.ask()):
        np.testing.assert_array_equal(search.ask(), asked)
        with pytest.raises(ArgumentError, match="tell all"):
            search.tell(asked[::-1], np.zeros((len(asked), 2)))
        search.tell(asked, np.stack([np.full(len(asked), np.nan), top1.evaluate(asked)], axis=1))
    assert search.stopped == "budget"
    np.testing.assert_array_equal(search.result().genomes, whole.genomes)
    np.testing.assert_array_equal(search.result().values, whole.values)


def test_a_search_that_is_told_remembers_what_it_was_told(tmp_path: Path) -> None:
    top1 = quality(INDEX)

    def begun(evaluations: int = 40) -> Search:
        return Search(OFA, [MACS, top1], evaluations=evaluations, population=10, folder=tmp_path)

    search = begun()
    for told in (10, 20):
        asked = search.ask()
        search.tell(asked, np.stack([np.full(len(asked), np.nan), top1.evaluate(asked)], axis=1))
        # However soon the next is told: nobody knows whether there will be a next.
        assert pq.read_table(tmp_path / "evaluations.parquet").num_rows == told
    before = search.result()
    again = begun()
    asked = again.ask()
    assert len(again.result()) == 20
    np.testing.assert_array_equal(again.result().values, before.values)
    np.testing.assert_array_equal(asked, search.ask())
    with pytest.raises(SearchError, match="holds 20 evaluations of this search, more than the 15"):
        begun(15)


def test_two_searches_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    refused = []

    def meddle(result: SearchResult) -> None:
        if result.stopped:  # told once more, when all is written
            return
        with pytest.raises(SearchError, match="another search is at work"):
            pareto_search(TINY, [macs_objective(TINY_INDEX)], evaluations=5, folder=tmp_path)
        refused.append(True)

    found = pareto_search(TINY, [macs_objective(TINY_INDEX)], evaluations=5, folder=str(tmp_path), progress=meddle)
    assert refused
    assert len(read_pareto(tmp_path, TINY_INDEX)) == len(found.pareto())


def test_several_workers_find_the_same_at_the_same_time() -> None:
    threads: set[int] = set()
    top1 = quality(TINY_INDEX)

    def slow(genomes: GenomeArray) -> FloatArray:
        threads.add(get_ident())
        assert len(genomes) == 1
        sleep(0.01)
        return np.asarray(top1.evaluate(genomes), dtype=np.float64)

    one = pareto_search(TINY, [macs_objective(TINY_INDEX), top1], evaluations=20, population=8)
    several = pareto_search(
        TINY, [macs_objective(TINY_INDEX), Objective(top1.name, slow, maximise=True)], evaluations=20, population=8, workers=4
    )
    np.testing.assert_array_equal(one.genomes, several.genomes)
    np.testing.assert_array_equal(one.values, several.values)
    assert len(threads) > 1


def test_a_soft_constraint_turns_the_front_and_forbids_nothing() -> None:
    macs, top1 = macs_objective(TINY_INDEX), quality(TINY_INDEX)
    free = pareto_search(TINY, [macs, top1], evaluations=28)
    limit = float(np.median(free.values[:, 0]))
    soft = pareto_search(TINY, [macs, top1], [f"macs<~{limit}"], evaluations=28)
    assert soft.feasible.all()
    assert [str(one) for one in soft.constraints] == [f"macs<~{limit:g}"]
    beyond = soft.values[:, 0] > limit
    np.testing.assert_allclose(soft.minimised[~beyond, 0], soft.values[~beyond, 0])
    share = soft.values[beyond, 0] / limit - 1
    np.testing.assert_allclose(soft.minimised[beyond, 0], soft.values[beyond, 0] * (1 + share))
    np.testing.assert_allclose(soft.minimised[beyond, 1], -soft.values[beyond, 1] / (1 + share))
    assert (soft.values[soft.pareto(), 0] > limit).sum() <= (free.values[free.pareto(), 0] > limit).sum()


def test_a_soft_constraint_far_beyond_keeps_the_order_and_its_front_is_read_again(tmp_path: Path) -> None:
    goals = [Objective("top1_percent", lambda _: np.zeros(0), maximise=True), Objective("latency_ms", lambda _: np.zeros(0))]
    limit = [Constraint.parse("latency_ms<~1", [goal.name for goal in goals])]
    ranked = penalised(limit, goals, np.array([[-90.0, 4.0], [-60.0, 4.0], [-10.0, 4.0], [-10.0, 1.0]]))
    assert ranked[:, 0].tolist() == [-22.5, -15.0, -2.5, -10.0]
    assert ranked[:, 1].tolist() == [16.0, 16.0, 16.0, 1.0]
    smallest = float(TINY_INDEX.macs(sample(TINY_INDEX, 28, np.random.default_rng(0))).min())
    # Accuracy that grows faster than the penalty: on the front stands what another network beats in plain values.
    top1 = Objective("top1_percent", lambda genomes: TINY_INDEX.macs(genomes).astype(float) ** 3, maximise=True)
    params = Objective("size", lambda genomes: -TINY_INDEX.macs(genomes).astype(float), cheap=True)
    found = pareto_search(
        TINY, [top1, params], [f"macs<~{smallest}"], evaluations=28, metrics=[macs_objective(TINY_INDEX)], folder=tmp_path
    )  # fmt: skip
    assert len(read_pareto(tmp_path, TINY_INDEX)) == len(found.pareto())


def test_a_bound_holds_at_the_far_end_of_the_interval(tmp_path: Path) -> None:
    macs = macs_objective(TINY_INDEX)

    def interval(genomes: GenomeArray) -> tuple[FloatArray, FloatArray]:
        exact = np.asarray(macs.evaluate(genomes), dtype=np.float64)
        return 0.5 * exact, 1.5 * exact

    unsure = Objective("latency_ms", macs.evaluate, cheap=True, unit="ms", interval=interval)
    result = pareto_search(TINY, [unsure, quality(TINY_INDEX)], ["latency_ms<=900"], evaluations=28, folder=tmp_path)
    assert (result.values[:, 0] <= 600).all()
    written = pq.read_table(tmp_path / "evaluations.parquet").to_pandas()
    np.testing.assert_allclose(written["latency_ms_upper"], 1.5 * written["latency_ms"])
    assert written["feasible"].all()
    with pytest.raises(SearchError, match=r"the nearest has latency_ms=\d+ \(its interval reaches"):
        pareto_search(TINY, [unsure, quality(TINY_INDEX)], ["latency_ms<=10"], evaluations=28)
    assert (tmp_path / "pareto.svg").read_text().startswith("<?xml")


def test_another_spaces_networks_are_translated() -> None:
    config: dict[str, int | float | str] = {
        "stage1.depth": 3,
        "stage1.block1.kernel": 6,
        "stage1.block1.expand": 6,
        "stage9.block1.kernel": 3,
        "other": "x",
    }
    (genome,) = translate([config], INDEX)
    chosen = INDEX.decode(genome)
    assert chosen["stage1.depth"] == 3
    assert chosen["stage1.block1.kernel"] in (5, 7)  # the nearest to 6
    assert chosen["stage2.block1.kernel"] in (3, 5)  # the nearest to the mean of the kernels that are known
    assert chosen["stage2.block1.expand"] == 6
    own = sample(INDEX, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(translate([INDEX.decode(row) for row in own], INDEX), own)
    with pytest.raises(SearchError, match="no gene like those of this space"):
        translate([{"heads": 4, "layers": 2}], INDEX)


def test_common_choices_are_those_of_good_networks() -> None:
    rng = np.random.default_rng(0)
    small, large = sample(INDEX, 40, rng), sample(INDEX, 40, rng)
    kernel = [gene.name for gene in INDEX.genes].index("stage1.block1.kernel")
    small[:, kernel], large[:, kernel] = 0, 2
    small[:, 0], large[:, 0] = 0, 2
    kept = common_choices(INDEX, INDEX.canonical(np.concatenate([small, large])))
    assert kept[kernel] == (0, 2)
    assert kept[0] == (0, 2)
    with pytest.raises(SearchError, match="4 networks"):
        common_choices(INDEX, small[:4])


def test_a_warm_start_is_ahead() -> None:
    top1 = quality(INDEX)
    earlier = pareto_search(OFA, [MACS, top1], evaluations=150, population=30, seed=8)
    other = Objective("latency_ms", lambda genomes: INDEX.macs(genomes) / 3e8 + 0.4)
    limits = (2.5, 0.0)
    start = translate([earlier.config(int(number)) for number in earlier.pareto()], INDEX)
    cold = pareto_search(OFA, [other, top1], evaluations=30, population=15, algorithm="linas")
    warm = pareto_search(OFA, [other, top1], evaluations=30, population=15, algorithm="linas", start=start[:10])
    assert warm.hypervolume(limits) > cold.hypervolume(limits)
    assert warm.begun_with != cold.begun_with == ""


def test_pymoo_searches_our_space() -> None:
    problem = pymoo_problem(TINY, [macs_objective(TINY_INDEX), quality(TINY_INDEX)], ["macs<=1500"])
    algorithm = NSGA2(pop_size=10, sampling=IntegerRandomSampling(), eliminate_duplicates=True)
    algorithm.mating.repair = RoundingRepair()
    found = minimize(problem, algorithm, ("n_gen", 10), seed=1)
    best = pareto_search(TINY, [macs_objective(TINY_INDEX), quality(TINY_INDEX)], ["macs<=1500"], evaluations=28)
    true_front = best.minimised[best.pareto()]
    assert all(any(np.allclose(point, one) for one in true_front) for point in found.F)
    with pytest.raises(ArgumentError, match="no objective"):
        pymoo_problem(TINY, [])
    with pytest.raises(ArgumentError, match="networks of another space"):
        pymoo_problem(TINY, [replace(quality(TINY_INDEX), space_digest=INDEX.digest)])


def test_what_fails_is_no_solution_for_pymoo() -> None:
    def evaluate(genomes: GenomeArray) -> FloatArray:
        if (genomes[:, 1] == 0).any() and len(genomes) == 1:
            raise DeviceError("does not fit")
        return np.where(genomes[:, 1] == 0, np.nan, TINY_INDEX.macs(genomes).astype(float))

    problem = pymoo_problem(TINY, [Objective("a", evaluate), quality(TINY_INDEX)])
    algorithm = NSGA2(pop_size=10, sampling=IntegerRandomSampling(), eliminate_duplicates=True)
    algorithm.mating.repair = RoundingRepair()
    found = minimize(problem, algorithm, ("n_gen", 5), seed=1)
    assert np.isfinite(found.F).all()
    assert (np.rint(found.X)[:, 1] == 1).all()


def test_optuna_searches_our_space() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    macs, top1 = macs_objective(TINY_INDEX), quality(TINY_INDEX)
    study.optimize(optuna_objective(TINY, [macs, top1], ["macs<=1500"]), n_trials=15)
    for trial in study.trials:
        genome = TINY_INDEX.canonical(TINY_INDEX.encode(trial.params)[None])
        assert trial.values == [float(macs.evaluate(genome)[0]), float(top1.evaluate(genome)[0])]
        assert (trial.user_attrs["violation"] > 0) == (trial.values[0] > 1500)
    with pytest.raises(ArgumentError, match="macs<~1500 cannot make them worse"):
        optuna_objective(TINY, [macs, top1], ["macs<~1500"])


def test_where_every_evaluation_failed_the_same_search_tries_again(tmp_path: Path) -> None:
    mended: list[bool] = []

    def accuracy(genomes: GenomeArray) -> FloatArray:
        if not mended:
            raise DeviceError("cannot read image.jpg")
        return np.asarray(quality(TINY_INDEX).evaluate(genomes), dtype=np.float64)

    objectives = [macs_objective(TINY_INDEX), Objective("top1_percent", accuracy, maximise=True)]
    for _ in range(2):
        with pytest.raises(SearchError, match=r"all 10 evaluations failed; the first: top1_percent: cannot read image\.jpg"):
            pareto_search(TINY, objectives, evaluations=10, population=5, folder=tmp_path)
    mended.append(True)
    result = pareto_search(TINY, objectives, evaluations=10, population=5, folder=tmp_path)
    assert (len(result), set(result.failures)) == (10, {""})


def test_what_is_measured_together_is_never_asked_by_several_threads() -> None:
    top1, batches = counted(quality(INDEX))
    pareto_search(OFA, [MACS, replace(top1, together=True)], evaluations=24, population=12, workers=3)
    assert max(map(len, batches)) > 1
    batches.clear()
    pareto_search(OFA, [MACS, top1], evaluations=24, population=12, workers=3)
    assert set(map(len, batches)) == {1}


@pytest.mark.parametrize("values", [{"genome": None}, {"genome": "text"}, {"macs": "text"}])
def test_evaluations_that_hold_no_numbers_are_refused_with_the_file(values: dict[str, Any], tmp_path: Path) -> None:
    objectives = [macs_objective(TINY_INDEX), quality(TINY_INDEX)]
    pareto_search(TINY, objectives, evaluations=6, population=3, folder=tmp_path)
    for path in tmp_path.glob("e*.parquet"):
        table = pq.read_table(path)
        rows = [{**row, **values} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(SearchError, match=r"e.*\.parquet is not a search that can go on"):
        pareto_search(TINY, objectives, evaluations=6, population=3, folder=tmp_path)
