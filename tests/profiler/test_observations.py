"""What was seen of the machine becomes numbers in the table's footer, and nothing is said of what nobody looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import CampaignError
from layerclock.interfaces import KernelTimes
from layerclock.network import Kernel
from layerclock.profiler.measurement import Measurement, Watched
from layerclock.profiler.observations import NetworkSeen, Observed, Part
from layerclock.profiler.store import CampaignFolder
from layerclock.timing import Timing

if TYPE_CHECKING:
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.space import SiteIndex


@pytest.fixture
def seen(fake_folder: Path, tiny_index: SiteIndex) -> Observed:
    """Nothing seen yet of the campaign behind ``fake_table``."""
    return Observed(CampaignFolder(fake_folder).record(), tiny_index)


def _measurement(number: int, reference_ns: list[float], switches: list[int], **facts: float) -> Measurement:
    runs = len(reference_ns)
    return Measurement(
        0, number, np.full(runs, 1e6), Watched(np.array(reference_ns), np.array(reference_ns), np.array(switches)), facts=facts
    )


def test_what_disturbed_the_campaign_is_told_in_numbers(seen: Observed) -> None:
    seen.add(_measurement(0, [100.0] * 10, [0] * 9 + [1], steal_s=0.1, frequency_mhz=3000.0, temperature_c=50.0))
    seen.add(_measurement(1, [130.0] * 5 + [120.0] * 5, [0] * 10, steal_s=0.2, frequency_mhz=2000.0, temperature_c=70.0, throttled_s=0.5))
    found = seen.interference()
    assert seen.at_rest_ns == pytest.approx(100.0)
    assert found == pytest.approx(
        {
            "undisturbed_share": 9 / 20,
            "switches_per_run": 1 / 20,
            "reference_at_rest_ns": 100.0,
            "reference_drift": 0.2,
            "steal_s": 0.3,
            "throttled_s": 0.5,
            "frequency_mhz_min": 2000.0,
            "temperature_c_max": 70.0,
        }
    )


def test_the_machine_at_rest_may_have_been_faster_than_any_run(seen: Observed) -> None:
    seen.rest(np.array([80.0] * 50 + [np.nan]))
    seen.add(_measurement(0, [100.0] * 10, [0] * 10))
    assert seen.at_rest_ns == pytest.approx(80.0)
    assert seen.interference()["undisturbed_share"] == 0.0


def test_nothing_is_said_where_nobody_looked(seen: Observed, fake_table: LatencyTable) -> None:
    assert seen.interference() == {}
    assert np.isnan(seen.at_rest_ns)
    assert np.isnan(seen.noise())
    assert not seen.steady()
    seen.add(_measurement(0, [np.nan] * 4, [0] * 4))
    assert seen.interference() == {}
    assert set(fake_table.interference) <= {"measured_s", "steal_s", "steal_share", "throttled_s", "frequency_mhz_min", "temperature_c_max"}


def test_what_was_measured_covers_its_layers(seen: Observed, fake_folder: Path, tiny_index: SiteIndex) -> None:
    measurements = [m for m in CampaignFolder(fake_folder).measurements() if m.round == 0]
    assert seen.covered == 0
    for measurement in measurements:
        seen.add(measurement)
    assert seen.covered == len(tiny_index.vocabulary)
    assert len(seen.half_widths()) == len(tiny_index.vocabulary)
    assert seen.counter_cost_ns() == 0.0


def _profiled(number: int, samples_us: dict[str, float]) -> Measurement:
    kernels = tuple(Kernel(name, "Conv", "stem") for name in samples_us)
    samples = np.tile(np.array(list(samples_us.values())) * 1e3, (8, 1))
    watched = Watched.unseen(8)
    return Measurement(0, number, np.full(8, 1e6), watched, KernelTimes(kernels, samples), watched)


def test_a_kernel_that_one_round_does_not_report_took_no_time_there() -> None:
    network = NetworkSeen()
    network.add(_profiled(0, {"a": 5.0}))
    network.add(_profiled(1, {"b": 1.0, "a": 5.0}))
    assert [kernel.name for kernel in network.kernels] == ["a", "b"]
    assert network.summed([0, 1], float("nan")).samples_ns.tolist() == [5000.0] * 8 + [6000.0] * 8
    assert network.summed([0], float("nan"), subtract_ns=1000.0).latency_us == 4.0


def test_other_kernels_of_the_same_names_are_refused() -> None:
    network = NetworkSeen()
    first = _profiled(0, {"a": 5.0})
    network.add(first)
    assert first.kernels is not None
    other = KernelTimes((replace(first.kernels.kernels[0], op="Gemm"),), first.kernels.samples_ns)
    with pytest.raises(CampaignError, match="executed as other kernels"):
        network.add(replace(first, round=1, kernels=other))


def test_a_layer_rests_on_the_networks_in_which_it_was_undisturbed() -> None:
    def timing(us: float, disturbed: float) -> Timing:
        return Timing(np.full(10, us * 1e3), np.zeros(10, dtype=np.int64), np.full(10, disturbed))

    quiet, busy = [timing(us, 0.0) for us in (1.0, 2.0, 3.0)], [timing(9.0, 1.0)] * 4
    assert Part([*quiet, *busy], [1] * 7).estimate_us[0] == 2.0
    # Two are too few to leave the others out.
    assert Part([*quiet[:2], *busy], [1] * 6).estimate_us[0] == 9.0
