"""Campaigns on a fleet of real Dask processes: the same table as a local campaign's, whatever dies meanwhile, and one at a time on a board."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from distributed import Client

from layerclock.errors import CampaignError, DeviceError, FleetError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.profiler.fleet.remote import open_fleet_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


    from layerclock.datasets.table import LatencyTable
    from layerclock.profiler.sitting import Progress

    ProfileTiny = Callable[..., LatencyTable]


def _keys(table: LatencyTable) -> Counter[tuple[str, str, str]]:
    return Counter((row["level"], row["role"], row["key"]) for row in table.rows.to_pylist())


def _samples(table: LatencyTable) -> dict[str, int]:
    return {row["key"]: row["n_samples"] for row in table.level("network").to_pylist()}


def _latencies(table: LatencyTable) -> dict[tuple[str, str], float]:
    return {(row["level"], row["key"]): row["latency_us"] for row in table.rows.to_pylist()}


def _parts(folder: Path) -> set[str]:
    return {path.name for path in (folder / "parts").glob("*.parquet")}


def test_whatever_dies_nothing_is_lost_or_doubled(
    fleet: Fleet, profile_tiny: ProfileTiny, fake_table: LatencyTable, fake_folder: Path, tmp_path: Path
) -> None:
    fleet.board("b1")
    fleet.board("b2")
    fleet.wait("b1", "b2")
    told: list[str] = []
    done: list[int] = []

    def torment(progress: Progress) -> None:
        if progress.stage != "measure" or progress.done in done:
            return
        done.append(progress.done)
        if progress.done == 10:
            fleet.kill("b1")  # the campaign is there: of equal boards it takes the first
        if progress.done == 25:
            fleet.kill("scheduler")
            fleet.scheduler()  # the board and the desk find it again

    with fleet.cluster(tell=told.append) as cluster:
        device = open_fleet_device(cluster, "fake:cpu", DeviceOptions())
        table = profile_tiny(device, folder=tmp_path / "campaign", progress=torment)
    assert "fleet" not in str(device.target)
    assert [text for text in told if text.startswith("b1 was lost")]
    assert [text for text in told if text == "going on with b2"]
    assert _keys(table) == _keys(fake_table)
    assert _parts(tmp_path / "campaign") == _parts(fake_folder)
    assert _samples(table) == _samples(fake_table)
    assert table.provenance.conditions["boards"] == "b1 (10 measurements), b2 (34 measurements)"
    with pytest.raises(DeviceError, match="on a board of the fleet"):
        device.load(ModelFile(tmp_path, "", ()))


def test_two_campaigns_never_measure_at_once_on_a_device(
    fleet: Fleet, profile_tiny: ProfileTiny, fake_table: LatencyTable, tmp_path: Path
) -> None:
    fleet.board("b1")
    fleet.wait("b1")
    with Client(fleet.address, set_as_default=False) as watcher:
        watcher.get_task_stream()  # begins to record

        def campaign(name: str) -> LatencyTable:
            with fleet.cluster() as cluster:
                return profile_tiny(open_fleet_device(cluster, "fake:cpu", DeviceOptions()), folder=tmp_path / name)

        with ThreadPoolExecutor(2) as pool:
            tables = list(pool.map(campaign, ("one", "two")))
        spans = sorted(
            (step["start"], step["stop"], str(task["key"]))
            for task in watcher.get_task_stream()
            for step in task["startstops"]
            if step["action"] == "compute"
        )
    # Down to the last number: the fake device's times depend on the network alone.
    assert [_latencies(table) for table in tables] == [_latencies(fake_table)] * 2
    assert sum("-measure-" in key for _, _, key in spans) == 2 * 44
    assert all(stop <= start for (_, stop, _), (start, _, _) in zip(spans, spans[1:], strict=False))


def test_without_a_board_it_waits_for_a_while_and_keeps_what_was_measured(
    fleet: Fleet, profile_tiny: ProfileTiny, fake_table: LatencyTable, tmp_path: Path
) -> None:
    told: list[str] = []
    fleet.board("b1", "apart:cpu", APART="one")
    fleet.wait("b1")
    with fleet.cluster(2.0, told.append) as cluster:
        with pytest.raises(FleetError, match="held 'device:openvino:CPU' within 2 s"):
            open_fleet_device(cluster, "openvino:CPU", DeviceOptions())
        device = open_fleet_device(cluster, "apart:cpu", DeviceOptions())

        def kill(progress: Progress) -> None:
            if progress.stage == "measure" and progress.done == 7 and "b1" in fleet.processes:
                fleet.kill("b1")

        with pytest.raises(FleetError, match="what was measured is kept"):
            profile_tiny(device, folder=tmp_path / "campaign", progress=kill)
    assert told.count("waiting up to 2 s for a member that holds device:apart:cpu") == 1
    kept = _parts(tmp_path / "campaign")
    assert len(kept) == 7

    fleet.board("b1", "apart:cpu", APART="two")
    fleet.board("b3", "apart:cpu", APART="one")
    fleet.wait("b1", "b3")
    with fleet.cluster(tell=told.append) as cluster:
        with pytest.raises(FleetError, match=r"b1 and b3 are different targets .*fingerprint\.cpu: 'two' and 'one'"):
            open_fleet_device(cluster, "apart:cpu", DeviceOptions())
        other = open_fleet_device(cluster, "apart:cpu", DeviceOptions(), boards=["b1"])
        with pytest.raises(CampaignError, match="holds another campaign"):
            profile_tiny(other, folder=tmp_path / "campaign")
        # The board that stood by and is another target is not taken when the one that measured is gone.
        device = open_fleet_device(cluster, "apart:cpu", DeviceOptions(), boards=["b3"])
        table = profile_tiny(device, folder=tmp_path / "campaign")
    assert kept < _parts(tmp_path / "campaign")
    assert _keys(table) == _keys(fake_table)
    assert dict(table.target.fingerprint) == {"cpu": "one"}


def test_a_network_that_kills_its_process_costs_itself_alone(
    fleet: Fleet, profile_tiny: ProfileTiny, tiny_space: object, tmp_path: Path
) -> None:
    from layerclock.devices.export import Exporter
    from layerclock.profiler.plan import make_plan
    from layerclock.space import SiteIndex

    plan = make_plan(SiteIndex.of(tiny_space), networks=14, holdout=8)  # type: ignore[arg-type]
    crash = Exporter(tiny_space)(plan.profiled[3]).digest  # type: ignore[arg-type]
    fleet.board("b1")
    fleet.wait("b1")
    with fleet.cluster() as cluster:
        table = profile_tiny(open_fleet_device(cluster, "fake:cpu", DeviceOptions(extra={"crash": crash})), folder=tmp_path / "campaign")
    failed = [row["reason"] for row in table.level("network").to_pylist() if row["status"] == "failed"]
    assert len(failed) == 1
    assert "SIGSEGV" in failed[0]
    assert "on b1" in failed[0]
