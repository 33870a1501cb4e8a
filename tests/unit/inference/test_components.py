"""Clean-up by connected components: hand-made masks, and how it is configured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densekit import DenseModel, Predictor
from densekit.inference import CleanUp, TestTimeAugmentation
from densekit.inference.components import drop_small, keep_largest
from densekit.inference.inferer import Inferer
from densekit.inference.slices import Slices
from densekit.types import Batch, Features, Predictions
from tests.unit.inference.segmenter import tiny_segmenter

MASK = np.array(
    [
        [1, 1, 0, 2, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 255],
        [1, 0, 2, 2, 0],
    ],
    np.uint8,
)


class Says(Inferer):
    """Predicts given masks: logits of (*S) classes, or of channels (K, *S) as they are."""

    def __init__(self, mask: Any, classes: int = 0, key: str = "logits") -> None:
        values = torch.as_tensor(mask).long()
        if classes:
            values = torch.nn.functional.one_hot(values, classes).movedim(-1, 0)
        self.predictions = {key: values[None].float() - 0.5}

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        return {"segmentation": self.predictions}


def test_diagonal_neighbours_touch() -> None:
    kept = keep_largest(MASK, [1])
    assert kept.tolist() == [[1, 1, 0, 2, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 255], [0, 0, 2, 2, 0]]
    assert MASK[3, 0] == 1  # the given mask is left alone


def test_small_components_of_each_class_alone() -> None:
    kept = drop_small(MASK, 2, [1, 2])
    assert kept.tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 255], [0, 0, 2, 2, 0]]
    assert drop_small(MASK, 4, [2]).tolist() == np.where(MASK == 2, 0, MASK).tolist()
    np.testing.assert_array_equal(drop_small(MASK, 1, [1, 2]), MASK)


def test_classes_that_are_absent() -> None:
    empty = np.zeros((2, 3, 4), np.uint8)
    np.testing.assert_array_equal(drop_small(keep_largest(empty, [1]), 9, [1, 2]), empty)


def predicted(model: DenseModel, cleanup: CleanUp, shape: tuple[int, ...] = (4, 5)) -> Any:
    image = torch.zeros(1, *shape, dtype=torch.uint8)
    return Predictor(model, inferer=cleanup)([image])[0]["segmentation"]


def test_by_name_through_the_predictor() -> None:
    mask = np.where(MASK == 255, 0, MASK)
    found = predicted(tiny_segmenter(), CleanUp(Says(mask, 3), largest=["organ"], min_size=2))
    expected = [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 2, 2, 0]]
    assert found["mask"].tolist() == expected
    assert found["names"] == ["background", "organ", "tumour"]


def test_binary_and_multilabel() -> None:
    said = Says((MASK == 1)[None])
    found = predicted(tiny_segmenter(classes=1), CleanUp(said, largest=["tumour"]))
    assert found["mask"].sum() == 3
    said = Says(np.stack([MASK == 1, MASK == 1, MASK == 2]), key="multilabel_logits")
    found = predicted(tiny_segmenter(multilabel=True), CleanUp(said, largest=["organ"]))
    assert found["mask"].sum((1, 2)).tolist() == [4, 3, 3]


def test_refuses() -> None:
    cleanup = CleanUp(Says(np.zeros((4, 5)), 3), largest=["organs"])
    with pytest.raises(ValueError, match="CleanUp.largest: .* got 'organs'; did you mean 'organ'"):
        predicted(tiny_segmenter(), cleanup)
    with pytest.raises(TypeError, match="expected a list of class names, got 'organ'"):
        CleanUp(largest="organ")
    model = tiny_segmenter()
    model.info["heads"]["segmentation"]["background"] = False
    with pytest.raises(
        ValueError, match="got heads.segmentation with 'background' as its first class"
    ):
        predicted(model, CleanUp(Says(np.zeros((4, 5)), 3), min_size=3))
    model.info["heads"] = {}
    with pytest.raises(
        ValueError, match="expected class names in model.info for heads.segmentation"
    ):
        predicted(model, CleanUp(Says(np.zeros((4, 5)), 3), min_size=3))


def test_what_cannot_be_cleaned_is_refused_before_an_image() -> None:
    model = tiny_segmenter()
    for inferer in (
        CleanUp(largest=["organs"]),
        CleanUp(CleanUp(largest=["organs"])),
        TestTimeAugmentation(CleanUp(largest=["organs"])),
        Slices(CleanUp(largest=["organs"])),
    ):
        with pytest.raises(
            ValueError, match=r"CleanUp\.largest: .* got 'organs'; did you mean 'organ'"
        ):
            inferer.check(model)
        with pytest.raises(ValueError, match=r"CleanUp\.largest"):
            Predictor(model, inferer=inferer)
    CleanUp(largest=["organ"]).check(model)
    model.info["heads"]["segmentation"]["background"] = False
    with pytest.raises(ValueError, match="expected a model with a background class"):
        CleanUp(min_size=3).check(model)
