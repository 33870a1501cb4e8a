"""The tool that draws predictions side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import predictions  # type: ignore[import-not-found] # noqa: E402

IMAGE = np.full((480, 500, 3), 90, np.uint8)
BOX = np.array([[50.0, 60, 200, 300]])
RESULTS = {
    "boxes": {"boxes": BOX, "labels": np.array([0]), "scores": np.array([0.9])},
    "masks": {"mask": np.eye(480, 500, dtype=np.uint8)},
}


def test_a_panel_per_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compose(*words: str) -> Any:
        asked.append(list(words))
        head = {"names": ["cat"], "num_classes": 1}
        model = SimpleNamespace(info={"heads": {"head": head}}, kind=words[0])
        return {"data": SimpleNamespace(test=[None, {"image": IMAGE}])}, model, {}

    def predictor(model: Any) -> Any:
        return lambda image: [{"head": RESULTS[model.kind]}]

    monkeypatch.setattr(predictions, "compose", compose)
    monkeypatch.setattr(predictions, "Predictor", predictor)
    panels = ["a caption=1 boxes checkpoint=RUN", "another='1' masks 'paths.data=a b'"]
    predictions.main([str(tmp_path / "p.png"), *panels])
    assert asked == [["boxes", "checkpoint=RUN"], ["masks", "paths.data=a b"]]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 2 * 480
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert {(255, 82, 82), (64, 196, 255)} <= {colour for _, colour in colours}  # box, mask
