"""A small campaign, its predictor and two searches, the page made of them, and a real browser to open it in."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from layerclock.search.objective import Objective, latency_objective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

    from layerclock.datasets.table import LatencyTable
    from layerclock.interfaces import SearchSpace
    from layerclock.space import SiteIndex

_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a report can be made of; ``search`` and ``other`` are searches with different latencies."""

    campaign: Path
    predictor: Path
    search: Path
    other: Path


@pytest.fixture(scope="session")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, fake_folder: Path, fake_table: LatencyTable, tiny_space: SearchSpace, tiny_index: SiteIndex
) -> Inputs:
    from layerclock.predictors.fitting import fit
    from layerclock.search.loop import pareto_search

    folder = tmp_path_factory.mktemp("inputs")
    predictor = fit(fake_table, tiny_space)
    predictor.save(folder / "fake.onnx")
    capacity = Objective("score_percent", lambda genomes: tiny_index.params(genomes) ** 0.5 / 10, maximise=True, source="a formula")
    for name, seed in (("search", 0), ("other", 1)):
        result = pareto_search(
            tiny_space, [latency_objective(predictor), capacity], evaluations=30, population=10, seed=seed, algorithm="nsga2"
        )
        result.write(folder / name)
    return Inputs(fake_folder, folder / "fake.onnx", folder / "search", folder / "other")


class Browser:
    """One page in headless Chromium, at a width, in light or dark."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1440, scheme: str = "light", medium: str = "screen") -> None:
        """Load the page and wait until every drawing is there."""
        self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(page.as_uri())
        self.wait("document.documentElement.dataset.done === 'yes'")

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {code}")  # type: ignore[no-untyped-call]

    def wait(self, condition: str, seconds: float = 30.0) -> None:
        """Until a JavaScript expression is true."""
        end = monotonic() + seconds
        while not self.run(condition):
            assert monotonic() < end, f"never true: {condition}; {self.errors()}"
            sleep(0.05)

    def errors(self) -> list[str]:
        """What the console said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        import base64

        size = self.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium without a window. Skips where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if binary is None or chromedriver is None:
        pytest.skip("no Chromium with chromedriver on the PATH; on Debian: apt install chromium chromium-driver")
    from selenium.webdriver import Chrome
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()  # type: ignore[no-untyped-call]
    options.binary_location = binary
    # A short path: Chromium puts sockets into it, whose names may have a hundred characters.
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(chromedriver))
        try:
            yield Browser(driver)
        finally:
            driver.quit()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests leave their pictures: $LAYERCLOCK_SCREENSHOTS, else pytest's own folder."""
    named = os.environ.get("LAYERCLOCK_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def page(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything on one page, with the campaign twice as two tables to compare."""
    from layerclock.reports.report import report

    folder = tmp_path_factory.mktemp("page")
    shutil.copy(inputs.campaign / "table.parquet", folder / "again.parquet")
    paths = [inputs.campaign, folder / "again.parquet", inputs.predictor, inputs.search, inputs.other]
    return report(paths, folder / "report.html").path


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Any]:
    from layerclock.reports.report import report

    return report
