"""The example server answers with boxes, masks and classes, and refuses what is no image."""

from __future__ import annotations

import importlib.util
import io
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from densekit import DenseModel, Predictor
from densekit.backbones import ResNet
from densekit.heads import FCN, Classification, FasterRCNN
from densekit.necks import FPN

FILE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "server.py"
NAMES = ["road", "car"]


@pytest.fixture(scope="module")
def server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_server", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def client(server: ModuleType) -> TestClient:
    torch.manual_seed(0)
    heads = {
        "boxes": partial(FasterRCNN, num_classes=2),
        "masks": partial(FCN, num_classes=2, level="c2", aux_level=None),
        "kind": partial(Classification, num_classes=2),
    }
    info = {"heads": {name: {"names": NAMES, "num_classes": 2} for name in heads}}
    model = DenseModel(ResNet(18, width=8), heads, partial(FPN, out_channels=16), info)
    return TestClient(server.create_app(Predictor(model)))


def picture(mode: str = "RGB", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def test_it_says_what_it_knows(client: TestClient) -> None:
    assert client.get("/").json() == {"boxes": NAMES, "masks": NAMES, "kind": NAMES}


def test_boxes_and_classes_are_json(client: TestClient) -> None:
    first, *_ = client.post("/boxes", content=picture()).json()
    assert set(first) == {"name", "label", "score", "box"}
    (best,) = client.post("/kind", content=picture("L", "JPEG")).json()
    assert best["name"] in NAMES
    assert set(best) == {"name", "label", "score"}


def test_a_box_is_one_object(server: ModuleType) -> None:
    result = {
        "boxes": np.array([[1, 2, 3, 4]], np.float32),
        "scores": np.array([0.5], np.float32),
        "labels": np.array([1]),
        "names": ["car"],
    }
    expected = {"name": "car", "label": 1, "score": 0.5, "box": [1, 2, 3, 4]}
    assert server.as_plain(result) == [expected]


def test_a_mask_is_a_png(client: TestClient) -> None:
    answer = client.post("/masks", content=picture("P"))
    assert answer.headers["content-type"] == "image/png"
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert mask.shape == (48, 64)
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize(
    ("head", "content", "code", "message"),
    [
        ("mask", picture(), 404, "head: expected one of boxes, masks, kind, got mask"),
        ("masks", b"", 400, "body: expected an image file, got nothing"),
        ("masks", b"GIF89a not really", 400, "body: expected an image file, got 17 bytes of"),
        ("masks", picture()[:-60], 400, "body: expected an image file"),
        ("masks", picture() + bytes(2000), 413, "body: expected an image of at most"),
    ],
)
def test_bad_input_is_refused(
    client: TestClient,
    server: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    content: bytes,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(server, "MAX_BYTES", len(picture()) + 1000)
    answer = client.post(f"/{head}", content=content)
    assert answer.status_code == code
    assert message in answer.json()["detail"]


def test_too_many_pixels_are_refused(
    client: TestClient, server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_PIXELS", 48 * 64 - 1)
    answer = client.post("/masks", content=picture())
    assert answer.status_code == 413
    assert "64 x 48" in answer.json()["detail"]
