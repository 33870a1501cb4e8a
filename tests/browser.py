"""A headless Chromium that tests of pages drive; a test that asks for it is marked `browser`.

@pytest.mark.browser
def test_page(browser: Browser, tmp_path: Path) -> None:
    browser.open(tmp_path / "page.html", width=390, dark=True)
    assert browser.complaints() == []
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps"),
)
LOCAL = ("localhost", "127.0.0.1")


@dataclass
class Browser:
    """One window of Chromium.

    Attributes:
        driver: Selenium's, for whatever is not below.
    """

    driver: Chrome

    def open(
        self,
        page: Path | str,
        *,
        width: int = 1440,
        height: int = 900,
        dark: bool = False,
        mobile: bool = False,
    ) -> None:
        """Opens a file or an address, in a window of a size in CSS pixels.

        Args:
            page: File, or address with its scheme.
            width: Of the window.
            height: Of the window.
            dark: Whether the user prefers a dark page.
            mobile: Whether it is a phone, which heeds the viewport of the page.
        """
        self._forget()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get(page.absolute().as_uri() if isinstance(page, Path) else page)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any, seconds: float = 10) -> Any:
        """Runs a script again and again until it returns something true, and returns that."""
        end = time.monotonic() + seconds
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"after {seconds} s still {found!r}: {script}"
            time.sleep(0.05)
        return found

    def complaints(self) -> list[str]:
        """Warnings and errors of the console since the page was opened, each told once."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened but data: and blob:, each told once."""
        log = (json.loads(entry["message"]) for entry in self.driver.get_log("performance"))
        events = [entry["message"] for entry in log]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        asked = [event["request"]["url"] for event in sent]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def outer_requests(self) -> list[str]:
        """Those of the requests that leave this machine."""
        parts = [(url, urlsplit(url)) for url in self.requests()]
        return [url for url, p in parts if p.scheme != "file" and p.hostname not in LOCAL]

    def is_too_wide(self) -> bool:
        """Whether the page can be scrolled sideways."""
        return bool(
            self.run("const e = document.documentElement; return e.scrollWidth > e.clientWidth")
        )

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Writes a PNG of the window, or of the whole page."""
        shot = self.command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, fromSurface=True
        )
        file.write_bytes(base64.b64decode(shot["data"]))

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def _forget(self) -> None:
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)


def start(profile: Path) -> Chrome:
    """Starts Chromium with a new profile; skips the test, with the reason, where there is none."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("expected chromium and chromedriver on the PATH, got none")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
    return Chrome(options=options, service=ChromeService(driver))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One process for all tests: it takes a second to start."""
    driver = start(tmp_path_factory.mktemp("chromium"))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Browser:
    """A window of Chromium, empty."""
    chromium.get("about:blank")
    return Browser(chromium)
