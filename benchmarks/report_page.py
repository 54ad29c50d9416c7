"""A report on a campaign of 200 networks and a search of 500 evaluations: seconds to build, megabytes, seconds to the first drawing.

Campaign and predictor are real, on ONNX Runtime and digits-mobilenetv3; the search is NSGA-II with that predictor against exact
parameters. The first drawing is timed by Chromium itself, from the start of its navigation, each time in a fresh profile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from shutil import which
from time import monotonic, perf_counter, sleep

import numpy as np
from report import finish, tell

import layerclock as lc
from layerclock.search.objective import Objective


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 networks, 100 evaluations, 3 loads: some two minutes")
    parser.add_argument("--folder", type=Path, help="keep campaign, search and page there, and go on from what it holds")
    arguments = parser.parse_args()
    networks, evaluations, loads = (40, 100, 3) if arguments.quick else (200, 500, 9)
    with tempfile.TemporaryDirectory(prefix="report_page") as temporary:
        folder = arguments.folder or Path(temporary)
        paths = _inputs(folder, networks, evaluations)
        start = perf_counter()
        made = lc.report(paths, folder / "report.html")
        build_s = perf_counter() - start
        first = [_first_drawing_s(made.path) for _ in range(loads)]
    figures = {
        "networks": networks,
        "evaluations": evaluations,
        "build_s": build_s,
        "size_mb": made.size_bytes / 1e6,
        "size_without_library_mb": (made.size_bytes - _library_bytes()) / 1e6,
        "first_drawing_s": statistics.median(first),
        "first_drawing_worst_s": max(first),
    }
    targets = {"build_s": ("<", 10.0), "size_mb": ("<", 8.0), "first_drawing_s": ("<", 2.0)}
    return finish("report_page", figures, targets, arguments.quick)


def _inputs(folder: Path, networks: int, evaluations: int) -> list[Path]:
    space = lc.load_space("digits-mobilenetv3")
    held_out = networks // 5
    device = lc.open_device("onnxruntime:cpu", lc.DeviceOptions(threads=1))
    table = lc.profile(device, space, folder / "campaign", networks=networks - held_out, holdout=held_out, rounds=4, runs=4, progress=tell)
    predictor = lc.fit(table, space)
    predictor.save(folder / "predictor.onnx")
    index = lc.SiteIndex.of(space)
    size = Objective("params", lambda genomes: index.params(genomes).astype(np.float64), maximise=True)
    found = lc.pareto_search(space, [lc.latency_objective(predictor), size], evaluations=evaluations, algorithm="nsga2")
    found.write(folder / "search")
    return [folder / "campaign", folder / "predictor.onnx", folder / "search"]


def _first_drawing_s(page: Path) -> float:
    """Seconds from the start of the navigation to the end of the first drawing, in a browser that never saw the page."""
    from selenium.webdriver import Chrome
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium, chromedriver = which("chromium") or which("google-chrome"), which("chromedriver")
    if chromium is None or chromedriver is None:
        raise lc.LayerclockError("no Chromium with chromedriver on the PATH", "on Debian: apt install chromium chromium-driver")
    options = Options()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1440,900",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)  # fmt: skip
        driver = Chrome(options=options, service=Service(chromedriver))
        try:
            driver.get(page.resolve().as_uri())
            end = monotonic() + 60
            while not (marks := driver.execute_script("return performance.getEntriesByName('first-drawing').map(one => one.startTime)")):
                if monotonic() > end:
                    raise lc.LayerclockError("nothing was drawn within a minute", f"open {page} by hand, and look at the console")
                sleep(0.02)
            return float(marks[0]) / 1e3
        finally:
            driver.quit()


def _library_bytes() -> int:
    from layerclock.reports.plotly_library import plotly_script

    return len(plotly_script().encode())


if __name__ == "__main__":
    sys.exit(main())
