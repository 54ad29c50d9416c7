from __future__ import annotations

import math

import numpy as np
import pytest

from layerclock.timing import DISTURBED_ABOVE, LATENCY_QUANTILE, Timing, disturbance


def test_statistics_come_from_the_samples() -> None:
    timing = Timing(np.array([4000.0, 1000.0, 3000.0, 2000.0, 5000.0]))
    assert timing.latency_us == timing.quantile_us(LATENCY_QUANTILE) == 2.0
    assert timing.quantile_us(0) == 1.0
    assert timing.mean_us == 3.0
    assert timing.std_us == pytest.approx(math.sqrt(2.5))
    assert Timing(np.array([7.0])).std_us == 0.0


@pytest.mark.parametrize("samples", [np.array([]), np.ones((2, 2))])
def test_a_timing_without_a_list_of_samples_is_refused(samples: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    with pytest.raises(ValueError, match="non-empty"):
        Timing(samples)
    with pytest.raises(ValueError, match="differ in length"):
        Timing(np.ones(3), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="disturbed and samples differ in length"):
        Timing(np.ones(3), disturbed=np.zeros(2))


@pytest.mark.parametrize(("count", "level"), [(40, 0.9), (120, 0.9), (120, 0.5)])
def test_the_interval_holds_the_true_quantile_as_often_as_it_says(count: int, level: float) -> None:
    # Skewed like times are; the true quantile is that of a very large sample of the same law.
    rng = np.random.default_rng(0)
    truth_us = float(np.quantile(rng.gamma(2.0, 1000.0, 2_000_000), LATENCY_QUANTILE)) / 1e3
    inside = 0
    for _ in range(2000):
        low, high = Timing(rng.gamma(2.0, 1000.0, count)).interval_us(level)
        inside += low <= truth_us <= high
    # Whole ranks make it wider than asked, never much narrower.
    assert level - 0.02 < inside / 2000 < level + 0.12


def test_the_verdict_names_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    assert Timing(1e6 + rng.normal(0, 1e3, 50)).verdict == ("steady", "")
    assert Timing(np.full(7, 1e6)).verdict == ("noisy", "only 7 samples")
    verdict, reason = Timing(1e6 + np.abs(rng.normal(0, 5e5, 50))).verdict
    assert verdict == "noisy"
    assert "wider than +-2%" in reason


def test_the_noise_floor_compares_odd_and_even_rounds() -> None:
    rounds = np.repeat([0, 1, 2, 3], 5)
    quiet = np.full(20, 1e6)
    assert Timing(quiet, rounds).noise_floor == 0.0
    slow_rounds = np.where(rounds % 2 == 1, 1.1e6, 1e6)
    assert Timing(slow_rounds, rounds).noise_floor == pytest.approx(0.05)
    # Without rounds, neighbours are compared: a slow half of the time hides in both halves.
    assert Timing(slow_rounds).noise_floor == pytest.approx(0.0)


def test_what_is_faster_than_can_be_measured_is_noisy_and_no_error() -> None:
    for samples in (np.zeros(20), np.full(20, -500.0)):
        assert math.isnan(Timing(samples).noise_floor)
        assert Timing(samples).verdict == ("noisy", "faster than can be measured")


def test_one_half_alone_has_no_noise_floor() -> None:
    assert math.isnan(Timing(np.array([1e6])).noise_floor)
    assert math.isnan(Timing(np.full(6, 1e6), np.array([0, 0, 2, 2, 4, 4])).noise_floor)


def test_a_run_is_as_disturbed_as_the_reference_beside_it_was_slow() -> None:
    reference_ns = np.array([100.0, 90.0, 105.0, 150.0, 100.0, np.nan, np.nan])
    switches = np.array([0, 0, 0, 0, 1, 0, 2])
    disturbed = disturbance(reference_ns, switches, at_rest_ns=100.0)
    assert disturbed == pytest.approx([0.0, 0.0, 0.05, 0.5, 0.5, 0.0, 1.0])
    assert ((disturbed <= DISTURBED_ABOVE) == [True, True, True, False, False, True, False]).all()
    assert disturbance(reference_ns, switches, at_rest_ns=float("nan")).tolist() == [0, 0, 0, 0, 0.5, 0, 1]


def test_the_latency_rests_on_undisturbed_samples_where_there_are_enough() -> None:
    samples = np.concatenate([np.full(8, 2000.0), np.full(24, 1000.0)])  # the disturbed ones are even faster
    disturbed = np.concatenate([np.zeros(8), np.full(24, 0.5)])
    timing = Timing(samples, disturbed=disturbed)
    assert (timing.undisturbed, timing.settled) == (8, True)
    assert timing.latency_us == 2.0
    assert timing.interval_us() == (2.0, 2.0)
    assert timing.quantile_us(0) == 1.0, "the other statistics are those of all samples"
    assert timing.verdict == ("steady", "")


def test_where_too_few_are_undisturbed_the_least_disturbed_join_them() -> None:
    disturbed = np.concatenate([np.full(20, 0.9), np.full(12, 0.1)])
    timing = Timing(np.concatenate([np.full(20, 9000.0), np.full(12, 1000.0)]), disturbed=disturbed)
    assert (timing.undisturbed, timing.settled) == (0, False)
    assert timing.latency_us == 1.0
    assert timing.interval_us()[1] == 1.0
    assert timing.verdict == ("noisy", "only 0 of 32 samples were undisturbed")


def test_the_quantile_sinks_with_the_undisturbed_share() -> None:
    samples = np.arange(1000.0, 1100.0)
    quiet = Timing(samples, disturbed=np.zeros(100))
    busy = Timing(np.concatenate([samples, samples]), disturbed=np.repeat([0.0, 1.0], 100))
    assert quiet.latency_us == Timing(samples).latency_us == pytest.approx(np.quantile(samples, LATENCY_QUANTILE) / 1e3)
    assert busy.latency_us == pytest.approx(np.quantile(samples, LATENCY_QUANTILE / 2) / 1e3)
    assert Timing(samples, disturbed=np.ones(100)).latency_us == pytest.approx(samples.min() / 1e3)


def test_the_noise_floor_is_that_of_the_samples_that_the_latency_rests_on() -> None:
    rounds = np.repeat([0, 1], 20)
    samples = np.where(np.arange(40) % 2, 5e6, 1e6)
    assert Timing(samples, rounds, np.where(np.arange(40) % 2, 1.0, 0.0)).noise_floor == 0.0
