"""Campaigns on the fake device: they go on where they stopped, lose nothing but what failed, and add up."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.datasets.check import check_table
from layerclock.datasets.table import read_table
from layerclock.devices.export import Exporter
from layerclock.errors import ArgumentError, CampaignError, DeviceError, OutputError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler.campaign import profile
from layerclock.profiler.plan import Plan, make_plan
from layerclock.profiler.store import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import Device, ModelFile, SearchSpace
    from layerclock.profiler.progress import Progress
    from layerclock.space import SiteIndex

    ProfileTiny = Callable[..., LatencyTable]

CALL_US = 20.0  # what the fake device adds to the sum of its kernels for a call


def _fake(**extra: str) -> Device:
    return open_device("fake:cpu", DeviceOptions(extra=extra))


def _parts(folder: Path) -> dict[str, int]:
    """Name of each part and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}


def _keys(table: LatencyTable) -> Counter[tuple[str, str, str]]:
    return Counter((row["level"], row["role"], row["key"]) for row in table.rows.to_pylist())


def _statuses(table: LatencyTable) -> Counter[str]:
    return Counter(table.level("network")["status"].to_pylist())


def test_a_campaign_measures_every_network_in_every_round(fake_folder: Path, fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    assert set(_parts(fake_folder)) == {f"{network:05d}-{round_number:03d}.parquet" for network in range(22) for round_number in range(2)}
    plan = make_plan(tiny_index, networks=14, holdout=8)
    assert fake_table.networks().genomes.tolist() == plan.profiled.tolist()
    assert fake_table.networks("holdout").genomes.tolist() == plan.holdout.tolist()
    assert set(fake_table.layer_latencies_us()) == {layer.key for layer in tiny_index.vocabulary}
    layers = {row["key"]: row for row in fake_table.level("layer").to_pylist()}
    for layer, networks in zip(tiny_index.vocabulary, plan.coverage(tiny_index).tolist(), strict=True):
        row = layers[layer.key]
        times = int(tiny_index.counts(plan.profiled)[:, tiny_index.vocabulary.index(layer)].sum())
        assert networks <= row["n_networks"] == times
        assert row["n_samples"] == times * 2 * 5
        assert (row["macs"], row["params"]) == (layer.macs, layer.params)
        assert row["min_us"] <= row["p10_us"] <= row["p25_us"] <= row["p50_us"] <= row["p75_us"] <= row["p90_us"]
        assert row["interval_low_us"] <= row["latency_us"] <= row["interval_high_us"]


def test_the_layers_of_a_network_add_up_to_its_time(fake_table: LatencyTable, tiny_index: SiteIndex) -> None:
    rows_us = fake_table.layer_latencies_us()
    networks = fake_table.networks()
    sums_us = tiny_index.counts(networks.genomes) @ np.array([rows_us[layer.key] for layer in tiny_index.vocabulary])
    assert sums_us + CALL_US == pytest.approx(networks.latency_ms * 1e3, rel=0.005)
    ratios = sums_us / (networks.latency_ms * 1e3)
    expected = {"median": np.median(ratios), "lowest": ratios.min(), "highest": ratios.max(), "counters_share": 0.0}
    assert fake_table.additivity == pytest.approx(expected)
    # The fake device has no cost of counting: nothing is subtracted.
    assert set(fake_table.level("layer")["overhead_us"].to_pylist()) == {0.0}


def test_the_cost_of_counting_is_subtracted_and_told(fake_table: LatencyTable, profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    table = profile_tiny(_fake(counting_ns="3000"), folder=tmp_path)
    # Uncorrected, the layers would sum to half as much again; what is left over is the call, spread over the kernels.
    assert table.additivity["median"] == pytest.approx(1.0, abs=0.005)
    true_us = fake_table.layer_latencies_us()
    rows = table.level("layer").to_pylist()
    cost_us = rows[0]["overhead_us"] / rows[0]["kernels"]
    assert 2.0 < cost_us < 3.0
    for row in rows:
        assert row["overhead_us"] == pytest.approx(cost_us * row["kernels"])
        assert row["latency_us"] == pytest.approx(true_us[row["key"]] + (3.0 - cost_us) * row["kernels"], rel=0.02)
    kernels = table.level("kernel")["overhead_us"].to_numpy()
    assert kernels == pytest.approx(cost_us)


def test_a_kernel_faster_than_the_counters_is_a_noisy_row_and_no_error(profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    table = profile_tiny(_fake(coarse="yes"), folder=tmp_path)
    (row,) = (row for row in table.level("kernel").to_pylist() if row["latency_us"] <= 0)
    assert (row["op"], row["status"], row["reason"]) == ("Gemm", "noisy", "faster than can be measured")
    assert read_table(tmp_path / "table.parquet").content_hash == table.content_hash


@pytest.mark.parametrize(("stage", "after"), [("export and load", 9), ("measure", 0), ("measure", 21)])
def test_an_interrupted_campaign_goes_on_where_it_was(
    stage: str, after: int, fake_folder: Path, fake_table: LatencyTable, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.stage, progress.done) == (stage, after):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=interrupt)
    kept = _parts(tmp_path)
    assert len(kept) == (after if stage == "measure" else 0)
    assert not (tmp_path / "table.parquet").exists()

    told: list[Progress] = []
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=told.append)
    assert set(_parts(tmp_path)) == set(_parts(fake_folder))
    assert kept.items() <= _parts(tmp_path).items()
    assert [progress.total for progress in told if progress.stage == "measure"][-1] == 44 - len(kept)
    assert _keys(table) == _keys(fake_table)
    assert _statuses(table) == _statuses(fake_table)


def test_a_finished_campaign_is_not_measured_again(fake_folder: Path, fake_table: LatencyTable, profile_tiny: ProfileTiny) -> None:
    before = _parts(fake_folder)
    again = profile_tiny(open_device("fake:cpu"), folder=fake_folder)
    assert _parts(fake_folder) == before
    assert again.content_hash == fake_table.content_hash


def test_another_campaign_in_the_folder_is_refused(fake_folder: Path, profile_tiny: ProfileTiny) -> None:
    with pytest.raises(CampaignError, match=r"differs in threads \(1 there, 2 now\)"):
        profile_tiny(open_device("fake:cpu", DeviceOptions(threads=2)), folder=fake_folder)
    with pytest.raises(CampaignError, match="differs in runs"):
        profile_tiny(open_device("fake:cpu"), folder=fake_folder, runs=6)


def test_more_rounds_are_added_to_a_finished_campaign(fake_folder: Path, profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    shutil.copytree(fake_folder, tmp_path / "copy")
    before = _parts(tmp_path / "copy")
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path / "copy", rounds=3)
    after = _parts(tmp_path / "copy")
    assert before.items() <= after.items()
    assert set(after) - set(before) == {f"{network:05d}-002.parquet" for network in range(22)}
    assert set(table.level("network")["n_samples"].to_pylist()) == {15}


@pytest.fixture(scope="module")
def digests(tiny_space: SearchSpace, tiny_index: SiteIndex) -> list[str]:
    plan = make_plan(tiny_index, networks=14, holdout=8)
    return [Exporter(tiny_space)(genome).digest for genome in np.concatenate([plan.profiled, plan.holdout])]


def test_a_network_that_fails_costs_its_own_rows_and_says_why(
    digests: list[str], fake_table: LatencyTable, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    table = profile_tiny(_fake(refuse=digests[15], exhaust=digests[3]), folder=tmp_path)
    failed = {number: row for number, row in enumerate(table.level("network").to_pylist()) if row["status"] == "failed"}
    assert {number: row["reason"] for number, row in failed.items()} == {
        3: "out of memory",
        15: f"{digests[15]}.onnx is refused (as the options ask)",
    }
    assert all(row["latency_us"] is None for row in failed.values())
    # Only what ran in no other network is missing, too.
    assert _keys(table) < _keys(fake_table)
    assert table.level("network")["key"].to_pylist() == fake_table.level("network")["key"].to_pylist()
    assert (len(table.networks()), len(table.networks("holdout"))) == (13, 7)
    # It is not tried again, and leaves one part with its reason.
    parts = _parts(tmp_path)
    assert [name for name in sorted(parts) if int(name[:5]) in failed] == ["00003-000.parquet", "00015-000.parquet"]
    again = profile_tiny(_fake(refuse=digests[15], exhaust=digests[3]), folder=tmp_path)
    assert _parts(tmp_path) == parts
    assert again.content_hash == table.content_hash


def test_networks_that_fail_on_the_way_back_keep_what_was_measured(
    digests: list[str], tiny_space: SearchSpace, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("measure", 22):  # the first round is complete
            raise KeyboardInterrupt

    export = Exporter(tiny_space)

    def export_all_but_one(genome: npt.ArrayLike) -> ModelFile:
        model = export(genome)
        if model.digest == digests[3]:
            raise DeviceError("it cannot be exported any more")
        return model

    with pytest.raises(KeyboardInterrupt):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=interrupt)
    kept = _parts(tmp_path)
    profile_tiny(open_device("fake:cpu"), folder=tmp_path, export=export_all_but_one)
    assert kept.items() <= _parts(tmp_path).items()
    measured = {(m.network, m.round): m for m in CampaignFolder(tmp_path).measurements()}
    assert measured[3, 0].kernels is not None
    assert measured[3, 1].failure == "it cannot be exported any more"
    assert read_table(tmp_path / "table.parquet").failures() == ["failed in a later round: it cannot be exported any more"]
    assert "no network failed" in [one.rule for one in check_table(read_table(tmp_path / "table.parquet")) if not one.kept]


def test_a_campaign_in_which_nothing_runs_is_an_error_with_the_reason(
    digests: list[str], profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    with pytest.raises(CampaignError, match=r"the first [34] networks all failed: .* is refused"):
        profile_tiny(_fake(refuse=" ".join(digests)), folder=tmp_path)


def test_chosen_networks_are_measured_instead_of_a_plan(tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path) -> None:
    chosen = make_plan(tiny_index, networks=14, holdout=8).holdout[:3]
    told: list[Progress] = []
    table = profile(open_device("fake:cpu"), tiny_space, tmp_path, plan=Plan(chosen, chosen[:0]), rounds=2, runs=2, progress=told.append)
    assert table.networks().genomes.tolist() == chosen.tolist()
    assert len(table.networks("holdout")) == 0
    assert np.isfinite(table.noise_floor)
    assert [(progress.stage, progress.done, progress.total) for progress in told] == [
        *(("export and load", done, 3) for done in range(3)),
        *(("measure", done, 6) for done in range(7)),
    ]


def test_a_long_plan_is_measured_in_waves_that_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, fake_table: LatencyTable, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    monkeypatch.setattr("layerclock.profiler.sitting._LOADED_AT_ONCE", 9)
    told: list[Progress] = []
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=told.append)
    assert _keys(table) == _keys(fake_table)
    # How many are left to load, each time that a wave begins: every wave comes once for each half of the rounds.
    assert [progress.total for progress in told if progress.stage == "export and load" and progress.done == 0] == [22, 13, 6] * 2
    # Those of one wave meet the others in the second half.
    when = sorted((one.facts["begun_s"], one.round, one.network) for one in CampaignFolder(tmp_path).measurements())
    first, second = ([network for _, round_, network in when if round_ == half] for half in (0, 1))
    waves = [{*order[:9]} for order in (first, second)], [{*order[9:16]} for order in (first, second)]
    assert all(before & after and before - after for before, after in waves)


def test_a_campaign_goes_on_in_the_second_half_without_loading_for_the_first(
    monkeypatch: pytest.MonkeyPatch, fake_table: LatencyTable, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    monkeypatch.setattr("layerclock.profiler.sitting._LOADED_AT_ONCE", 9)
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if [one.total for one in told if one.stage == "export and load" and one.done == 0] == [22, 13, 6, 22, 13]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=stop)
    told.clear()
    assert _keys(profile_tiny(open_device("fake:cpu"), folder=tmp_path, progress=told.append)) == _keys(fake_table)
    assert [one.total for one in told if one.stage == "export and load" and one.done == 0] == [13, 6]


def test_the_last_wave_is_no_handful_of_networks(
    monkeypatch: pytest.MonkeyPatch, fake_table: LatencyTable, tiny_space: SearchSpace, profile_tiny: ProfileTiny, tmp_path: Path
) -> None:
    told: list[Progress] = []

    def waves() -> list[int]:
        return [progress.total for progress in told if progress.stage == "export and load" and progress.done == 0]

    # 21 of the 22 fit: without a least number, one would stay behind.
    monkeypatch.setattr("layerclock.profiler.sitting._LOADED_AT_ONCE", 21)
    monkeypatch.setattr("layerclock.profiler.sitting._FEWEST_IN_LAST_WAVE", 5)
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path / "few", progress=told.append)
    assert _keys(table) == _keys(fake_table)
    assert waves() == [22, 5] * 2
    # A least number that is more than half of the plan parts it in two.
    told.clear()
    monkeypatch.setattr("layerclock.profiler.sitting._FEWEST_IN_LAST_WAVE", 30)
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path / "many", progress=told.append)
    assert _keys(table) == _keys(fake_table)
    assert waves() == [22, 11] * 2
    # One that cannot be loaded, and would be handed on to the second wave, is not tried there again.
    told.clear()
    store = CampaignFolder(tmp_path / "many")
    last = store.record().loading_order()[20]
    digest = Exporter(tiny_space)(np.array(store.record().genomes[last])).digest
    failed = profile_tiny(_fake(refuse=digest), folder=tmp_path / "refused", progress=told.append).level("network").to_pylist()
    assert [row["status"] for row in failed].count("failed") == 1
    assert waves() == [22, 10, 21], "of eleven that are handed on, one had failed; the rest fits at once"
    refused = [one for one in CampaignFolder(tmp_path / "refused").measurements() if one.network == last]
    assert len(refused) == 1


@pytest.mark.parametrize("wrong", [{"networks": 0}, {"holdout": -1}, {"rounds": 1}, {"runs": 0}, {"limit_s": 0}, {"budget_s": 0}])
def test_numbers_that_make_no_campaign_are_refused(wrong: dict[str, int], profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is no campaign"):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_is_a_clear_error(profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path / "file" / "campaign")
