"""The Python that README and guide show runs, with the names that it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from densekit.types import Batch

PROJECT = Path(__file__).resolve().parents[2]


def _blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (PROJECT / page).read_text(), re.M | re.S)


@pytest.fixture
def batch() -> Batch:
    valid = torch.zeros(2, 8, dtype=torch.bool)
    valid[:, :2] = True
    return Batch(
        image=torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8),
        size=torch.tensor([[64, 96], [60, 80]]),
        sample_valid=torch.tensor([True, True]),
        key=torch.tensor([1, 2]),
        boxes=torch.tensor([8.0, 8.0, 40.0, 40.0]).expand(2, 8, 4) * valid[..., None],
        boxes_valid=valid,
        labels=torch.zeros(2, 8, dtype=torch.int64),
        crowd=torch.zeros(2, 8, dtype=torch.bool),
        meta=[{"path": "", "image_id": i, "original_size": (64, 96)} for i in range(2)],
    )


def test_readme_and_concepts(batch: Batch) -> None:
    names: dict[str, Any] = {"batch": batch}
    exec(_blocks("README.md")[0], names)
    assert {"detection/rpn_cls", "detection/cls"} <= set(names["losses"])
    assert names["predictions"]["detection"]["boxes"].shape[::2] == (2, 4)

    specs, usage = _blocks("docs/concepts.md")
    exec(specs, names)
    names["model"].eval()
    exec(usage, names)
    assert len(names["results"]) == 2


def test_detection_presets() -> None:
    names: dict[str, Any] = {}
    presets, detectron2, _ = _blocks("docs/detection.md")
    exec(presets, names)
    exec(detectron2, names)
    assert names["model"].flip_channels


def test_names_of_the_reference() -> None:
    exec(_blocks("docs/api/index.md")[0], {})
