"""The page in a headless Chromium, served by the command itself."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from densekit import Predictor
from densekit.data import read_volume
from tests.browser import Browser
from tests.conftest import PROJECT
from tests.unit.app.commands.test_predict_volumes import nifti, volume_segmenter
from tests.unit.app.demo.models import stored
from tests.unit.app.demo.test_runner import picture
from tests.unit.app.predicting import checkpoint_of

OF_GRADIO = "Method not implemented."
"""What gradio itself says in the console whenever an answer is complete."""
SET = """
const input = document.querySelector(arguments[0]);
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, arguments[1]);
input.dispatchEvent(new Event('input', {bubbles: true}));
input.dispatchEvent(new Event('change', {bubbles: true}));
input.dispatchEvent(new Event('pointerup', {bubbles: true}));
"""


class Served:
    """A running `densekit demo`.

    Args:
        words: Of its command line.
        temporary: Where its temporary files are.
    """

    def __init__(self, words: list[str], temporary: Path) -> None:
        self.temporary = temporary
        temporary.mkdir()
        command = [sys.executable, "-m", "densekit", "demo", *words, "port=0", "trust=[tests]"]
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if "http://" in line)
        self.address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]

    def stop(self, by: int) -> int:
        self.process.send_signal(by)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model of images with four heads, a gallery and examples."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        picture(folder / "people" / f"{number}.png", seed=number)
    checkpoint = stored(folder / "m ${7*7} {{7*7}} <i>.ckpt")
    words = [f"checkpoint={checkpoint}", f"gallery={folder / 'people'}"]
    served = Served([*words, f"examples={folder / 'people'}", "device=cpu"], folder / "tmp")
    try:
        yield served
        assert served.stop(signal.SIGINT) == 0
        assert not list(served.temporary.iterdir())
    finally:
        served.process.kill()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("volumes")
    checkpoint = checkpoint_of(volume_segmenter(), folder / "m.ckpt")
    served = Served([f"checkpoint={checkpoint}", "device=cpu"], folder / "tmp")
    try:
        yield served
        assert served.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        assert not list(served.temporary.iterdir())
    finally:
        served.process.kill()


def opened(browser: Browser, served: Served) -> None:
    browser.open(served.address)
    browser.until("return document.querySelector('#source input[type=file]')", seconds=60)


def drop(browser: Browser, where: str, *files: Path) -> str:
    """Uploads files and returns what the page says of them."""
    field = browser.until(f"return document.querySelector('#{where} input[type=file]')")
    before = said(browser)
    field.send_keys("\n".join(map(str, files)))
    browser.until(
        "return (document.querySelector('#message') ?? {innerText: ''}).innerText.trim() !="
        " arguments[0]",
        before,
        seconds=60,
    )
    browser.until("return !document.querySelector('#message .progress-text')")
    return said(browser)


def said(browser: Browser) -> str:
    script = "return (document.querySelector('#message') ?? {innerText: ''}).innerText.trim()"
    return str(browser.run(script))


def open_tab(browser: Browser, head: str) -> None:
    tabs = browser.driver.find_elements("css selector", "[role=tab]")
    next(tab for tab in tabs if tab.text == head).click()


def wait_for(browser: Browser, name: str, text: str) -> None:
    """Waits until an element says something."""
    script = "return document.querySelector(arguments[0])?.innerText.includes(arguments[1])"
    browser.until(script, name, text)


def text_of(browser: Browser, name: str) -> str:
    return str(browser.until("return document.querySelector(arguments[0])?.innerText", name))


def image_of(browser: Browser, name: str) -> str:
    return str(browser.until("return document.querySelector(arguments[0] + ' img')?.src", name))


def downloads(browser: Browser) -> dict[str, bytes]:
    """File name to content of what the page offers."""
    links = browser.until(
        "const all = [...document.querySelectorAll('#files a')];"
        "return all.length ? all.map(a => a.href) : null"
    )
    return {link.rpartition("/")[2]: urllib.request.urlopen(link).read() for link in links}


def complaints(browser: Browser) -> list[str]:
    return [message for message in browser.complaints() if OF_GRADIO not in message]


def status(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.browser
def test_boxes(browser: Browser, images: Served, tmp_path: Path) -> None:
    opened(browser, images)
    file = picture(tmp_path / "42.png", seed=5)
    assert "m ${7*7} {{7*7}} <i>.ckpt: " in text_of(browser, "#about")  # nothing is evaluated
    assert drop(browser, "source", file) == "42.png: 96 x 64 pixels"
    open_tab(browser, "detection")
    first = image_of(browser, "#picture-detection")
    written = json.loads(downloads(browser)["results.json"])
    assert {entry["image_id"] for entry in written} == {42}
    scores = sorted((entry["score"] for entry in written), reverse=True)
    least = round((scores[1] + scores[2]) / 2, 2)
    browser.run(SET, "#slider-detection input[type=number]", str(least))
    kept = sum(score >= least for score in scores)
    note = f"{kept} box{'es' * (kept != 1)} of {len(scores)}"
    browser.until(
        "return document.querySelector('#note-detection')?.innerText.trim() == arguments[0]", note
    )
    assert image_of(browser, "#picture-detection") != first
    assert complaints(browser) == []
    assert browser.outer_requests() == []


@pytest.mark.browser
def test_categories_faces_and_values(browser: Browser, images: Served, tmp_path: Path) -> None:
    opened(browser, images)
    drop(browser, "source", picture(tmp_path / "a.png"))
    open_tab(browser, "category")
    assert "<b>moon</b>" in text_of(browser, "#shares-category")  # shown as text, not as HTML
    (row,) = csv.DictReader(downloads(browser)["categories_category.csv"].decode().splitlines())
    assert row["image"] == "a.png"
    open_tab(browser, "identity")
    assert "0.png" in text_of(browser, "#rows-identity")  # the same picture lies in the gallery
    drop(browser, "other", picture(tmp_path / "b.png", seed=9))
    browser.until(
        "return /similarity -?[0-9.]+: /.test(document.querySelector('#note-identity').innerText)"
    )
    browser.run(SET, "#slider-identity input[type=number]", "-1")
    browser.until("return document.querySelector('#note-identity').innerText.includes('same')")
    open_tab(browser, "brightness")
    assert "mean" in text_of(browser, "#values-brightness")
    assert complaints(browser) == []
    assert browser.outer_requests() == []


@pytest.mark.browser
def test_an_example_is_predicted_by_a_click(browser: Browser, images: Served) -> None:
    opened(browser, images)
    browser.until("return document.querySelectorAll('#examples img').length == 3")
    browser.driver.find_elements("css selector", "#examples button.thumbnail-item")[1].click()
    browser.until("return document.querySelector('#message')?.innerText.startsWith('1.png')")
    assert image_of(browser, "#picture-brightness")


@pytest.mark.browser
def test_what_is_no_image_is_said_and_the_page_goes_on(
    browser: Browser, images: Served, tmp_path: Path
) -> None:
    opened(browser, images)
    (tmp_path / "notes.png").write_text("no image")
    assert drop(browser, "source", tmp_path / "notes.png").startswith("notes.png: expected ")
    assert browser.run("return document.querySelector('#picture-brightness img')") is None
    browser.driver.find_element("css selector", "#source [aria-label='Clear']").click()
    browser.until("return !document.querySelector('#message')?.innerText")
    assert drop(browser, "source", picture(tmp_path / "a.png")) == "a.png: 96 x 64 pixels"


@pytest.mark.browser
def test_a_volume(browser: Browser, volumes: Served, tmp_path: Path) -> None:
    opened(browser, volumes)
    file = tmp_path / "scan.nii.gz"
    nifti(file, 9, 12, 10)
    assert drop(browser, "source", file).startswith("scan.nii.gz: 9 x 12 x 10 voxels")
    first = image_of(browser, "#picture-segmentation")
    browser.run(SET, "#slice-segmentation input[type=number]", "2")
    script = "return document.querySelector('#picture-segmentation img').src != arguments[0]"
    browser.until(script, first)
    second = image_of(browser, "#picture-segmentation")
    labels = browser.driver.find_elements("css selector", "#axis-segmentation label")
    assert [label.text for label in labels] == ["axial", "coronal", "sagittal"]
    labels[2].click()
    browser.until(script, second)
    wait_for(browser, "#slice-segmentation", "of 10, sagittal")
    (tmp_path / "out").mkdir()
    written = tmp_path / "out" / "scan.nii.gz"
    written.write_bytes(downloads(browser)["scan.nii.gz"])
    (expected,) = Predictor(volume_segmenter())(file)
    mask = nibabel.load(written)
    np.testing.assert_array_equal(
        np.asarray(mask.dataobj).transpose(2, 1, 0), expected["segmentation"]["mask"]
    )
    np.testing.assert_allclose(mask.affine, read_volume(file).affine)
    assert complaints(browser) == []
    assert browser.outer_requests() == []


@pytest.mark.browser
def test_the_server_serves_nothing_else_and_asks_nobody(images: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    api = f"{images.address}gradio_api"
    assert status(images.address) == 200
    for path in (secret, PROJECT / "README.md", "/etc/passwd"):
        assert status(f"{api}/file={path}") in (403, 404)
    assert status(f"{api}/file=http://example.com/a.png") >= 400
    assert status(images.address, Host="evil.example") == 403
    assert status(images.address, Origin="http://evil.example") == 403
    assert status(images.address, Origin="null") == 403
    assert status(images.address, Origin=images.address.rstrip("/")) == 200
    assert "example.com" in answer_to(images.address, "http://example.com/a.png")
    for path in (str(secret), "/etc/passwd", str(PROJECT / "docs" / "images" / "way.svg")):
        assert "was not uploaded by a user" in answer_to(images.address, path)
    for path in ("docs", "monitoring", "gradio_api/runs"):
        assert status(images.address + path) in (403, 404, 405), path


def answer_to(address: str, path: str) -> str:
    """What the server answers to an upload that is none, but a path of its own choice."""
    with urllib.request.urlopen(f"{address}config") as answer:
        config = json.load(answer)
    parts = config["components"]
    source = next(part["id"] for part in parts if part["props"].get("elem_id") == "source")
    wanted = [source, "change"]
    number = next(d["id"] for d in config["dependencies"] if wanted in d["targets"])
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [[file], None, None], "fn_index": number, "session_hash": "other"}
    posted = urllib.request.Request(
        f"{address}gradio_api/queue/join",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(posted).close()
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=other") as events:
        return next(line.decode() for line in events if b"process_completed" in line)


def free_command(*words: str) -> subprocess.CompletedProcess[str]:
    command: list[Any] = [sys.executable, "-m", "densekit", "demo", *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)


@pytest.mark.browser
def test_a_port_in_use_is_named(images: Served, tmp_path: Path) -> None:
    port = images.address.rstrip("/").rpartition(":")[2]
    done = free_command(f"checkpoint={stored(tmp_path / 'm.ckpt')}", f"port={port}")
    assert done.returncode == 2
    assert f"port: expected a free port, got {port}" in done.stderr
