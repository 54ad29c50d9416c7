"""What the tests of several rooms share: a small space, one campaign on the fake device, and a cache of their own."""

from __future__ import annotations

import os
import shutil
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

    from headless import Browser, ReportInputs

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import ModelFile, SearchSpace
    from layerclock.predictors.transfer.problem import Sources
    from layerclock.space import GenomeArray

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


@pytest.fixture(scope="session")
def nb201(data_folder: Path) -> Sources:
    """The 15,625 cells of NAS-Bench-201 on 34 devices, from HW-NAS-Bench and LatBench."""
    import numpy as np
    import pyarrow.parquet as pq

    codes = pq.read_table(data_folder / "nb201_archs.parquet", columns=[f"op{edge}" for edge in range(6)])
    return _latencies(np.stack([column.to_numpy() for column in codes], axis=1), data_folder / "nb201_latency.parquet")


@pytest.fixture(scope="session")
def fbnet(data_folder: Path) -> Sources:
    """5,000 networks of ``fbnet:layout=cifar,resolution=32,classes=100`` on 27 devices, from HW-NAS-Bench."""
    import numpy as np
    import pyarrow.parquet as pq

    path = data_folder / "fbnet_latency.parquet"
    return _latencies(np.array(pq.read_table(path, columns=["arch"])["arch"].to_pylist()), path)


def _latencies(genomes: GenomeArray, path: Path) -> Sources:
    import numpy as np
    import pyarrow.parquet as pq

    from layerclock.predictors.transfer.problem import Sources

    table = pq.read_table(path)
    devices = [name for name in table.column_names if name not in ("arch_index", "arch_str", "arch")]
    latency_ms = np.stack([table[name].to_numpy().astype(np.float64) for name in devices], axis=1)
    return Sources(genomes.astype(np.int64), latency_ms, tuple(devices))


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


@pytest.fixture(scope="session")
def report_inputs(
    tmp_path_factory: pytest.TempPathFactory, fake_folder: Path, fake_table: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex
) -> ReportInputs:
    """The fake campaign, a predictor of it, and two searches with that."""
    from headless import ReportInputs

    from layerclock.predictors.fitting import fit
    from layerclock.search.loop import pareto_search
    from layerclock.search.objective import Objective, latency_objective

    folder = tmp_path_factory.mktemp("report")
    predictor = fit(fake_table, tiny_space)
    predictor.save(folder / "fake.onnx")
    score = Objective("score_percent", lambda genomes: tiny_index.params(genomes) ** 0.5 / 10, maximise=True, source="a formula")
    for name, seed in (("search", 0), ("other", 1)):
        goals = [latency_objective(predictor), score]
        pareto_search(tiny_space, goals, evaluations=30, population=10, seed=seed, algorithm="nsga2").write(folder / name)
    return ReportInputs(fake_folder, folder / "fake.onnx", folder / "search", folder / "other")


@pytest.fixture(scope="session")
def report_page(report_inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything on one page, with the campaign twice as two tables to compare."""
    from layerclock.reports.report import report

    folder = tmp_path_factory.mktemp("page")
    shutil.copy(report_inputs.campaign / "table.parquet", folder / "again.parquet")
    paths = [report_inputs.campaign, folder / "again.parquet", report_inputs.predictor, report_inputs.search, report_inputs.other]
    return report(paths, folder / "report.html").path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; skips where there is none."""
    from headless import open_browser

    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests leave their pictures: $LAYERCLOCK_SCREENSHOTS, else pytest's own folder."""
    named = os.environ.get("LAYERCLOCK_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
