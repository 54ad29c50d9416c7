"""Campaigns on a fleet of real Dask processes: a local campaign's table, whatever dies meanwhile, and one measurement at a time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from layerclock.devices import onnx_file
from layerclock.devices.attribution import SourceGraph
from layerclock.devices.export import Exporter
from layerclock.errors import CampaignError, DeviceError, FleetError
from layerclock.interfaces import DeviceOptions, ModelFile
from layerclock.plugins import open_device
from layerclock.profiler import sitting
from layerclock.profiler.ceilings import measure_ceilings
from layerclock.profiler.files import profile_files
from layerclock.profiler.fleet import board as on_board
from layerclock.profiler.fleet import remote
from layerclock.profiler.fleet.remote import open_fleet_device
from layerclock.profiler.plan import make_plan
from layerclock.profiler.pools import in_float32

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet_processes import Fleet

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.progress import Progress
    from layerclock.space import SiteIndex

    ProfileTiny = Callable[..., LatencyTable]

pytest_plugins = ("fleet_processes",)


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


def test_a_network_that_kills_its_process_costs_itself_alone(
    fleet: Fleet, profile_tiny: ProfileTiny, tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path
) -> None:
    crash = Exporter(tiny_space)(make_plan(tiny_index, networks=14, holdout=8).profiled[3]).digest
    with fleet.cluster() as cluster:
        device = open_fleet_device(cluster, "fake:cpu", DeviceOptions(extra={"crash": crash}))
        table = profile_tiny(device, folder=tmp_path / "campaign")
    failed = [row["reason"] for row in table.level("network").to_pylist() if row["status"] == "failed"]
    assert len(failed) == 1
    assert "SIGSEGV" in failed[0]
    assert "on b2" in failed[0]


def test_the_board_knows_the_next_network_while_an_answer_travels_and_measures_none_twice(
    fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    open_when_fetched: list[int] = []
    with fleet.cluster() as cluster:
        submit, result = cluster.submit, cluster.result

        def submitted(function: Callable[..., object], *rest: Any) -> Any:
            future = submit(function, *rest)
            if function == on_board.measure:
                asked.append(future)
            return future

        def fetched(future: Any, *rest: Any) -> Any:
            if future in asked:
                open_when_fetched.append(len(asked) - len(open_when_fetched))
            return result(future, *rest)

        monkeypatch.setattr(cluster, "submit", submitted)
        monkeypatch.setattr(cluster, "result", fetched)
        profile_tiny(open_fleet_device(cluster, "fake:cpu", DeviceOptions()), folder=tmp_path / "run", networks=4, holdout=1, rounds=3)
    assert open_when_fetched == 3 * [2, 2, 2, 2, 1]
    assert len(asked) == len(_parts(tmp_path / "run"))


def test_what_is_under_way_when_the_budget_is_spent_is_kept(
    fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(sitting, "monotonic", lambda: monotonic() + passed[0])

    def spend(progress: Progress) -> None:
        if progress.stage == "measure" and progress.done == 7:
            passed[0] = 1e6

    with fleet.cluster() as cluster:
        device = open_fleet_device(cluster, "fake:cpu", DeviceOptions())
        profile_tiny(device, folder=tmp_path / "run", networks=4, holdout=1, budget_s=36000.0, progress=spend)
    assert len(_parts(tmp_path / "run")) == 9


def test_a_large_model_is_sent_to_a_board_that_lacks_it_and_no_second_time(
    fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_PRESUMED_BYTES", 0)
    fleet.board("p1", "fake:cpu", LAYERCLOCK_CACHE=str(tmp_path / "board"))
    fleet.wait("b2", "p1")
    sent: list[tuple[str, bool]] = []
    with fleet.cluster() as cluster:
        submit = cluster.submit

        def submitted(function: Callable[..., object], arguments: tuple[Any, ...], *rest: Any) -> Any:
            if function == on_board.load:
                sent.append((arguments[2].network.name, arguments[2].network.data is not None))
            return submit(function, arguments, *rest)

        monkeypatch.setattr(cluster, "submit", submitted)
        device = open_fleet_device(cluster, "fake:cpu", DeviceOptions(), boards=["p1"])
        few = {"networks": 4, "holdout": 1, "rounds": 2}
        assert _samples(profile_tiny(device, folder=tmp_path / "one", **few))
        with_bytes = [name for name, whole in sent if whole]
        assert len(with_bytes) == len(set(with_bytes)) == 5
        assert 5 < len(sent) < 10, "the first is found to be missing, and no more than what was under way with it"
        sent.clear()
        assert _samples(profile_tiny(device, folder=tmp_path / "two", **few))
        assert [whole for _, whole in sent] == 5 * [False]
    fleet.kill("p1")


def test_campaigns_never_measure_at_once(fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    """Not on one board, and not on two workers of one machine, to which each campaign has one here."""
    log = tmp_path / "runs.log"
    fleet.board("a1", "apart:cpu", APART_LOG=str(log))
    fleet.board("a2", "apart:cpu", APART_LOG=str(log))
    fleet.wait("b2", "a1", "a2")

    def campaign(name: str, board: str) -> LatencyTable:
        with fleet.cluster() as cluster:
            device = open_fleet_device(cluster, "apart:cpu", DeviceOptions(), [board])
            return profile_tiny(device, folder=tmp_path / name, networks=6, holdout=2)

    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(campaign, ("one", "two", "three"), ("a1", "a1", "a2")))
    # Down to the last number: the device's times depend on the network alone.
    local = profile_tiny(open_device("fake:cpu"), folder=tmp_path / "local", networks=6, holdout=2)
    assert [_latencies(table) for table in tables] == [_latencies(local)] * 3
    ran = log.read_text().split()
    stretches = [process for process, before in zip(ran, ["", *ran], strict=False) if process != before]
    networks = 3 * 8
    assert len(set(stretches)) == networks
    assert len(ran) > 10 * networks
    assert len(stretches) <= 2 * networks, "a network's runs in a round were interrupted by another's"


def test_without_a_board_it_waits_for_a_while_and_keeps_what_was_measured(fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    told: list[str] = []
    log = str(tmp_path / "runs.log")
    fleet.kill("a1")
    fleet.wait("a2", "b2")
    with fleet.cluster(1.0, told.append) as cluster:
        with pytest.raises(FleetError, match="held 'device:openvino:CPU' within 1 s"):
            open_fleet_device(cluster, "openvino:CPU", DeviceOptions())
        device = open_fleet_device(cluster, "apart:cpu", DeviceOptions())

        def kill(progress: Progress) -> None:
            if progress.stage == "measure" and progress.done == 7 and "a2" in fleet.processes:
                fleet.kill("a2")

        with pytest.raises(FleetError, match="what was measured is kept"):
            profile_tiny(device, folder=tmp_path / "campaign", networks=4, holdout=1, progress=kill)
    assert told.count("waiting up to 1 s for a member that holds device:apart:cpu") == 1
    kept = _parts(tmp_path / "campaign")
    assert len(kept) == 7

    fleet.board("a1", "apart:cpu", APART="two", APART_LOG=log)
    fleet.board("a3", "apart:cpu", APART="one", APART_LOG=log)
    fleet.wait("a1", "a3", "b2")
    with fleet.cluster(tell=told.append) as cluster:
        with pytest.raises(FleetError, match=r"a1 and a3 are different targets .*fingerprint\.cpu: 'two' and 'one'"):
            open_fleet_device(cluster, "apart:cpu", DeviceOptions())
        other = open_fleet_device(cluster, "apart:cpu", DeviceOptions(), boards=["a1"])
        with pytest.raises(CampaignError, match="holds another campaign"):
            profile_tiny(other, folder=tmp_path / "campaign", networks=4, holdout=1)
        # The board that stood by and is another target is not taken when the one that measured is gone.
        device = open_fleet_device(cluster, "apart:cpu", DeviceOptions(), boards=["a3"])
        table = profile_tiny(device, folder=tmp_path / "campaign", networks=4, holdout=1)
    assert kept < _parts(tmp_path / "campaign")
    assert len(_parts(tmp_path / "campaign")) == 10
    assert set(_samples(table).values()) == {10}
    assert dict(table.target.fingerprint) == {"cpu": "one"}


def test_networks_that_are_built_anew_or_quantised_there_are_the_desks(
    fleet: Fleet, profile_tiny: ProfileTiny, tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path
) -> None:
    """torch builds them from the space and the genome; INT8 is quantised by the desk's inputs."""
    fleet.board("t1", "torch:cpu")
    fleet.board("q1", "onnxruntime:cpu", LAYERCLOCK_CACHE=str(tmp_path / "board"))
    fleet.wait("a1", "a3", "b2", "t1", "q1")
    few = {"networks": 2, "holdout": 0, "calibration": 0}
    model = Exporter(tiny_space)(make_plan(tiny_index, networks=2, holdout=0).profiled[0])
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **{name: np.concatenate([one, one + 1]) for name, one in SourceGraph(model.path).example_inputs().items()})  # type: ignore[arg-type]  # numpy's stubs take any keyword for allow_pickle
    quantised = DeviceOptions(precision="int8")
    with fleet.cluster() as cluster:
        eager = profile_tiny(open_fleet_device(cluster, "torch:cpu", DeviceOptions()), folder=tmp_path / "torch", **few)
        device = open_fleet_device(cluster, "onnxruntime:cpu", quantised)
        profile_tiny(device, folder=tmp_path / "int8", calibration_inputs=inputs, **few)
        assert set(measure_ceilings(device, tmp_path / "int8")) == {"flops_per_s", "bytes_per_s"}
        assert in_float32(device).target == open_device("onnxruntime:cpu").target
    assert [row["status"] for row in eager.level("network").to_pylist()].count("failed") == 0
    assert eager.level("layer").num_rows > 0
    expected = open_device("onnxruntime:cpu", quantised).prepare(replace(model, calibration=inputs))  # type: ignore[attr-defined]
    assert (tmp_path / "board" / "models" / expected.path.name).exists()


def test_a_board_that_cannot_write_ends_the_campaign_and_fails_no_network(fleet: Fleet, profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fleet.board("full", "onnxruntime:cpu", LAYERCLOCK_CACHE=str(tmp_path / "file" / "cache"))
    with fleet.cluster() as cluster:
        device = open_fleet_device(cluster, "onnxruntime:cpu", DeviceOptions(), boards=["full"])
        with pytest.raises(FleetError, match=r"full cannot go on: .*file/cache"):
            profile_tiny(device, folder=tmp_path / "run", networks=2)
    assert not _parts(tmp_path / "run")
    fleet.kill("full")


@pytest.mark.parametrize("kind", [FileNotFoundError, TimeoutError])
def test_an_error_of_the_board_s_own_is_told_and_not_waited_for(kind: type[Exception], fleet: Fleet) -> None:
    def meets() -> None:
        raise kind("no such thing")

    with fleet.cluster() as cluster:
        (board,) = [member for member in cluster.members() if member.name == "q1"]
        future = cluster.submit(meets, (), "device:onnxruntime:cpu", board)
        with pytest.raises(FleetError, match=f"q1 met an error of its own: {kind.__name__}: no such thing"):
            cluster.result(future, "device:onnxruntime:cpu", board, 60.0)


def test_a_model_that_is_two_files_does_not_go_to_a_board(
    fleet: Fleet, tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board would find no weights; the runtime's complaint about that says nothing of the fleet."""
    fleet.board("q2", "onnxruntime:cpu")
    file = Exporter(tiny_space)(make_plan(tiny_index, networks=2, holdout=0).profiled[0]).path
    monkeypatch.setenv("LAYERCLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_file, "_LARGEST_BYTES", 0)
    with fleet.cluster() as cluster:
        device = open_fleet_device(cluster, "onnxruntime:cpu", DeviceOptions(), boards=["q2"])
        with pytest.raises(CampaignError, match="too large for one file"):
            profile_files(device, [file], tmp_path / "run", rounds=2, runs=1)
    assert profile_files(open_device("onnxruntime:cpu"), [file], tmp_path / "here", rounds=2, runs=1).level("layer").num_rows
