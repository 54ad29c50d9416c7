"""With a budget a campaign ends when the time is spent or the table is steady, and goes on where it stopped with a larger one."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import pytest

from layerclock.errors import CampaignError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import open_device
from layerclock.profiler import sitting
from layerclock.profiler.campaign import profile
from layerclock.profiler.plan import Plan, make_plan
from layerclock.profiler.store import CampaignFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.profiler.progress import Progress
    from layerclock.space import SiteIndex

    ProfileTiny = Callable[..., LatencyTable]


def test_a_steady_table_ends_a_campaign_long_before_its_budget(profile_tiny: ProfileTiny, fake_table: LatencyTable, tmp_path: Path) -> None:
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path, budget_s=36000.0)
    rounds = CampaignFolder(tmp_path).done().rounds
    assert set(rounds) == set(range(22))
    # Whole rounds, the same for every network, and no more than it took to be steady.
    assert len(set(rounds.values())) == 1
    assert 3 <= len(rounds[0]) < 20
    assert set(table.layer_latencies_us()) == set(fake_table.layer_latencies_us())
    assert table.coverage["layers_measured"] == table.coverage["layers_of_the_space"] == table.level("layer").num_rows


def test_a_table_that_never_gets_steady_is_measured_until_the_budget_is_spent(profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    never_steady = open_device("fake:cpu", DeviceOptions(extra={"coarse": "yes"}))
    told: list[Progress] = []
    begin = monotonic()
    profile_tiny(never_steady, folder=tmp_path, budget_s=8.0, progress=told.append)
    assert monotonic() - begin < 90, "it takes about its budget, even on a machine with much other work"
    store = CampaignFolder(tmp_path)
    assert store.done().spent_s > 0
    assert told[0].total == 22
    parts = sorted(path.name for path in (tmp_path / "parts").iterdir())
    # The budget is that of all sittings: the same command finds it spent, and only reads.
    profile_tiny(never_steady, folder=tmp_path, budget_s=min(8.0, store.done().spent_s))
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == parts


def test_a_budget_too_small_for_anything_says_so_and_a_larger_one_goes_on(profile_tiny: ProfileTiny, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="the time ended before any network was profiled"):
        profile_tiny(open_device("fake:cpu"), folder=tmp_path, budget_s=0.001)
    table = profile_tiny(open_device("fake:cpu"), folder=tmp_path, budget_s=36000.0)
    assert len(table.networks()) == 14


def test_when_the_budget_is_spent_no_further_network_is_measured(
    profile_tiny: ProfileTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(sitting, "monotonic", lambda: monotonic() + passed[0])

    def spend(progress: Progress) -> None:
        if progress.stage == "measure" and progress.done == 30:
            passed[0] = 1e6

    profile_tiny(open_device("fake:cpu", DeviceOptions(extra={"coarse": "yes"})), folder=tmp_path, budget_s=36000.0, progress=spend)
    assert len(list((tmp_path / "parts").iterdir())) == 31


def test_what_is_covered_is_told_and_stands_in_the_table(tiny_space: SearchSpace, tiny_index: SiteIndex, tmp_path: Path) -> None:
    chosen = make_plan(tiny_index, networks=14, holdout=8).profiled[:2]
    told: list[Progress] = []
    table = profile(open_device("fake:cpu"), tiny_space, tmp_path, plan=Plan(chosen, chosen[:0]), rounds=2, runs=2, progress=told.append)
    covered = int((tiny_index.counts(chosen).sum(axis=0) > 0).sum())
    assert covered < len(tiny_index.vocabulary)
    assert (table.coverage["layers_measured"], table.coverage["layers_of_the_space"]) == (covered, len(tiny_index.vocabulary))
    assert (told[-1].covered, told[-1].layers) == (covered, len(tiny_index.vocabulary))
    seen = [progress.covered for progress in told]
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert np.isnan(told[0].noise)
    assert told[-1].noise > 0
    assert told[-1].left_s == 0.0
