"""Pictures of categories: series as lines, volumes by a slice, titles, confusion matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densekit.training.category_pictures import _said
from densekit.training.confusion import draw_confusion
from densekit.training.run_pictures import draw_batch, draw_result
from densekit.visualization.colours import class_colour
from densekit.visualization.series import as_picture, draw_series

NAMES = ["cat", "dog", "cow"]


@pytest.mark.parametrize("shape", [(50, 1), (50, 4), (20, 30, 3), (8, 20, 30, 1)])
def test_images_of_any_dimension_are_drawn(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    picture = as_picture(image)
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
    assert picture.std() > 0


def test_each_channel_of_a_series_has_its_colour_and_its_band() -> None:
    picture = draw_series(np.stack([np.arange(40), np.zeros(40)], axis=1))
    assert picture.shape == (240, 480, 3)
    rows = [np.flatnonzero((picture == class_colour(c)).all(2).any(1)) for c in (0, 1)]
    assert rows[0].max() < 120 <= rows[1].min()
    assert rows[0].max() - rows[0].min() > 80  # over the height of the band
    assert rows[1].max() - rows[1].min() < 4  # a constant


def test_titles_say_what_a_category_is() -> None:
    assert _said(np.asarray(1), NAMES) == "dog"
    assert _said(np.asarray(3), NAMES) == "3"
    assert _said(np.asarray([1, 0, 1]), NAMES) == "cat, cow"
    assert _said(np.asarray([0, 0, 0]), NAMES) == "nothing"
    assert _said(np.asarray([0.25, 0.75, 0]), NAMES) == "dog 0.75, cat 0.25"


@pytest.mark.parametrize("sides", [(30,), (20, 30), (8, 20, 30)])
def test_loader_and_predictions_are_drawn(sides: tuple[int, ...]) -> None:
    batch: Any = {
        "image": torch.randn(2, 1, *sides),
        "size": torch.tensor([list(sides), [side // 2 for side in sides]]),
        "category": torch.tensor([2, 0]),
        "truth": [{"category": np.asarray(2)}, {"category": np.asarray(0)}],
        "meta": [{}, {}],
    }
    assert len(draw_batch(batch, NAMES, 8, {})) == 2
    result = {"x": {"probabilities": np.zeros(3), "labels": np.array([1]), "scores": np.ones(1)}}
    (picture,) = draw_result(batch, 1, result, NAMES, 0.5, {})
    assert picture.std() > 0


@pytest.mark.parametrize("classes", [3, 30, 50])
def test_confusion_matrices(classes: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    counts[1] = 0  # a class without an image
    draw_confusion(counts, [f"class {n}" for n in range(classes)], tmp_path / "new" / "c.png")
    with Image.open(tmp_path / "new" / "c.png") as picture:
        assert min(picture.size) > 300
