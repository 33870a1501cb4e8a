"""The page in a browser: sorted, filtered, drawn, at every width, and asking for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.app.cli import main
from tests.browser import Browser
from tests.unit.app.reports.runs import write_run
from tests.unit.app.reports.test_report import hostile_run

pytestmark = pytest.mark.browser

DRAWN = "return [...document.querySelectorAll('canvas')].some(c => c.dataset.drawn)"
INK = (
    """return [...document.querySelectorAll('canvas[data-drawn]')].map(c => c.toDataURL()).join()"""
)
TABLE = """
const table = [...document.querySelectorAll('[data-table]')]
  .find(block => block.querySelector('h3').textContent === arguments[0]);
"""
ROWS = "[...table.querySelectorAll('tbody tr')]"
FIRSTS = f"{TABLE} return {ROWS}.filter(r => !r.hidden).map(r => r.cells[0].textContent)"
VALUES = f"{TABLE} return {ROWS}.map(r => r.cells[1].dataset.value)"
HEADERS = "[...table.querySelectorAll('thead button')]"
SORT = f"{TABLE} {HEADERS}.find(b => b.textContent === arguments[1]).click()"
STATES = "return [...document.querySelectorAll('th[aria-sort]')].map(h => h.ariaSort)"
FILTER = f"""{TABLE} const input = table.querySelector('input');
input.value = arguments[1]; input.dispatchEvent(new Event('input'))"""
GALLERY = "document.querySelector('[data-gallery]').scrollIntoView({behavior: 'instant'})"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs with boxes, masks and faces."""
    folder = tmp_path_factory.mktemp("reports")
    first = write_run(folder / "first", "boxes", "masks", "faces")
    second = write_run(folder / "second", "boxes", "masks", "faces")
    assert main(["report", str(first), str(second), "resamples=10"]) == 0
    return first / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "mobile"), [(390, True), (1440, False)])
def test_every_width_and_scheme(
    width: int, mobile: bool, dark: bool, page: Path, browser: Browser
) -> None:
    browser.open(page, width=width, mobile=mobile, dark=dark)
    browser.run(GALLERY)
    browser.until(DRAWN)
    assert not browser.is_too_wide()
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark
    assert browser.run("return document.querySelectorAll('.plot path.line').length") > 3
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]


def test_sorting(page: Path, browser: Browser) -> None:
    browser.open(page)
    before = browser.run(FIRSTS, "All metrics")
    browser.run(SORT, "All metrics", "metric")
    ascending = browser.run(FIRSTS, "All metrics")
    assert ascending != before
    browser.run(SORT, "All metrics", "metric")
    assert browser.run(FIRSTS, "All metrics") == ascending[::-1]
    assert set(browser.run(STATES)) == {"none", "descending"}


def test_sorting_by_keyboard(page: Path, browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    browser.run(f"{TABLE} return {HEADERS}.at(-1)", "All metrics").send_keys(Keys.ENTER)
    values = browser.run(VALUES, "All metrics")
    numbers = [float(value) for value in values if value is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert all(value is None for value in values[len(numbers) :])  # without a value: last


def test_filtering(page: Path, browser: Browser) -> None:
    browser.open(page)
    every = browser.run(FIRSTS, "All metrics")
    browser.run(FILTER, "All metrics", "AP50")
    kept = browser.run(FIRSTS, "All metrics")
    assert kept == [name for name in every if "AP50" in name]
    browser.run(FILTER, "All metrics", "")
    assert browser.run(FIRSTS, "All metrics") == every


def test_overlays_can_be_switched(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.run(GALLERY)
    browser.until(DRAWN)
    seen = browser.run(INK)
    for name, change in (("truth", "i.click()"), ("score", "i.value = 0.99")):
        event = "i.dispatchEvent(new Event('input'))"
        browser.run(
            f"const i = document.querySelector('.toolbar [name={name}]'); {change}; {event}"
        )
        changed = f"const now = (() => {{ {INK} }})(); return now === arguments[0] ? null : now"
        seen = browser.until(changed, seen)
    assert browser.run("return document.querySelector('.toolbar output').textContent") == "0.99"


def test_a_picture_is_enlarged(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.run(GALLERY)
    browser.until(DRAWN)
    browser.run("document.querySelector('.view').click()")
    browser.until("return document.querySelector('dialog[open] canvas[data-drawn]')")
    assert browser.complaints() == []


def test_values_under_the_pointer(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.run(
        "const plot = document.querySelector('.plot svg'), box = plot.getBoundingClientRect();"
        "plot.dispatchEvent(new PointerEvent('pointermove',"
        "{clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true}))"
    )
    assert browser.run("return document.querySelector('.tip').textContent").count("\n") == 2
    assert browser.complaints() == []


def test_hostile_names_run_nothing(tmp_path: Path, browser: Browser) -> None:
    assert main(["report", str(run := hostile_run(tmp_path))]) == 0
    browser.open(run / "report.html")
    browser.run(GALLERY)
    browser.until(DRAWN)  # an alert would be an error of the driver
    assert browser.complaints() == []
    assert browser.run("return document.querySelectorAll('img, body script').length") == 2
