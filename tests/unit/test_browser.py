"""The browser of the tests sees what a page asks for, complains of and looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Browser

PAGE = """<!doctype html><meta name="viewport" content="width=device-width, initial-scale=1">
<style>p {{ width: {width}px; color: black }}
@media (prefers-color-scheme: dark) {{ p {{ color: white }} }}</style>
<p>here</p><script>{script}</script>"""
COLOUR = "return getComputedStyle(document.querySelector('p')).color"


def write(folder: Path, *, width: int = 100, script: str = "") -> Path:
    file = folder / "page.html"
    file.write_text(PAGE.format(width=width, script=script))
    return file


@pytest.mark.browser
def test_quiet_page(browser: Browser, tmp_path: Path) -> None:
    file = write(tmp_path)
    browser.open(file, width=390, mobile=True)
    assert browser.run("return innerWidth") == 390
    assert browser.run(COLOUR) == "rgb(0, 0, 0)"
    assert not browser.is_too_wide()
    assert browser.complaints() == []
    assert browser.requests() == [file.as_uri()]
    assert browser.outer_requests() == []


@pytest.mark.browser
def test_sees_what_a_page_does(browser: Browser, tmp_path: Path) -> None:
    script = "fetch('http://densekit.invalid/x').catch(() => {}); console.error('broken')"
    browser.open(write(tmp_path, width=800, script=script), width=390, dark=True, mobile=True)
    browser.until("return document.readyState === 'complete'")
    assert browser.run(COLOUR) == "rgb(255, 255, 255)"
    assert browser.is_too_wide()
    assert any("broken" in message for message in browser.complaints())
    assert "http://densekit.invalid/x" in browser.outer_requests()


@pytest.mark.browser
def test_screenshot(browser: Browser, tmp_path: Path) -> None:
    browser.open(write(tmp_path), width=500, height=300)
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
