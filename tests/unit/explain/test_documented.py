"""The Python of docs/explain.md runs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from densekit import DenseModel
from densekit.artifact import save_artifact
from densekit.backbones import ResNet
from densekit.explain import Explanation
from densekit.heads import Classification

PAGE = Path(__file__).parents[3] / "docs" / "explain.md"


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _checkpoint()
    Image.new("RGB", (16, 16), (40, 80, 120)).save("image.png")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert isinstance(names["found"], Explanation)
    assert names["Age"]().score({"age": 3}) == 3


def _checkpoint() -> None:
    info = {"heads": {"category": {"names": ["cat", "dog"], "ids": [0, 1]}}}
    head = partial(Classification, num_classes=2)
    cfg = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 4},
        "heads": {
            "category": {"_target_": "densekit.heads.Classification", "num_classes": 2},
        },
    }
    model = DenseModel(ResNet(depth=18, width=4), {"category": head}, info=info)
    save_artifact(Path("model.ckpt"), model, yaml.safe_dump(cfg))
