"""The tool that draws predictions side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densekit import Predictor
from tests.unit.app.demo.models import of_images
from tests.unit.inference.segmenter import tiny_segmenter

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import predictions  # type: ignore[import-not-found] # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def test_a_panel_per_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compose(*words: str) -> Any:
        asked.append(list(words))
        sample = {"image": IMAGE, "meta": {"path": "scene 1"}}
        return {"data": SimpleNamespace(test=[None, sample])}, None, {}

    models = {"one.ckpt": of_images(), "two.ckpt": tiny_segmenter()}
    for name in models:
        (tmp_path / name).touch()
    monkeypatch.setattr(predictions, "compose", compose)
    monkeypatch.setattr(predictions, "Predictor", lambda file: Predictor(models[file.name]))
    monkeypatch.chdir(tmp_path)
    panels = ["a caption=1 checkpoint=one.ckpt", "another='1' checkpoint=two.ckpt 'paths.data=a b'"]
    predictions.main([str(tmp_path / "p.png"), *panels])
    assert asked == [[], ["paths.data=a b"]]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 2 * 480
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert {(64, 196, 255), (105, 240, 94)} <= {colour for _, colour in colours}  # of the mask
