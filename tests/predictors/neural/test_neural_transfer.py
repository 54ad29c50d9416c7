"""Neural predictors learn an order from other devices and adapt it to a new one; the same seed gives the same answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import spearmanr
from tiny_space import TINY

from layerclock.errors import ArgumentError, GenomeError
from layerclock.predictors.neural.brpnas import BrpNas
from layerclock.predictors.neural.nasflat import Nasflat
from layerclock.predictors.neural.training import Schedule, reproducible
from layerclock.predictors.transfer.baselines import MacsLine
from layerclock.predictors.transfer.problem import Pretrainable, Sources
from layerclock.predictors.transfer.tasks import read_tasks, run_task
from layerclock.search.spaces.nasbench201 import nas_bench_201
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.predictors.transfer.problem import TransferModel
    from layerclock.space import GenomeArray

NASFLAT = Nasflat(width=24, head=32, batch=64, pretraining=Schedule(100, 3e-3), adaptation=Schedule(30, 3e-3))
BRPNAS = BrpNas(width=48, pretraining=Schedule(200, 3e-3, 5e-4), training=Schedule(60, 2e-3, 5e-4))
SPACE = nas_bench_201()


@dataclass(frozen=True)
class Problem:
    """Cells on made-up devices, each with its own times for the five operations; the last column is the new device."""

    genomes: GenomeArray
    latency_ms: npt.NDArray[np.float64]

    @property
    def sources(self) -> Sources:
        return Sources(self.genomes[:300], self.latency_ms[:300, :-1], tuple("abcd"))

    @property
    def few(self) -> tuple[GenomeArray, npt.NDArray[np.float64]]:
        return self.genomes[300:320], self.latency_ms[300:320, -1]

    def spearman(self, model: TransferModel, sources: Sources | None) -> float:
        answer = model.fit(SPACE, sources, *self.few).predict(self.genomes[320:])
        return float(spearmanr(answer.mean, self.latency_ms[320:, -1]).statistic)


@pytest.fixture(scope="module")
def problem() -> Problem:
    rng = np.random.default_rng(0)
    genomes = sample(SiteIndex.of(SPACE), 700, rng)
    counts = np.stack([(SPACE.live_operations(genomes) == code).sum(axis=1) for code in range(5)], axis=1)
    times = rng.uniform(0.1, 1.0, (5, 5)) * np.array([0.0, 0.1, 0.5, 1.0, 0.3])[:, None]
    noise = np.exp(rng.normal(0.0, 0.01, (len(genomes), 5)))
    return Problem(genomes, (0.5 + counts @ times) * 10.0 ** np.arange(-2, 3) * noise)


@pytest.mark.parametrize("model", [NASFLAT, BRPNAS])
def test_other_devices_help_to_order_the_networks_of_a_new_one(model: TransferModel, problem: Problem) -> None:
    alone, helped = problem.spearman(model, None), problem.spearman(model, problem.sources)
    assert helped > 0.9
    assert helped > alone


def test_the_answer_is_log_latency(problem: Problem) -> None:
    answer = BRPNAS.fit(SPACE, problem.sources, *problem.few).predict(problem.genomes[320:])
    error = np.abs(np.exp(answer.mean) / problem.latency_ms[320:, -1] - 1)
    spread = np.abs(problem.latency_ms[320:, -1] / np.median(problem.few[1]) - 1)
    assert error.mean() < 0.8 * spread.mean()
    assert np.isnan(answer.std).all()


@pytest.mark.parametrize("model", [NASFLAT, BRPNAS])
def test_the_same_seed_gives_the_same_answer_whatever_was_drawn_before(model: Nasflat | BrpNas, problem: Problem) -> None:
    quick = replace(model, pretraining=Schedule(5, 1e-3))

    def answer(seed: int) -> npt.NDArray[np.float64]:
        torch.rand(3)
        return replace(quick, seed=seed).fit(SPACE, problem.sources, *problem.few).predict(problem.genomes[:50]).mean

    assert answer(1).tolist() == answer(1).tolist()
    assert answer(1).tolist() != answer(2).tolist()


@pytest.mark.parametrize("model", [NASFLAT, BRPNAS])
def test_adapting_leaves_what_was_learned_as_it_is(model: Nasflat | BrpNas, problem: Problem) -> None:
    assert isinstance(model, Pretrainable)
    pretrained = replace(model, pretraining=Schedule(5, 1e-3)).pretrain(SPACE, problem.sources)
    first = pretrained.adapt(*problem.few).predict(problem.genomes[:50]).mean
    pretrained.adapt(problem.genomes[:20], problem.latency_ms[:20, 0])
    assert pretrained.adapt(*problem.few).predict(problem.genomes[:50]).mean.tolist() == first.tolist()


def test_a_network_has_one_answer_in_any_company(problem: Problem) -> None:
    for fitted in (
        replace(NASFLAT, pretraining=Schedule(5, 1e-3)).fit(SPACE, problem.sources, *problem.few),
        BRPNAS.fit(SPACE, None, *problem.few),
    ):
        alone = [float(fitted.predict(problem.genomes[row : row + 1]).mean[0]) for row in range(5)]
        assert fitted.predict(problem.genomes[:100]).mean[:5] == pytest.approx(alone, rel=1e-4)
        assert fitted.predict(problem.genomes[:0]).mean.shape == (0,)


def test_a_supplementary_encoding_is_seen(problem: Problem) -> None:
    """Devices whose times have nothing to do with the graph, but all with the encoding."""
    rng = np.random.default_rng(3)
    secret = {genome.tobytes(): value for genome, value in zip(problem.genomes, rng.normal(size=700), strict=True)}

    def supplement(genomes: GenomeArray) -> npt.NDArray[np.float64]:
        return np.array([[secret[genome.tobytes()], 7.0] for genome in genomes])

    hidden = np.exp(supplement(problem.genomes)[:, :1] * np.ones(5))
    told = Problem(problem.genomes, hidden)
    assert told.spearman(replace(NASFLAT, supplement=supplement), told.sources) > 0.9
    assert abs(told.spearman(NASFLAT, told.sources)) < 0.5
    with pytest.raises(ArgumentError, match="no"):
        replace(NASFLAT, supplement=supplement).fit(SPACE, None, *told.few)
    with pytest.raises(ArgumentError, match="supplementary encoding of 300"):
        replace(NASFLAT, supplement=lambda genomes: np.zeros(len(genomes))).pretrain(SPACE, told.sources)


def test_gaps_and_devices_of_the_sources_may_be_any(problem: Problem) -> None:
    gappy = problem.latency_ms[:300, :-1].copy()
    gappy[np.random.default_rng(1).random(gappy.shape) < 0.5] = np.nan
    gappy[:3] = np.nan
    sources = Sources(problem.genomes[:300], gappy, tuple("abcd"))
    for model in (replace(NASFLAT, pretraining=Schedule(20, 3e-3)), replace(BRPNAS, pretraining=Schedule(20, 3e-3))):
        assert np.isfinite(model.fit(SPACE, sources, *problem.few).predict(problem.genomes).mean).all()


def test_chains_are_learned_as_well() -> None:
    genomes = np.array(list(np.ndindex(3, 2, 2, 2, 2)))
    index = SiteIndex.of(TINY)
    genomes = np.unique(index.canonical(genomes), axis=0)
    latency_ms = np.stack([index.macs(genomes) + 50.0, index.macs(genomes) * 2.0 + 99.0], axis=1)
    sources = Sources(genomes, latency_ms[:, :1], ("a",))
    for model in (NASFLAT, BRPNAS):
        fitted = model.fit(TINY, sources, genomes[::4], latency_ms[::4, 1])
        assert spearmanr(fitted.predict(genomes).mean, latency_ms[:, 1]).statistic > 0.9


def test_the_threads_and_the_random_state_are_put_back() -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()

    def fail() -> None:
        with reproducible(3):
            assert torch.get_num_threads() == 1
            torch.rand(2)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)


def test_torch_comes_only_with_the_neural_predictors(run_python: Callable[[str], str]) -> None:
    asked = "import sys; print('torch' in sys.modules)"
    assert run_python(f"import layerclock.predictors, layerclock.predictors.transfer.problem; {asked}").strip() == "False"
    assert run_python(f"import layerclock.predictors.neural.cells; {asked}").strip() == "False"


def test_what_cannot_be_learned_from_is_refused(problem: Problem) -> None:
    genomes, latency_ms = problem.few
    for model in (NASFLAT, BRPNAS):
        for wrong in (latency_ms[:3], -latency_ms, latency_ms * np.nan):
            with pytest.raises(ArgumentError, match="not enough to learn from"):
                model.fit(SPACE, None, genomes, wrong)
        with pytest.raises(GenomeError):
            model.fit(SPACE, None, genomes + 4, latency_ms)
    with pytest.raises(ArgumentError, match="no training"):
        Schedule(0, 1e-3)
    with pytest.raises(ArgumentError, match="no network"):
        Nasflat(width=0)
    with pytest.raises(ArgumentError, match="no network"):
        BrpNas(dropout=1.0)


def test_real_devices_of_one_kind_help_with_another_kind(data_folder: Path) -> None:
    """NASFLAT's task N1: from phones, an embedded TPU and a simulated accelerator to GPUs."""
    if not (data_folder / "nb201_latency.parquet").is_file():
        pytest.skip("nb201_latency.parquet: HELP's and BRP-NAS's latencies, https://github.com/HayeonLee/HELP")
    (task,) = read_tasks(data_folder, ["N1"])
    task = replace(task, source_sample=600, unseen=task.unseen[:2])
    found = run_task(task, 20, 0, replace(NASFLAT, pretraining=Schedule(200, 2e-3)), "random")
    by_size = run_task(task, 20, 0, MacsLine(), "random")
    for ours, theirs in zip(found, by_size, strict=True):
        assert ours.spearman > max(0.85, theirs.spearman), ours.device
