"""The check of a table finds each kind of fault, in tables altered in one place, and none in a good one."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from layerclock.datasets.card import table_card
from layerclock.datasets.check import check_table
from layerclock.datasets.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.datasets.table import LatencyTable

    Row = dict[str, Any]

GOOD = {"undisturbed_share": 0.9, "reference_drift": 0.02, "steal_share": 0.0, "throttled_s": 0.0, "temperature_c_max": 60.0}
QUANTILES = ("min_us", "p10_us", "p25_us", "p50_us", "p75_us", "p90_us")


@pytest.fixture
def good(fake_table: LatencyTable) -> LatencyTable:
    """A table that keeps every rule."""
    rows = [
        row | {"status": "steady" if row["status"] == "noisy" else row["status"], "n_undisturbed": max(8, row["n_undisturbed"] or 0)}
        for row in fake_table.rows.to_pylist()
    ]
    # The small networks of the tests spend a large share of their time in the call, and not in their layers.
    table = replace(fake_table, interference=GOOD, additivity={"median": 0.95, "lowest": 0.94, "highest": 0.96})
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))


def _altered(table: LatencyTable, level: str, alter: Callable[[Row], None], most: int = 1) -> LatencyTable:
    rows = table.rows.to_pylist()
    for row in [row for row in rows if row["level"] == level][:most]:
        alter(row)
    return replace(table, rows=pa.Table.from_pylist(rows, schema=SCHEMA))


def _broken(table: LatencyTable) -> dict[str, bool]:
    """The rules that the table breaks, and whether each is serious."""
    return {finding.rule: finding.serious for finding in check_table(table) if not finding.kept}


def test_a_good_table_keeps_every_rule_and_each_says_what_it_saw(good: LatencyTable) -> None:
    findings = check_table(good)
    assert [finding for finding in findings if not finding.kept] == []
    assert len({finding.rule for finding in findings}) == len(findings) == 17
    assert all(finding.detail and finding.advice for finding in findings)


def test_what_nobody_looked_at_is_no_rule(good: LatencyTable) -> None:
    assert len(check_table(replace(good, interference={}))) == 12


def test_layers_that_were_not_measured_are_missed(good: LatencyTable) -> None:
    missing = replace(good, coverage={**good.coverage, "layers_of_the_space": good.coverage["layers_of_the_space"] + 1})
    assert _broken(missing) == {"every layer of the space was measured": True}
    assert _broken(replace(missing, space="onnx:model")) == {}, "a runtime may fold layers of a file away"


def test_a_network_that_failed_is_named(good: LatencyTable) -> None:
    failed = _altered(good, "network", lambda row: row.update(status="failed", reason="it caught fire", latency_us=None))
    assert _broken(failed) == {"no network failed": True}
    (finding,) = (finding for finding in check_table(failed) if not finding.kept)
    assert finding.detail == "1 of 22; the first: it caught fire"


@pytest.mark.parametrize(
    "alter",
    [
        lambda row: row.update(latency_us=-1.0, interval_low_us=-2.0),
        lambda row: row.update(
            latency_us=-5.0, interval_low_us=-6.0, min_us=None, p10_us=None, p25_us=None, p50_us=None, p75_us=None, p90_us=None
        ),
        lambda row: row.update(latency_us=row["interval_high_us"] * 1.1),
        lambda row: row.update(interval_low_us=row["latency_us"] * 1.01, interval_high_us=row["latency_us"] * 1.02),
        lambda row: row.update(p10_us=row["p90_us"] * 2),
        lambda row: row.update(min_us=row["p90_us"] * 2),
        lambda row: row.update(interval_high_us=None),
        lambda row: row.update(interval_low_us=None),
    ],
)
@pytest.mark.parametrize("level", ["layer", "network", "kernel"])
def test_times_that_cannot_be_are_found(good: LatencyTable, level: str, alter: Callable[[Row], None]) -> None:
    assert _broken(_altered(good, level, alter)) == {"every time is possible": True}


@pytest.mark.parametrize("level", ["layer", "network"])
def test_only_a_kernel_may_take_no_time(good: LatencyTable, level: str) -> None:
    broken = _broken(_altered(good, level, lambda row: row.update(latency_us=0.0, interval_low_us=0.0)))
    assert broken == {"every time is possible": True}


def test_a_kernel_that_takes_as_long_as_the_counters_may_come_out_below_zero(good: LatencyTable) -> None:
    def short(of_samples: float) -> Callable[[Row], None]:
        """Of a kernel whose samples are so much less than the cost of 0.6 us that is taken off."""
        times = {"min_us": -0.3, "p10_us": -0.2, "p25_us": -0.2, "p50_us": 0.1, "p75_us": 0.1, "p90_us": 0.4}
        numbers = {**times, "latency_us": -0.15, "interval_low_us": -0.2, "interval_high_us": 0.1}
        return lambda row: row.update(overhead_us=0.6, **{name: value - of_samples for name, value in numbers.items()})

    assert _broken(_altered(good, "kernel", short(0.0))) == {}
    assert _broken(_altered(good, "kernel", short(5.0))) == {"every time is possible": True}


@pytest.mark.parametrize(("column", "value"), [("device", "fake:another"), ("runtime_version", "fake 0"), ("threads", 9), ("batch", 9)])
def test_a_row_of_another_target_than_it_names_is_found(good: LatencyTable, column: str, value: object) -> None:
    odd = _altered(good, "kernel", lambda row: row.update({column: value}), most=2)
    assert _broken(odd) == {"every row tells its own target": True}
    (finding,) = (finding for finding in check_table(odd) if not finding.kept)
    assert finding.detail.startswith(f"2 tell another: {column} {value}, of the target ")
    assert _broken(_altered(good, "kernel", lambda row: row.update({column: None}))) == {}, "untold is no contradiction"


def test_what_a_table_does_not_tell_is_not_said_to_be_kept(good: LatencyTable) -> None:
    silent = check_table(replace(good, coverage={}, ceilings={}))
    untold = {"every layer of the space was measured", "nothing is faster than the device can be",
              "the runtime is the one that is installed here"}  # fmt: skip
    assert {finding.rule for finding in silent if not finding.told} == untold
    assert {finding.rule for finding in silent if finding.verdict == "not told"} == untold
    assert all(finding.kept for finding in silent)
    assert "| nothing is faster than the device can be | not told |" in table_card(good)


def test_few_samples_are_found_and_serious_if_they_are_many(good: LatencyTable) -> None:
    rule = "every row rests on at least 8 undisturbed samples"
    assert _broken(_altered(good, "layer", lambda row: row.update(n_undisturbed=7))) == {rule: False}
    assert _broken(_altered(good, "layer", lambda row: row.update(n_undisturbed=0), most=10**6)) == {rule: True}


def test_wide_intervals_are_found_and_serious_if_they_are_most_of_the_time(good: LatencyTable) -> None:
    rule = "layers whose interval is wide take little of the time"

    def noisy(row: Row) -> None:
        row["status"] = "noisy"

    assert _broken(_altered(good, "layer", noisy)) == {}
    assert _broken(_altered(good, "layer", noisy, most=10**6)) == {rule: True}


def test_noisy_networks_are_found(good: LatencyTable) -> None:
    assert _broken(_altered(good, "network", lambda row: row.update(noise_floor=0.05), most=10**6)) == {
        "the noise floor of whole networks is low": True
    }


@pytest.mark.parametrize("median", [0.5, 1.2, float("nan")])
def test_layers_that_do_not_sum_to_the_network_are_found(good: LatencyTable, median: float) -> None:
    rule = "the layers of a network sum to its end-to-end time"
    assert _broken(replace(good, additivity={**good.additivity, "median": median})) == {rule: True}
    assert _broken(replace(good, additivity={})) == {rule: True}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("undisturbed_share", 0.2, "most runs were undisturbed"),
        ("reference_drift", 0.3, "the machine stayed as fast as it was"),
        ("steal_share", 0.05, "the hypervisor took little time"),
        ("throttled_s", 1.0, "the control group was not throttled"),
        ("temperature_c_max", 95.0, "it stayed cool"),
    ],
)
def test_a_disturbed_machine_is_told_and_not_serious(good: LatencyTable, name: str, value: float, rule: str) -> None:
    assert _broken(replace(good, interference={**GOOD, name: value})) == {rule: False}


def test_a_row_that_stands_twice_is_found(good: LatencyTable) -> None:
    twice = replace(good, rows=pa.concat_tables([good.rows, good.level("network").slice(0, 1)]))
    assert _broken(twice) == {"every row is there once": True}


def test_rows_of_two_targets_are_found(good: LatencyTable) -> None:
    other = replace(good.target, threads=2)
    assert _broken(replace(good, targets={**good.targets, other.id: other})) == {"all rows are of one target": True}


def test_what_is_faster_than_the_device_is_found(good: LatencyTable) -> None:
    rows = [row for row in good.rows.to_pylist() if row["latency_us"] is not None]
    rate = max(2e6 * (row["macs"] or 0) / row["latency_us"] for row in rows)
    assert _broken(replace(good, ceilings={"flops_per_s": rate})) == {}
    assert _broken(replace(good, ceilings={"flops_per_s": rate / 4.1})) == {"nothing is faster than the device can be": True}


def test_another_version_of_an_installed_runtime_is_told_and_not_serious(good: LatencyTable) -> None:
    target = replace(good.target, runtime="onnxruntime", runtime_version="0.0.1")
    rows = [row | {"target_id": target.id, "runtime_version": "onnxruntime 0.0.1"} for row in good.rows.to_pylist()]
    stale = replace(good, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={target.id: target})
    assert _broken(stale) == {"the runtime is the one that is installed here": False}


@pytest.mark.parametrize(
    ("runtime", "distribution"), [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime-gpu"), ("onnxruntime", "onnxruntime")]
)
def test_the_runtime_is_found_under_its_distributions_name(
    good: LatencyTable, monkeypatch: pytest.MonkeyPatch, runtime: str, distribution: str
) -> None:
    def version(name: str) -> str:
        if name != distribution:
            raise PackageNotFoundError(name)
        return "2.1"

    monkeypatch.setattr("layerclock.datasets.check.version", version)
    for own, kept in (("2.1", True), ("2.0", False)):
        target = replace(good.target, runtime=runtime, runtime_version=own)
        rows = [row | {"target_id": target.id} for row in good.rows.to_pylist()]
        found = check_table(replace(good, rows=pa.Table.from_pylist(rows, schema=SCHEMA), targets={target.id: target}))
        (finding,) = (finding for finding in found if finding.rule == "the runtime is the one that is installed here")
        assert (finding.kept, finding.told) == (kept, True)


@pytest.mark.parametrize("name", ["std_us", "n_samples", "macs", "overhead_us"])
def test_negative_numbers_are_impossible(good: LatencyTable, name: str) -> None:
    assert "every time is possible" in _broken(_altered(good, "layer", lambda row: row.update({name: -1})))
