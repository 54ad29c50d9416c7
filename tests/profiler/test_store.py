"""The campaign's folder gives back what was put in, and refuses what does not belong to it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import CampaignError, OutputError
from layerclock.interfaces import KernelTimes
from layerclock.network import Kernel, TensorSpec
from layerclock.profiler.measurement import Measurement, Watched
from layerclock.profiler.store import CampaignFolder, CampaignRecord
from layerclock.target import Target

if TYPE_CHECKING:
    from pathlib import Path

RECORD = CampaignRecord(
    space="a space",
    space_digest="0123",
    target=Target("fake:cpu", "fake", "1", "float32", 1, 1, (("slowdown", "2"),), (("cpu", "fake"),)),
    profiled=((0, 1), (1, 0)),
    holdout=((1, 1),),
    runs=3,
    affinity=(0,),
    command="layerclock profile",
    started_utc="2025-01-01T00:00:00+00:00",
)
KERNEL = Kernel(
    "stem/Conv",
    "Conv",
    "stem",
    ("Conv", "Relu"),
    (TensorSpec((1, 3, 8, 8)),),
    (TensorSpec((1, 8), "int8"),),
    (TensorSpec((8, 3, 3, 3)),),
    (("group", 1),),
    "nchwc",
    "jit",
    432,
)


def _watched(runs: int) -> Watched:
    return Watched(np.linspace(1.0, 2.0, runs), np.linspace(3.0, 2.0, runs), np.arange(runs, dtype=np.int64))


def _measurement(network: int, round_number: int, *times: float) -> Measurement:
    return Measurement(network, round_number, np.array(times), _watched(len(times)), warm_up_ns=np.array([99.0]))


@pytest.fixture
def folder(tmp_path: Path) -> CampaignFolder:
    folder = CampaignFolder(tmp_path / "campaign")
    folder.start(RECORD)
    return folder


def test_a_record_is_read_as_it_was_written(folder: CampaignFolder) -> None:
    assert folder.record() == RECORD
    assert RECORD.genomes == ((0, 1), (1, 0), (1, 1))


def test_the_same_campaign_goes_on_under_its_first_command(folder: CampaignFolder) -> None:
    assert folder.start(replace(RECORD, command="another", started_utc="later")) == RECORD


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(RECORD, runs=4), "differs in runs"),
        (replace(RECORD, space="another space", space_digest="4567"), "differs in space, space_digest"),
        (replace(RECORD, holdout=()), "differs in holdout"),
        (replace(RECORD, profiled=((0, 1),)), "differs in profiled"),
        (replace(RECORD, target=replace(RECORD.target, threads=4)), r"differs in threads \(1 there, 4 now\)"),
        (replace(RECORD, target=replace(RECORD.target, options=())), r"differs in options.slowdown \(2 there, None now\)"),
        (
            replace(RECORD, target=replace(RECORD.target, fingerprint=(("cpu", "real"),))),
            r"differs in fingerprint.cpu \(fake there, real now\)",
        ),
    ],
)
def test_another_campaign_is_refused_and_says_what_differs(folder: CampaignFolder, other: CampaignRecord, named: str) -> None:
    with pytest.raises(CampaignError, match=f"holds another campaign: it {named}"):
        folder.start(other)
    assert folder.record() == RECORD


def test_measurements_are_read_as_they_were_added(folder: CampaignFolder) -> None:
    times = KernelTimes((KERNEL, replace(KERNEL, name="last", attributes=(), macs=None)), np.array([[1.5, 2.0], [3.0, 4.0]]))
    nobody_looked = Watched(np.array([np.nan, np.nan]), np.array([np.nan, 2.0]), np.array([0, 3]))
    added = [
        replace(_measurement(0, 0, 10.0, 11.0), kernels=times, kernels_watched=nobody_looked, facts={"energy_j": 0.5, "steal_s": 0.0}),
        _measurement(1, 0, 12.0),
        Measurement.failed(1, 1, "it caught fire"),
    ]
    for measurement in reversed(added):
        folder.add(measurement)
    read = list(folder.measurements())
    assert [(m.network, m.round, m.end_to_end_ns.tolist(), m.warm_up_ns.tolist(), m.failure, m.facts) for m in read] == [
        (m.network, m.round, m.end_to_end_ns.tolist(), m.warm_up_ns.tolist(), m.failure, m.facts) for m in added
    ]
    for one, other in zip(read, added, strict=True):
        assert np.array_equal(one.watched.before_ns, other.watched.before_ns)
        assert np.array_equal(one.watched.after_ns, other.watched.after_ns)
        assert np.array_equal(one.watched.switches, other.watched.switches)
    assert read[1].kernels is read[2].kernels is None
    assert read[1].kernels_watched is None
    assert read[0].kernels is not None
    assert read[0].kernels.kernels == times.kernels
    assert np.array_equal(read[0].kernels.samples_ns, times.samples_ns)
    assert read[0].kernels_watched is not None
    assert np.array_equal(read[0].kernels_watched.after_ns, nobody_looked.after_ns, equal_nan=True)
    assert read[0].kernels_watched.switches.tolist() == [0, 3]


def test_a_folder_tells_what_is_done_and_what_it_took(folder: CampaignFolder) -> None:
    assert (dict(folder.done().rounds), folder.done().failed, folder.done().spent_s) == ({}, frozenset(), 0.0)
    folder.add(_measurement(0, 0, 1.0), "first", 3.0)
    folder.add(_measurement(1, 0, 1.0), "first", 4.5)
    folder.add(_measurement(0, 1, 1.0), "second", 2.0)
    folder.add(Measurement.failed(2, 0, "it caught fire"), "second", 1.0)
    done = folder.done()
    assert done.rounds == {0: {0, 1}, 1: {0}, 2: {0}}
    assert done.failed == {2}
    assert done.spent_s == 6.5  # how old each sitting became


def test_each_network_has_the_role_that_it_was_planned_for(tmp_path: Path) -> None:
    record = replace(RECORD, profiled=((0, 0), (0, 1)), holdout=((1, 0),), calibration=((1, 1), (0, 2)))
    assert [record.role(number) for number in range(5)] == ["profiled", "profiled", "holdout", "calibration", "calibration"]
    folder = CampaignFolder(tmp_path / "campaign")
    folder.start(record)
    assert folder.record() == record
    assert sorted(record.loading_order()) == list(range(5))


def test_held_out_networks_are_loaded_between_the_profiled_ones() -> None:
    record = replace(RECORD, profiled=tuple((n,) for n in range(6)), holdout=tuple((n,) for n in range(6, 8)))
    order = record.loading_order()
    assert sorted(order) == list(range(8))
    assert [number for number in order if number < 6] == list(range(6)), "those that cover the layers first stay first"
    assert order.index(6) < order.index(3) < order.index(7)
    assert replace(record, holdout=()).loading_order() == list(range(6))


def test_drafts_of_a_killed_process_are_removed_under_the_lock(folder: CampaignFolder) -> None:
    folder.add(_measurement(0, 0, 1.0))
    draft = folder.path / "parts" / ".00001-000.parquet.abc"
    draft.write_bytes(b"half of a part")
    (folder.path / ".table.parquet.abc").write_bytes(b"half of a table")
    assert folder.done().rounds == {0: {0}}
    with folder.lock():
        assert [path.name for path in (folder.path / "parts").iterdir()] == ["00000-000.parquet"]
        assert not list(folder.path.glob(".table*"))


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", None])
def test_a_damaged_part_is_named(folder: CampaignFolder, content: bytes | None) -> None:
    folder.add(_measurement(1, 1, 1.0, 2.0))
    part = folder.path / "parts" / "00001-001.parquet"
    part.write_bytes(part.read_bytes()[:-20] if content is None else content)
    with pytest.raises(CampaignError, match=r"the part .*00001-001\.parquet is damaged.*delete this file and run the same command again"):
        list(folder.measurements())
    with pytest.raises(CampaignError, match=r"the part .*00001-001\.parquet is damaged"):
        folder.done()


def test_a_part_that_belongs_to_no_network_is_named(folder: CampaignFolder) -> None:
    folder.add(_measurement(1, 1, 1.0))
    part = folder.path / "parts" / "00001-001.parquet"
    part.rename(part.with_name("copy of 1.parquet"))
    with pytest.raises(CampaignError, match=r"copy of 1\.parquet is no part of this campaign"):
        list(folder.measurements())


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", json.dumps({"format": 3, "target": {}})])
def test_a_damaged_record_is_refused(folder: CampaignFolder, text: str) -> None:
    (folder.path / "campaign.json").write_text(text)
    with pytest.raises(CampaignError, match=r"cannot read .*campaign\.json"):
        folder.record()


def test_a_record_of_another_format_is_refused(folder: CampaignFolder) -> None:
    file = folder.path / "campaign.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 1}))
    with pytest.raises(CampaignError, match="has a format that this version does not know"):
        folder.record()


def test_a_folder_without_a_campaign_or_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="holds no campaign"):
        CampaignFolder(tmp_path).record()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        CampaignFolder(tmp_path / "file").start(RECORD)


def test_two_processes_cannot_measure_into_one_folder(tmp_path: Path) -> None:
    folder = CampaignFolder(tmp_path / "x")
    with folder.lock(), pytest.raises(CampaignError, match="another process"), CampaignFolder(tmp_path / "x").lock():
        pass
    with folder.lock():  # free again
        pass


def test_parts_without_their_campaign_are_not_adopted(fake_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fake_folder, copy)
    record = CampaignFolder(copy).record()
    (copy / "campaign.json").unlink()
    with pytest.raises(CampaignError, match="no campaign"):
        CampaignFolder(copy).start(record)


def test_a_part_under_another_name_is_refused(fake_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fake_folder, copy)
    parts = sorted((copy / "parts").glob("*.parquet"))
    shutil.copy(parts[0], parts[-1])
    with pytest.raises(CampaignError, match="another network or round"):
        list(CampaignFolder(copy).measurements())


def test_readings_at_rest_are_kept_with_the_measurement_after_them(folder: CampaignFolder) -> None:
    folder.add(replace(Measurement.failed(0, 0, "it caught fire"), rest_ns=np.array([8000.0, 8100.5])))
    (read,) = folder.measurements()
    assert read.rest_ns.tolist() == [8000.0, 8100.5]
