"""What the tests of several rooms share: a small space, one campaign on the fake device, and a cache of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layerclock.plugins import load_space, open_device
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile, SearchSpace

# Read when torch is first imported: its threads make an export several times slower on a machine with other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY_SPACE = "digits-mobilenetv3:width=0.25,resolution=32"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Public measurements by others, which are too big or not licensed to be in the repository."""
    folder = os.environ.get("LAYERCLOCK_DATA")
    if not folder:
        pytest.skip("LAYERCLOCK_DATA names no folder: its dynast/*.csv are DyNAS-T's search runs, https://github.com/IntelLabs/DyNAS-T")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Exported networks of the whole session; the user's own cache is never touched."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERCLOCK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    return load_space(TINY_SPACE)


@pytest.fixture(scope="session")
def tiny_index(tiny_space: SearchSpace) -> SiteIndex:
    return SiteIndex.of(tiny_space)


@pytest.fixture(scope="session")
def tiny_model(tiny_space: SearchSpace) -> ModelFile:
    """The smallest network of the tiny space, exported."""
    from layerclock.devices.export import Exporter

    return Exporter(tiny_space)([0] * len(tiny_space.genes))


@pytest.fixture(scope="session")
def profile_tiny(tiny_space: SearchSpace) -> Callable[..., LatencyTable]:
    """``profile_tiny(device, folder=...)``: the campaign behind ``fake_table`` on any device; exports are shared."""
    from layerclock.profiler.campaign import profile

    return partial(profile, space=tiny_space, networks=14, holdout=8, rounds=2, runs=5)


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory: pytest.TempPathFactory, profile_tiny: Callable[..., LatencyTable]) -> Path:
    """The folder of a finished campaign on ``fake:cpu``. Read it, never write into it."""
    folder = tmp_path_factory.mktemp("fake") / "campaign"
    profile_tiny(open_device("fake:cpu"), folder=folder)
    return folder


@pytest.fixture(scope="session")
def fake_table(fake_folder: Path) -> LatencyTable:
    from layerclock.datasets.table import read_table

    return read_table(fake_folder / "table.parquet")


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """Run code in a fresh interpreter and return what it printed; it must end well and without a warning."""

    def run(code: str) -> str:
        finished = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


@pytest.fixture(scope="session")
def composite_table(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """A campaign over 51 composite networks on ``fake:cpu``."""
    import numpy as np

    from layerclock.profiler.campaign import profile
    from layerclock.profiler.composites import THEMES, CompositeSpace
    from layerclock.profiler.plan import Plan

    space = CompositeSpace()
    genomes = np.array([(theme, seed) for seed in range(3) for theme in range(len(THEMES))])
    plan = Plan(genomes, np.zeros((0, 2), dtype=np.int64))
    folder = tmp_path_factory.mktemp("composites") / "campaign"
    return profile(open_device("fake:cpu"), space, folder, plan=plan, rounds=2, runs=4, export=space.export)
