"""The methods to beat: what they find where it can be found, and how much they doubt themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerclock.errors import ArgumentError, GenomeError
from layerclock.plugins import load_space
from layerclock.predictors.transfer.baselines import BestSourceDevice, MacsLine, RidgeOnEncoding, SourceRidge
from layerclock.predictors.transfer.encodings import encode
from layerclock.predictors.transfer.problem import Sources
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.predictors.transfer.problem import TransferModel
    from layerclock.space import GenomeArray

SPACE = load_space("fbnet")
INDEX = SiteIndex.of(SPACE)
GENOMES = sample(INDEX, 400, np.random.default_rng(0))
MODELS: dict[str, TransferModel] = {
    "macs": MacsLine(),
    "best-source": BestSourceDevice(),
    "ridge": RidgeOnEncoding(),
    "source-ridge": SourceRidge(),
}
NEEDS_SOURCES = ("best-source", "source-ridge")


def _seconds(genomes: GenomeArray, seed: int) -> npt.NDArray[np.float64]:
    """An invented device, each of whose layers takes a time of its own."""
    of_layer = np.random.default_rng(seed).uniform(0.1, 3.0, len(INDEX.vocabulary))
    seconds: npt.NDArray[np.float64] = INDEX.counts(genomes) @ of_layer
    return seconds


@pytest.fixture(scope="module")
def sources() -> Sources:
    """300 of the networks on three devices; the second has not measured every third."""
    latency_ms = np.stack([_seconds(GENOMES[:300], seed) for seed in (1, 2, 3)], axis=1)
    latency_ms[::3, 1] = np.nan
    return Sources(GENOMES[:300], latency_ms, ("one", "two", "three"))


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_a_mean_and_a_doubt_for_each_network(name: str, sources: Sources) -> None:
    answer = MODELS[name].fit(SPACE, sources, GENOMES[:20], _seconds(GENOMES[:20], 4)).predict(GENOMES[300:])
    assert answer.mean.shape == answer.std.shape == (100,)
    assert np.isfinite(answer.mean).all()
    assert (answer.std > 0).all()


def test_a_power_of_the_macs_is_found_exactly() -> None:
    latency_ms = 3e-5 * np.power(1.0 + INDEX.macs(GENOMES).astype(np.float64), 0.7)
    fitted = MacsLine().fit(SPACE, None, GENOMES[:5], latency_ms[:5])
    assert fitted.predict(GENOMES[5:]).mean == pytest.approx(np.log(latency_ms[5:]))
    assert fitted.predict(GENOMES[5:]).std == pytest.approx(0.0, abs=1e-6)


def test_the_doubt_of_a_line_is_what_leaving_out_tells() -> None:
    latency_ms = _seconds(GENOMES[:12], 5)
    errors = []
    for left_out in range(12):
        rest = np.delete(np.arange(12), left_out)
        fitted = MacsLine().fit(SPACE, None, GENOMES[rest], latency_ms[rest])
        errors.append(fitted.predict(GENOMES[[left_out]]).mean[0] - np.log(latency_ms[left_out]))
    told = MacsLine().fit(SPACE, None, GENOMES[:12], latency_ms).predict(GENOMES).std
    assert told == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_the_source_that_is_the_new_device_is_found(sources: Sources) -> None:
    """Measured there are 200 of the networks on the second device, 100 unseen ones are completed."""
    latency_ms = 7.0 * _seconds(GENOMES, 2)
    fitted = BestSourceDevice().fit(SPACE, sources, GENOMES[1:30:3], latency_ms[1:30:3])
    measured = np.flatnonzero(np.isfinite(sources.latency_ms[:, 1]))
    assert fitted.predict(GENOMES[measured]).mean == pytest.approx(np.log(latency_ms[measured]))
    completed = fitted.predict(GENOMES[300:]).mean
    assert spearmanr(completed, latency_ms[300:]).statistic > 0.95
    assert np.abs(completed - np.log(latency_ms[300:])).mean() < 0.03
    # One network in another writing: what an inactive gene says does not matter.
    assert np.array_equal(fitted.predict(INDEX.canonical(GENOMES)).mean, fitted.predict(GENOMES).mean)


def test_a_mixture_of_sources_needs_all_of_them(sources: Sources) -> None:
    latency_ms = np.exp(np.log(np.stack([_seconds(GENOMES, seed) for seed in (1, 2, 3)])).mean(axis=0))
    known = slice(1, 60, 3)
    answers = {name: MODELS[name].fit(SPACE, sources, GENOMES[known], latency_ms[known]).predict(GENOMES[300:]) for name in MODELS}
    errors = {name: float(np.abs(answer.mean - np.log(latency_ms[300:])).mean()) for name, answer in answers.items()}
    assert min(errors, key=errors.__getitem__) == "source-ridge"
    assert errors["source-ridge"] < 0.03


def test_the_doubt_of_a_ridge_is_what_leaving_out_tells() -> None:
    target = _seconds(GENOMES[:25], 6)
    fitted = RidgeOnEncoding(("counts",)).fit(SPACE, None, GENOMES[:25], target)
    features = StandardScaler().fit_transform(encode("counts", SPACE, GENOMES[:25]))
    chosen = RidgeCV(np.logspace(-3, 4, 15)).fit(features, np.log(target))
    left_out = cross_val_predict(make_pipeline(RidgeCV([chosen.alpha_])), features, np.log(target), cv=LeaveOneOut())
    assert fitted.predict(GENOMES).std == pytest.approx(np.sqrt(np.mean((left_out - np.log(target)) ** 2)), rel=1e-6)
    assert fitted.predict(GENOMES[:25]).mean == pytest.approx(chosen.predict(features))


@pytest.mark.parametrize("name", MODELS)
def test_two_networks_that_take_equally_long_are_a_sample_too(name: str, sources: Sources) -> None:
    answer = MODELS[name].fit(SPACE, sources, GENOMES[:2], np.array([5.0, 5.0])).predict(GENOMES)
    assert answer.mean == pytest.approx(np.log(5.0))


@pytest.mark.parametrize("name", MODELS)
def test_samples_that_cannot_be_are_refused(name: str, sources: Sources) -> None:
    model = MODELS[name]
    with pytest.raises(ArgumentError, match="give one latency a network, and two or more"):
        model.fit(SPACE, sources, GENOMES[:3], np.ones(2))
    with pytest.raises(ArgumentError, match="two or more"):
        model.fit(SPACE, sources, GENOMES[:1], np.ones(1))
    for latency in (0.0, np.nan, np.inf):
        with pytest.raises(ArgumentError, match="not a positive number"):
            model.fit(SPACE, sources, GENOMES[:2], np.array([1.0, latency]))
    with pytest.raises(GenomeError):
        model.fit(SPACE, sources, GENOMES[:3] + 9, np.ones(3))
    if name in NEEDS_SOURCES:
        with pytest.raises(ArgumentError, match="needs latencies of other devices"):
            model.fit(SPACE, None, GENOMES[:3], np.ones(3))
        empty = Sources(GENOMES[:9], np.full((9, 1), np.nan), ("idle",))
        with pytest.raises(ArgumentError, match="idle measured 0 networks"):
            model.fit(SPACE, empty, GENOMES[:3], np.ones(3))


def test_a_sister_device_helps_on_measured_cells(nb201: Sources) -> None:
    """From nine devices of HW-NAS-Bench to one more of their kind: 20 cells are enough for a rank correlation of .95."""
    names = ("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
    columns = [nb201.devices.index(name) for name in names]
    rows = np.random.default_rng(0).permutation(len(nb201.genomes))[:800]
    others = Sources(nb201.genomes[rows[:300]], nb201.latency_ms[rows[:300]][:, columns], names)
    truth = nb201.latency_ms[rows, nb201.devices.index("titan_rtx_256")]
    space = load_space("nas-bench-201")
    found = {
        name: float(
            spearmanr(
                model.fit(space, others, nb201.genomes[rows[:20]], truth[:20]).predict(nb201.genomes[rows[300:]]).mean, truth[300:]
            ).statistic
        )
        for name, model in MODELS.items()
    }
    assert min(found["best-source"], found["source-ridge"]) > 0.95
    assert found["source-ridge"] > found["macs"]
