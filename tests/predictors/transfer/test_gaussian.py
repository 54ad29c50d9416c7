"""The Gaussian process over mixtures: devices made of known parts, so that what it should find is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from layerclock.errors import ArgumentError
from layerclock.interfaces import HasLiveOperations
from layerclock.plugins import load_space
from layerclock.predictors.fitting import make_card
from layerclock.predictors.portable import OnnxPredictor
from layerclock.predictors.transfer.fitting import choose_networks
from layerclock.predictors.transfer.gaussian import FittedGaussian, GaussianPrior, GaussianTransfer
from layerclock.predictors.transfer.gaussian_graph import build_transfer_predictor
from layerclock.predictors.transfer.problem import Sources
from layerclock.predictors.transfer.views import Views
from layerclock.space import SiteIndex, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.space import GenomeArray

    FloatArray = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("fbnet:layout=cifar,resolution=32,classes=100")


class Device:
    """A made-up device: what each multiply-accumulate and each layer costs, and how much single blocks like to be skipped."""

    def __init__(
        self, space: SearchSpace, per_gmac_ms: float, per_layer_ms: float, seed: int, own: float = 0.1, noise: float = 0.01
    ) -> None:
        self.index = SiteIndex.of(space)
        rng = np.random.default_rng(seed)
        of_layer = [per_gmac_ms * layer.macs / 1e9 + per_layer_ms for layer in self.index.vocabulary]
        self.cost = np.array([*(np.array(of_layer) * rng.lognormal(0.0, own, len(of_layer))), 0.0])
        self.noise, self.rng = noise, rng

    def __call__(self, genomes: GenomeArray) -> FloatArray:
        """Latencies in ms, float64[N]."""
        exact: FloatArray = self.cost[self.index.layers(genomes)].sum(axis=1)
        return exact * self.rng.lognormal(0.0, self.noise, len(genomes))


@pytest.fixture(scope="module")
def networks(space: SearchSpace) -> GenomeArray:
    return sample(SiteIndex.of(space), 600, np.random.default_rng(1))


@pytest.fixture(scope="module")
def sources(space: SearchSpace, networks: GenomeArray) -> Sources:
    devices = [Device(space, 100.0, layer_ms, seed) for seed, layer_ms in enumerate((0.01, 0.05, 0.2, 0.4))]
    latency_ms = np.stack([device(networks[:300]) for device in devices], axis=1)
    latency_ms[::7, 1] = np.nan
    return Sources(networks[:300], latency_ms, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def prior(space: SearchSpace, sources: Sources) -> GaussianPrior:
    return GaussianPrior.of(space, sources)


def _agreement(fitted: FittedGaussian, device: Device, others: GenomeArray) -> float:
    return float(spearmanr(fitted.predict(others).mean, device(others)).statistic)


def test_other_devices_help_where_they_are_alike(space: SearchSpace, prior: GaussianPrior, networks: GenomeArray) -> None:
    rest, by_itself = networks[300:], GaussianPrior.of(space)
    agreements = []
    for seed in range(10, 14):
        device = Device(space, 100.0, 0.1, seed, own=0.02)
        rows = np.random.default_rng(seed).permutation(len(rest))[:6]
        latency_ms = device(rest[rows])
        helped, alone = prior.adapt(rest[rows], latency_ms), by_itself.adapt(rest[rows], latency_ms)
        assert helped.trust_in_sources > 0.5
        assert np.isnan(alone.trust_in_sources)
        agreements.append([_agreement(helped, device, rest), _agreement(alone, device, rest)])
    both = np.mean(agreements, axis=0)
    assert both[0] > max(0.9, both[1] + 0.02)


def test_the_guard_lets_go_of_devices_that_mislead(space: SearchSpace, sources: Sources, networks: GenomeArray) -> None:
    # What is slow on the others is fast here and the other way round, but for a part that none of them has.
    rng = np.random.default_rng(5)
    misleading = Sources(sources.genomes, rng.lognormal(0.0, 0.3, sources.latency_ms.shape), sources.devices)
    prior = GaussianPrior.of(space, misleading)
    device = Device(space, 100.0, 0.1, seed=10)
    rest = networks[300:]
    rows = GaussianPrior.of(space).choose(rest, 20)
    latency_ms = device(rest[rows])
    guarded, alone = prior.adapt(rest[rows], latency_ms), GaussianPrior.of(space).adapt(rest[rows], latency_ms)
    assert guarded.trust_in_sources < 0.5
    assert _agreement(guarded, device, rest) > _agreement(alone, device, rest) - 0.03


def test_chosen_networks_tell_more_than_random_ones(space: SearchSpace, networks: GenomeArray) -> None:
    prior, rest = GaussianPrior.of(space), networks[300:]
    chosen = prior.choose(rest, 10)
    assert len(set(chosen.tolist())) == 10
    assert np.array_equal(chosen, prior.choose(rest, 10))
    agreements = []
    for seed in range(6):
        random = np.random.default_rng(seed).permutation(len(rest))[:10]
        device = Device(space, 100.0, 0.1, seed, noise=0.03)
        agreements.append([_agreement(prior.adapt(rest[rows], device(rest[rows])), device, rest) for rows in (chosen, random)])
    assert np.diff(np.mean(agreements, axis=0))[0] < 0, "of the chosen ones, and of random ones"


def test_one_wild_measurement_does_not_carry_the_others_away(space: SearchSpace, prior: GaussianPrior, networks: GenomeArray) -> None:
    device = Device(space, 100.0, 0.1, seed=12)
    rest = networks[300:]
    rows = prior.choose(rest, 15)
    latency_ms = device(rest[rows])
    calm = prior.adapt(rest[rows], latency_ms)
    latency_ms[7] *= 3
    wild = prior.adapt(rest[rows], latency_ms)
    assert np.argmax(np.abs(wild.posterior.left_out)) == 7
    assert _agreement(wild, device, rest) > _agreement(calm, device, rest) - 0.05


def test_intervals_hold_what_they_say(space: SearchSpace, prior: GaussianPrior, networks: GenomeArray) -> None:
    rest, inside = networks[300:], []
    for seed in range(20, 30):
        device = Device(space, 100.0, 0.1, seed, noise=0.03)
        rows = np.random.default_rng(seed).permutation(len(rest))[:20]
        fitted = prior.adapt(rest[rows], device(rest[rows]))
        others = np.delete(rest, rows, axis=0)
        told = fitted.predict(others)
        inside.append(np.mean(np.abs(np.log(device(others)) - told.mean) <= fitted.interval_factor * told.std))
    assert 0.8 < np.mean(inside) < 0.98


@pytest.mark.parametrize("name", ["fbnet", "nas-bench-201"])
@pytest.mark.parametrize("helped", [True, False])
def test_the_file_answers_as_the_process_does(name: str, helped: bool, fake_table: LatencyTable) -> None:
    space = load_space(name)
    index = SiteIndex.of(space)
    genomes = sample(index, 160, np.random.default_rng(3))
    device, *others = (Device(space, 100.0, layer_ms, seed) for seed, layer_ms in enumerate((0.1, 0.3, 0.02)))
    latency_ms = np.stack([other(genomes[:120]) for other in others], axis=1)
    sources = Sources(genomes[:120], latency_ms, ("x", "y")) if helped else None
    prior = GaussianPrior.of(space, sources)
    known = genomes[120:140]
    fitted = prior.adapt(known, device(known))
    networks = fake_table.networks()
    card = make_card("transfer", fake_table, index, networks, 0.1, {})
    predictor = OnnxPredictor(build_transfer_predictor(fitted, known, card).model)
    answers, told = predictor.predict(genomes), fitted.predict(genomes)
    reach = fitted.interval_factor * told.std
    assert np.log(answers.latency_ms) == pytest.approx(told.mean, abs=1e-3)
    # A variance is a difference of larger numbers: single precision leaves less of it.
    assert np.log(answers.lower_ms) == pytest.approx(told.mean - reach, abs=0.2 * float(reach.min()))
    assert np.log(answers.upper_ms) == pytest.approx(told.mean + reach, abs=0.2 * float(reach.min()))
    assert (answers.coverage > 0).all()
    assert (answers.coverage <= 1).all()
    assert answers.coverage[120:140] == pytest.approx(1.0)


def test_cells_that_let_nothing_through_are_never_chosen() -> None:
    space = load_space("nas-bench-201")
    assert isinstance(space, HasLiveOperations)
    for seed in range(3):
        chosen = choose_networks(GaussianPrior.of(space, seed=seed), 15, seed)
        assert len(np.unique(chosen, axis=0)) == 15
        assert (space.live_operations(chosen) != 0).any(axis=1).all()
    with pytest.raises(ArgumentError, match="from 5 to"):
        choose_networks(GaussianPrior.of(space), 4)


def test_views_of_one_network_are_the_same_for_all_its_genomes(space: SearchSpace) -> None:
    views = Views.of(space)
    genomes = np.random.default_rng(0).integers(0, views.index.cardinality, (50, len(views.index.genes)))
    one, other = views(genomes), views(views.index.canonical(genomes))
    for name in views.names:
        assert np.allclose(one[name], other[name]), name


def test_bad_measurements_are_refused(space: SearchSpace, networks: GenomeArray) -> None:
    with pytest.raises(ArgumentError, match="positive"):
        GaussianTransfer().fit(space, None, networks[:3], np.array([1.0, -1.0, 2.0]))
    with pytest.raises(ArgumentError, match="latenc"):
        GaussianTransfer().fit(space, None, networks[:3], np.array([1.0, 2.0]))
    few = Sources(networks[:4], np.ones((4, 1)), ("a",))
    with pytest.raises(ArgumentError, match="a measured 4 networks"):
        GaussianPrior.of(space, few)
