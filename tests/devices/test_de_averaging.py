"""Single runs recovered from OpenVINO's counters, which tell the mean of all runs, cut to whole microseconds."""

from __future__ import annotations

import numpy as np
import pytest

from layerclock.devices.openvino.counters import CUT_OFF_US
from layerclock.devices.running_means import taut

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _lowest_totals(runs_us: FloatArray) -> FloatArray:
    """What is known of the totals after each run: the cut mean of the runs, each cut itself, times their number."""
    count = np.arange(1, len(runs_us) + 1)[:, None]
    return np.floor(np.cumsum(np.floor(runs_us), axis=0) / count) * count


def _recovered(runs_us: FloatArray) -> FloatArray:
    """All runs but the first, which is cold."""
    return np.diff(taut(_lowest_totals(runs_us)), axis=0) + CUT_OFF_US


def test_the_totals_stay_where_the_counters_say_they_are() -> None:
    runs_us = np.random.default_rng(0).uniform(1, 200, (32, 50))
    lowest = _lowest_totals(runs_us)
    totals = taut(lowest)
    assert (totals >= lowest - 1e-9).all()
    assert (totals <= lowest + np.arange(32)[:, None] + 1e-9).all()
    assert np.array_equal(totals[0], lowest[0]), "the cold run is exact"


@pytest.mark.parametrize("cold_us", [30.0, 900.0])
def test_steady_runs_are_recovered_to_a_microsecond(cold_us: float) -> None:
    steady_us = np.array([3.3, 17.0, 40.5, 123.9, 1000.2])
    runs_us = np.vstack([np.full(5, cold_us), np.tile(steady_us, (31, 1))])
    recovered = _recovered(runs_us)
    assert (np.abs(np.median(recovered, axis=0) - steady_us) <= 1.0).all()
    assert (np.abs(recovered.mean(axis=0) - steady_us) <= 1.1).all()


def test_a_slow_run_shows_where_it_was() -> None:
    runs_us = np.full((32, 3), 50.0)
    runs_us[[10, 20, 30], [0, 1, 2]] = 250.0
    recovered = _recovered(runs_us)
    # The first run is cold and left out: run 10 is row 9.
    assert recovered.argmax(axis=0).tolist() == [9, 19, 29]
    assert (recovered.max(axis=0) > 200).all()
    assert np.median(recovered) == pytest.approx(50.0, abs=2.5)


def test_a_lasting_change_is_followed() -> None:
    runs_us = np.concatenate([np.full((16, 1), 40.0), np.full((16, 1), 80.0)])
    recovered = _recovered(runs_us)
    assert recovered[:10].mean() == pytest.approx(40.0, abs=2.0)
    assert recovered[-10:].mean() == pytest.approx(80.0, abs=2.0)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5])
def test_few_runs_are_as_good_as_they_can_be(runs: int) -> None:
    recovered = _recovered(np.full((runs, 2), 20.0))
    assert recovered.shape == (runs - 1, 2)
    assert (np.abs(recovered - 20.0) <= runs).all()
