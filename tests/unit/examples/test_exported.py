"""The scripts that run exported files without densekit prepare and draw a photograph rightly."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densekit.ops.resize import resize_batch

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "exported"
INFO: dict[str, Any] = {"mean": [0.0] * 3, "full_scale": 255.0, "heads": {"head": {"names": ["x"]}}}
FREE = {"sides": [64, 64], "batch": 1, "dynamic": ["size"]}


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("picture")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 71, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    "rule",
    [
        None,
        {"min_size": 37},
        {"min_size": 90, "max_size": 100, "rounded": True},
        {"min_size": 64, "crop": 48},
    ],
)
def test_it_resizes_like_the_model(picture: ModuleType, photo: Path, rule: Any) -> None:
    image, size = picture.prepared(photo, {**INFO, "resize": rule}, FREE)
    pixels = torch.from_numpy(np.asarray(Image.open(photo)).copy()).permute(2, 0, 1)[None]
    batch: Any = {"image": pixels, "size": torch.tensor([[50, 71]])}
    expected = batch if rule is None else resize_batch(batch, rule)
    assert size.tolist() == expected["size"].tolist()
    np.testing.assert_allclose(image, expected["image"].float().numpy(), atol=0.05)


def test_smoothed_resizing_is_that_of_the_model_but_for_rounding(
    picture: ModuleType, photo: Path
) -> None:
    rule: Any = {"min_size": 20, "antialias": True}
    image, _ = picture.prepared(photo, {**INFO, "resize": rule}, FREE)
    pixels = torch.from_numpy(np.asarray(Image.open(photo)).copy()).permute(2, 0, 1)[None]
    batch: Any = {"image": pixels, "size": torch.tensor([[50, 71]])}
    np.testing.assert_allclose(image, resize_batch(batch, rule)["image"].numpy(), atol=1.01)


def test_what_does_not_fit_is_reduced(picture: ModuleType, photo: Path) -> None:
    shapes = {"sides": [32, 64], "batch": 2, "dynamic": []}
    image, size = picture.prepared(photo, INFO, shapes)
    assert image.shape == (2, 3, 32, 64)
    assert size.tolist() == [[32, 45]] * 2
    assert not image[:, :, :, 45:].any()
    assert size.dtype == np.int64
    assert image.dtype == np.float32


def test_it_draws(picture: ModuleType, photo: Path, tmp_path: Path) -> None:
    outputs = {
        "head/boxes": np.array([[[10, 10, 60, 40], [0, 0, 9, 9]]], np.float32),
        "head/scores": np.array([[0.9, 0.2]], np.float32),
        "head/labels": np.zeros((1, 2), np.int64),
        "head/valid": np.ones((1, 2), bool),
        "mask/logits": np.zeros((1, 1, 128, 160), np.float32),
        "kind/probabilities": np.array([[0.25, 0.75]], np.float32),
    }
    result = tmp_path / "drawn.png"
    lines = picture.draw(photo, outputs, np.array([[100, 142]]), INFO, result)
    assert lines[0] == "x 0.90 [5.0, 5.0, 30.0, 20.0]"
    assert lines[1:] == ["mask: a mask of 1 classes", "kind: 1 0.75"]
    assert Image.open(result).size == (71, 50)


def test_a_program_runs_on_a_photograph(
    picture: ModuleType, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Halves(torch.nn.Module):
        def forward(self, image: torch.Tensor, size: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"head/probabilities": image.mean((2, 3))[:, :1] * 0 + size[:, :1] / 100}

    inputs = (torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    shapes = {"sides": [64, 64], "batch": 1, "dynamic": []}
    texts = {"info.json": json.dumps(INFO), "shapes.json": json.dumps(shapes)}
    program = torch.export.export(Halves(), inputs)
    torch.export.save(program, tmp_path / "model.pt2", extra_files=texts)
    script = importlib.import_module("torch_file")
    script.main(str(tmp_path / "model.pt2"), str(photo), str(tmp_path / "drawn.png"))
    assert capsys.readouterr().out == "head: x 0.45\n"
