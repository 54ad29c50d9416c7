"""Disturbed runs tell what an undisturbed one would have taken, as far as the reference workload tells how disturbed they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from layerclock.profiler.correction import Runs, corrected, slowdown
from layerclock.profiler.measurement import Watched
from layerclock.timing import Timing, disturbance

AT_REST_NS = 100.0


def _campaign(
    latency_ms: np.ndarray, undisturbed_share: float, exposure: float, unseen: float = 0.0, boards: tuple[str, ...] = ("",)
) -> dict[int, Runs]:
    """Four rounds over all networks; ``unseen`` is what a neighbour adds for minutes on one board, and no reference workload tells."""
    rng = np.random.default_rng(0)
    visits = np.array([rng.permutation(len(latency_ms)) for _ in range(4)])  # the network of each place in each round
    runs = {}
    for number, latency in enumerate(latency_ms):
        place = np.argmax(visits == number, axis=1) + np.arange(4) * len(latency_ms)
        reference = AT_REST_NS * np.where(rng.random((2, 60)) < undisturbed_share**0.5, 1.0, rng.uniform(1.1, 1.5, (2, 60)))
        watched = Watched(reference[0], reference[1], np.zeros(60, dtype=np.int64))
        slow = slowdown(watched, AT_REST_NS)
        on = place % len(boards)
        busy = unseen * (np.sin(place / len(boards) / 3 + 2 * on) > 0)
        # What the two readings do not tell only ever makes a run longer.
        times = latency * 1e6 * np.exp(exposure * slow + busy[np.arange(60) // 15] + rng.gamma(3.0, 0.02, 60))
        disturbed = disturbance(watched.reference_ns, watched.switches, AT_REST_NS)
        timing = Timing(times, np.arange(60) // 15, disturbed)
        runs[number] = Runs(timing, slow, place // len(boards) * 0.5, tuple(boards[board] for board in on))
    return runs


def _spread(timings: list[Timing], latency_ms: np.ndarray) -> float:
    found = np.array([timing.latency_us for timing in timings]) / latency_ms
    return float(found.std() / found.mean())


@pytest.mark.parametrize("exposure", [0.4, 0.8])
def test_networks_compare_better_than_by_their_undisturbed_runs(exposure: float) -> None:
    latency_ms = np.random.default_rng(1).uniform(5.0, 15.0, 40)
    runs = _campaign(latency_ms, undisturbed_share=0.1, exposure=exposure)
    found = np.array([timing.latency_us for timing in corrected(runs).values()]) / latency_ms
    before = np.array([one.timing.latency_us for one in runs.values()]) / latency_ms
    assert found.std() / found.mean() < 0.75 * before.std() / before.mean()
    # The level is that of the undisturbed runs.
    assert np.median(found) == pytest.approx(np.median(before), rel=0.01)


@pytest.mark.parametrize("boards", [("",), ("a", "b")])
def test_what_slows_the_networks_beside_is_taken_off(boards: tuple[str, ...]) -> None:
    latency_ms = np.random.default_rng(1).uniform(5.0, 15.0, 40)
    runs = _campaign(latency_ms, undisturbed_share=0.1, exposure=0.4, unseen=0.2, boards=boards)
    unknown = {number: replace(one, begun_s=np.full(4, np.nan)) for number, one in runs.items()}
    alone = _spread(list(corrected(unknown).values()), latency_ms)
    assert _spread(list(corrected(runs).values()), latency_ms) < 0.7 * alone
    # Networks of another board are no neighbours, whatever the clocks say.
    apart = {number: replace(one, boards=tuple(f"{number}.{visit}" for visit in range(4))) for number, one in runs.items()}
    assert _spread(list(corrected(apart).values()), latency_ms) == pytest.approx(alone)


def test_waves_of_other_members_tell_their_minutes_from_the_networks() -> None:
    """Two waves of twenty networks, each measured in two sittings of two rounds, at four levels of the machine."""
    latency_ms = np.random.default_rng(1).uniform(5.0, 15.0, 40)
    numbers = np.arange(40)
    halves, alternate = [numbers[:20], numbers[20:]], [numbers[::2], numbers[1::2]]

    def spread(waves: list[np.ndarray]) -> float:
        rng = np.random.default_rng(0)
        times: dict[int, list[np.ndarray]] = {number: [] for number in numbers.tolist()}
        begun: dict[int, list[float]] = {number: [] for number in numbers.tolist()}
        for wave, (members, level) in enumerate(zip(waves, (0.0, 0.06, 0.01, 0.05), strict=True)):
            for visit, number in enumerate([*rng.permutation(members), *rng.permutation(members)]):
                times[number].append(latency_ms[number] * 1e6 * np.exp(level + rng.gamma(3.0, 0.01, 15)))
                begun[number].append(300.0 * wave + 0.5 * visit)
        slow = rng.choice([0.0, 0.1], 60)
        runs = {
            number: Runs(Timing(np.concatenate(times[number]), np.arange(60) // 15, slow), slow, np.array(begun[number]), ("",) * 4)
            for number in numbers.tolist()
        }
        return _spread(list(corrected(runs).values()), latency_ms)

    assert spread(halves + alternate) < 0.4 * spread(halves + halves)


def test_neighbours_change_little_where_they_tell_nothing() -> None:
    latency_ms = np.random.default_rng(1).uniform(5.0, 15.0, 40)
    runs = _campaign(latency_ms, undisturbed_share=0.3, exposure=0.4)
    unknown = {number: replace(one, begun_s=np.full(4, np.nan)) for number, one in runs.items()}
    alone = _spread(list(corrected(unknown).values()), latency_ms)
    assert _spread(list(corrected(runs).values()), latency_ms) < 1.2 * alone


def test_what_no_neighbour_tells_stays_in_the_noise_floor() -> None:
    latency_ms = np.random.default_rng(1).uniform(5.0, 15.0, 40)
    runs = _campaign(latency_ms, undisturbed_share=0.3, exposure=0.4)
    shaken = {}
    for number, one in runs.items():  # each visit is slower or faster as a whole, for reasons of its own
        own = np.random.default_rng(100 + number).normal(0.0, 0.05, 4)
        timing = replace(one.timing, samples_ns=one.timing.samples_ns * np.exp(own[one.visits]))
        shaken[number] = replace(one, timing=timing)
    timings = list(corrected(shaken).values())
    assert np.mean([timing.noise_floor for timing in timings]) > 0.6 * _spread(timings, latency_ms)


def test_where_nothing_disturbs_or_nobody_looks_nothing_is_corrected() -> None:
    runs = _campaign(np.array([5.0, 6.0]), undisturbed_share=1.0, exposure=0.5)
    assert corrected(runs) == {number: one.timing for number, one in runs.items()}
    assert slowdown(Watched.unseen(3), AT_REST_NS).tolist() == [0.0] * 3
    assert slowdown(Watched(np.ones(2), np.ones(2), np.zeros(2, dtype=np.int64)), float("nan")).tolist() == [0.0] * 2


def test_one_visit_alone_stays_as_it_was() -> None:
    one = _campaign(np.array([8.0]), undisturbed_share=0.5, exposure=0.5)[0]
    single = Runs(replace(one.timing, rounds=None), one.slowdown, one.begun_s[:1], one.boards[:1])
    assert corrected({0: single}) == {0: single.timing}


def test_the_slowdown_is_that_of_both_sides_and_never_below_zero_or_beyond_use() -> None:
    watched = Watched(np.array([90.0, 100.0, 1e9]), np.array([100.0, 100.0 * np.e**0.2, 1e9]), np.zeros(3, dtype=np.int64))
    assert slowdown(watched, AT_REST_NS) == pytest.approx([0.0, 0.1, 0.45])


def test_one_network_alone_keeps_the_level_of_its_undisturbed_runs() -> None:
    runs = _campaign(np.array([8.0]), undisturbed_share=0.5, exposure=0.5)
    assert corrected(runs)[0].latency_us == pytest.approx(runs[0].timing.latency_us)
