"""The page in headless Chromium: nothing in its console, everything drawn, and all of it to be had by mouse and by keyboard."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layerclock.datasets.table import LatencyTable
from layerclock.reports.report import report
from layerclock.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from headless import Browser, ReportInputs

DRAWN = {"spent-bars", "roofline", "quality-scatter", "quality-error", "quality-kinds", "quality-choices", "fronts-plot", "fronts-layers",
         "difference-layers", "difference-kinds"}  # fmt: skip
HOSTILE = "</script><img src=x onerror=window.pwned=1><a href='https://evil.example'>go</a>%{x}{{7*7}}"


LINK = "<a href='https://evil.example'>go</a>"


def shapes(browser: Browser, drawing: str) -> int:
    """How many points, bars and lines a drawing holds."""
    return int(browser.run(f"document.querySelectorAll('#{drawing} .trace path').length"))


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_drawn_and_nothing_overflows(browser: Browser, report_page: Path, screenshots: Path, width: int, scheme: str) -> None:
    browser.open(report_page, width, scheme)
    for drawing in DRAWN:
        assert shapes(browser, drawing) > 0, drawing
        box = browser.run(f"document.querySelector('#{drawing} svg.main-svg').getBoundingClientRect().toJSON()")
        assert 0 <= box["left"] <= box["right"] <= width, drawing
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.screenshot(screenshots / f"report-{width}-{scheme}.png")
    assert (screenshots / f"report-{width}-{scheme}.png").stat().st_size > 50_000
    assert browser.errors() == []


def test_every_axis_has_a_unit_or_names_its_rows(browser: Browser, report_page: Path) -> None:
    browser.open(report_page)
    for drawing in DRAWN:
        titles = browser.run(f"[...document.querySelectorAll('#{drawing} .xtitle, #{drawing} .ytitle')].map(one => one.textContent)")
        assert titles, drawing
        assert all("(" in title for title in titles), (drawing, titles)
        unnamed = browser.run(f"document.querySelectorAll('#{drawing} .ytick text').length")
        assert len(titles) == 2 or unnamed > 0, drawing


def test_dark_and_light_have_colours_of_their_own_and_change_while_open(browser: Browser, report_page: Path) -> None:
    colour = "getComputedStyle(document.querySelector('#spent-bars .point path')).fill"
    browser.open(report_page, scheme="light")
    light = browser.run(colour), browser.run("getComputedStyle(document.body).backgroundColor")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    browser.wait(f"{colour} !== '{light[0]}'")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light[1]
    assert browser.errors() == []


def test_hovering_tells_the_network_and_a_click_shows_its_layers(browser: Browser, report_page: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.open(report_page)
    before = browser.run("document.querySelector('#fronts-chosen').textContent")
    front = browser.driver.find_elements(By.CSS_SELECTOR, "#fronts-plot .scatterlayer .trace:nth-child(2) .point")
    assert len(front) > 2
    point = front[-1]
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser.driver).move_to_element(point).perform()
    browser.wait("document.querySelector('#fronts-plot .hoverlayer .hovertext')")
    told = browser.run("document.querySelector('#fronts-plot .hoverlayer .hovertext').textContent")
    assert "evaluation" in told
    assert "latency (ms)" in told
    assert "depth" in told, "the network itself, not only where it lies"
    ActionChains(browser.driver).move_to_element(point).click().perform()
    browser.wait(f"document.querySelector('#fronts-chosen').textContent !== {before!r}")
    evaluation = browser.run("document.querySelector('#fronts-chosen').textContent.match(/evaluation (\\d+)/)[1]")
    assert browser.run("document.querySelector('#fronts-list tr[aria-selected=true]').dataset.row") == evaluation
    assert shapes(browser, "fronts-layers") > 5
    assert browser.errors() == []


def test_the_front_can_be_walked_by_keyboard(browser: Browser, report_page: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.open(report_page)
    reachable = browser.run("document.querySelectorAll('#fronts-list tbody tr[tabindex=\"0\"]').length")
    assert reachable == 1, "one stop for Tab, arrows within"
    rows = browser.run("document.querySelectorAll('#fronts-list tbody tr').length")
    browser.run("document.querySelector('#fronts-list tbody tr[tabindex=\"0\"]').focus()")
    ActionChains(browser.driver).send_keys(Keys.HOME, Keys.ARROW_DOWN).perform()
    assert browser.run("document.activeElement.sectionRowIndex") == 1
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert browser.run("document.activeElement.getAttribute('aria-selected')") == "true"
    row = browser.run("document.activeElement.dataset.row")
    assert f"evaluation {row}:" in browser.run("document.querySelector('#fronts-chosen').textContent")
    ActionChains(browser.driver).send_keys(Keys.END, Keys.ARROW_DOWN).perform()
    assert browser.run("document.activeElement.sectionRowIndex") == rows - 1, "it stays at the end"
    assert browser.errors() == []


def test_choosing_other_parts_and_networks_draws_them(browser: Browser, report_page: Path) -> None:
    browser.open(report_page)
    choose = "(s => {{ const one = document.querySelector('#{}'); one.value = s; one.dispatchEvent(new Event('change')); }})('{}')"
    layers = shapes(browser, "spent-bars")
    roofline = shapes(browser, "roofline")
    browser.run(choose.format("spent-level", "kernel"))
    browser.wait("document.querySelector('#spent-sum').textContent.includes('kernels sum to')")
    assert shapes(browser, "spent-bars") > layers
    assert shapes(browser, "roofline") != roofline
    browser.run(choose.format("spent-order", "time"))
    times = [float(text.replace(",", "")) for text in browser.run(
        "[...document.querySelectorAll('#spent-list tbody tr')].map(row => row.cells[1].textContent)")][:10]  # fmt: skip
    assert times == sorted(times, reverse=True)
    first = browser.run("document.querySelector('#spent-sum').textContent")
    browser.run(choose.format("spent-network", 0))
    assert browser.run("document.querySelector('#spent-sum').textContent") != first
    browser.run(choose.format("fronts-x", "score_percent"))
    browser.wait("document.querySelector('#fronts-plot .xtitle').textContent.startsWith('score (%)')")
    assert browser.errors() == []


def test_it_prints_on_white_and_as_wide_as_paper(browser: Browser, report_page: Path, screenshots: Path) -> None:
    colour = "getComputedStyle(document.querySelector('#spent-bars .point path')).fill"
    widest = "Math.max(...[...document.querySelectorAll('.plot svg.main-svg')].map(one => one.getBoundingClientRect().width))"
    browser.open(report_page, scheme="light")
    light = browser.run(colour)
    browser.open(report_page, scheme="dark")
    dark, wide = browser.run(colour), browser.run(widest)
    assert dark != light
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(colour) == light
    assert browser.run(widest) <= 690 < wide, (browser.run(widest), wide)
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.wait(f"{colour} === '{dark}' && {widest} > 690")
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.7})
    (screenshots / "report.pdf").write_bytes(base64.b64decode(printed["data"]))
    browser.open(report_page, 760, "dark", "print")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.errors() == []


def hostile_table(table: LatencyTable) -> LatencyTable:
    """A table of one file, every text of which would like to be something else."""
    target = Target(HOSTILE, HOSTILE, "1", HOSTILE, 1, 1, ((HOSTILE, HOSTILE),), (("cpu", HOSTILE),))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(table.level("layer").to_pylist()[:6]):
        rows.append({**row, "key": f"{number}{LINK if number else HOSTILE}", "op": LINK, "attributes": "{}", "reason": HOSTILE})
    network = {**table.level("network").to_pylist()[0], "op": HOSTILE, "genome": [0], "kernel_keys": [], "reason": HOSTILE}
    provenance = replace(table.provenance, tool=HOSTILE, command=HOSTILE, conditions={"source": HOSTILE})
    return LatencyTable.from_rows([*rows, network], target, f"onnx:{HOSTILE}", HOSTILE, provenance, {"median": 1.0})


def test_no_name_from_a_file_becomes_markup(
    browser: Browser, report_inputs: ReportInputs, fake_table: LatencyTable, tmp_path: Path
) -> None:
    folder = tmp_path / "<img src=x onerror=window.pwned=2>"
    folder.mkdir()
    first, second = folder / "a<b>.parquet", folder / "table.parquet"
    hostile_table(fake_table).write(first)
    hostile_table(fake_table).write(second)
    made = report([first, second, report_inputs.search], tmp_path / "report.html", title=HOSTILE)
    browser.open(made.path)
    assert browser.run("document.title") == HOSTILE
    assert browser.run("document.querySelector('h1').textContent") == HOSTILE
    assert browser.run("window.pwned === undefined")
    assert browser.run("document.querySelectorAll('img, main script, iframe').length") == 0
    outside = browser.run("[...document.querySelectorAll('a')].map(one => one.getAttribute('href') ?? one.getAttribute('xlink:href'))")
    assert all(link.startswith("#") for link in outside), "neither in the words nor in the drawings"
    labels = browser.run("[...document.querySelectorAll('#spent-bars .ytick text')].map(one => one.textContent)")
    assert labels[0].startswith("0</script>"), "shown as what it is"
    assert labels[1] == f"1{LINK}"
    assert browser.errors() == []
