from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densekit.training.batch_pictures import draw_batch, draw_result
from densekit.visualization import instances
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.colours import BACKGROUND, class_colour
from densekit.visualization.panels import grid

NAMES = ["cat", "dog", "cow"]


def make_batch(**changes: Any) -> dict[str, Any]:
    image = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    batch = {
        "image": image,
        "size": torch.tensor([[20, 30]]),
        "boxes": torch.tensor([[[2.0, 2.0, 12.0, 12.0], [0.0, 0.0, 0.0, 0.0]]]),
        "boxes_valid": torch.tensor([[True, False]]),
        "labels": torch.tensor([[1, 0]]),
        "meta": [{"original_size": (40, 60)}],
        "truth": [{"boxes": np.array([[4.0, 4, 24, 24]]), "labels": np.array([1])}],
    }
    return batch | changes


def test_loader_picture_leaves_padding_out_and_draws_valid_boxes_only() -> None:
    (picture,) = draw_batch(make_batch(), ["cat", "dog"], 8, {})
    assert picture.shape[1] / picture.shape[0] == 1.5
    assert picture.any()
    (empty,) = draw_batch(make_batch(boxes_valid=torch.tensor([[False, False]])), [], 8, {})
    assert not empty.any()


def test_loader_picture_fills_the_masks_of_objects() -> None:
    masks = torch.zeros(1, 2, 8, 8, dtype=torch.uint8)
    masks[0, 0, :, 4:] = 1
    masks[0, 1] = 255
    (picture,) = draw_batch(make_batch(object_masks=masks), NAMES, 1, {})
    factor = picture.shape[0] // 20
    left, right = (picture[9 * factor, x * factor] for x in (5, 9))
    assert not left.any()
    assert right.any()


def test_volumes_and_images_without_boxes_are_no_error() -> None:
    volume = make_batch(image=torch.zeros(1, 1, 4, 4, 4))
    assert draw_batch(volume, [], 8, {}) == []
    plain = {key: value for key, value in make_batch().items() if "boxes" not in key}
    assert len(draw_batch(plain, [], 8, {})) == 1
    assert draw_result(make_batch(truth=[{}]), 0, {"x": {"mask": np.zeros(1)}}, [], 0.5, {}) == []


@pytest.mark.parametrize("multilabel", [False, True])
def test_masks_are_drawn_beside_the_truth_with_their_names(multilabel: bool) -> None:
    truth = np.zeros((40, 60), np.uint8)
    truth[:20] = 1
    found = np.ones((40, 60), np.uint8)
    expected, mask = (np.stack([m, m]) if multilabel else m for m in (truth, found))
    batch: Any = make_batch(truth=[{"mask": expected}])
    (row,) = draw_result(batch, 0, {"seg": {"mask": mask}}, [], 0.5, {1: "cell"})
    colour = np.array(class_colour(1)) * 0.4  # over a black image
    tinted = (np.abs(row.astype(float) - colour).max(2) < 2).mean(0)
    left, right = tinted[: len(tinted) // 2].max(), tinted[len(tinted) // 2 :].max()
    assert left > 1.5 * right > 0  # prediction, truth
    below = (row == class_colour(1)).all(2)[-30:]
    assert below.any()  # the legend
    batch["mask"] = torch.zeros(1, 40, 60, dtype=torch.uint8)
    (cell,) = draw_batch(batch, [], 8, {1: "cell"})
    assert cell.shape[1] / 60 * 40 < cell.shape[0]


def test_masks_of_series_are_drawn_over_their_lines() -> None:
    mask = np.zeros((1, 10), np.uint8)
    mask[0, 5:8] = 1
    batch = make_batch(
        image=torch.arange(12.0).view(1, 1, 12),
        size=torch.tensor([[10]]),
        mask=torch.from_numpy(np.pad(mask, ((0, 0), (0, 2)))),
        truth=[{"image_id": 0, "mask": mask[0]}],
    )
    (cell,) = draw_batch(batch, [], 8, {1: "beat"})
    tinted = (cell[120] != BACKGROUND).any(axis=1)
    inside = np.flatnonzero(tinted)
    assert (inside.min(), inside.max()) == pytest.approx(
        (4 + 4.5 * 471 / 9, 4 + 7.5 * 471 / 9), abs=3
    )
    (row,) = draw_result(batch, 0, {"seg": {"mask": mask[0]}}, [], 0.5, {1: "beat"})
    assert row.shape[1] > 2 * 480


def test_of_a_volume_the_fullest_slice_is_drawn() -> None:
    image = torch.zeros(1, 2, 3, 8, 8)
    image[0, 0, 1] = 9  # the slice in the middle is bright
    truth = np.zeros((6, 16, 16), np.uint8)
    truth[2, :8] = truth[3, :8] = 1
    truth[0, :4] = 1
    batch: Any = make_batch(
        image=image,
        size=torch.tensor([[3, 8, 8]]),
        mask=torch.from_numpy(truth[::2, ::2, ::2].copy())[None],
        truth=[{"mask": truth}],
    )
    (row,) = draw_result(batch, 0, {"seg": {"mask": truth}}, [], 0.5, {1: "organ"})
    assert (row == 255).all(2).mean() > 0.2  # the bright slice beneath, where no class is
    (cell,) = draw_batch(batch, [], 8, {1: "organ"})
    assert (cell == 255).all(2).mean() > 0.2


def test_predictions_and_truth_are_drawn_in_the_frame_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Any] = []
    original = draw_boxes

    def record(image: Any, boxes: Any, *rest: Any) -> Any:
        drawn.append(boxes)
        return original(image, boxes, *rest)

    monkeypatch.setattr(instances, "draw_boxes", record)
    # The image was halved; results and truth are in the original frame.
    result = {
        "boxes": np.array([[6.0, 6, 26, 26], [0.0, 0, 9, 9]]),
        "labels": np.array([2, 0]),  # a class without a name
        "scores": np.array([0.9, 0.4]),
    }
    rows = draw_result(make_batch(), 0, {"any": result, "other": {}}, ["cat", "dog"], 0.5, {})
    assert len(rows) == 1
    found, truth = drawn
    np.testing.assert_array_equal(truth, [[2, 2, 12, 12]])
    np.testing.assert_array_equal(found, [[3, 3, 13, 13]])


@pytest.mark.parametrize("size", [(1500, 2000), (30, 20000), (20000, 30), (700, 640)])
def test_pictures_of_large_images_are_bounded(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    box = np.array([[0.0, 0, width / 2, height]])
    mask = np.zeros(size, np.uint8)
    mask[:, : width // 2] = 1
    batch: Any = make_batch(
        image=torch.zeros(1, 3, *size, dtype=torch.uint8),
        size=torch.tensor([size]),
        boxes=torch.tensor(box)[None],
        boxes_valid=torch.tensor([[True]]),
        labels=torch.tensor([[0]]),
        meta=[{"original_size": size}],
        truth=[{"boxes": box, "labels": np.array([0]), "mask": mask}],
    )
    found = {"boxes": box, "labels": np.array([0]), "scores": np.array([0.9])}
    rows = draw_result(batch, 0, {"d": found, "s": {"mask": mask}}, ["cat"], 0.5, {1: "cat"})
    assert len(rows) == 2
    cells = draw_batch(batch, ["cat"], 8, {1: "cat"})
    cells += draw_batch({**batch, "mask": torch.from_numpy(mask)[None]}, [], 8, {1: "cat"})
    for row in [*rows, *cells]:
        assert row.shape[0] <= 800
        assert row.shape[1] <= 2 * 1920 + 100
    if min(size) > 600:  # the mask is still where it was
        left, right = np.split((cells[1][100] == 0).all(1), [cells[1].shape[1] // 2])
        assert left.mean() < 0.1
        assert right.mean() > 0.9
    height, width = grid([*rows, *cells], 1).shape[:2]
    assert width <= 2 * 1920 + 200
    assert height <= 4 * 900


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
