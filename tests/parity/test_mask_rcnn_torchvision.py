"""Same weights, pictures and draws: torchvision's Mask R-CNN and ours, masks, losses, gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import paste_masks_in_image

from densekit.interop import from_torchvision
from tests.parity.torchvision_detector import build, calibrate, pictures
from tests.parity.torchvision_training import (
    as_batch,
    densekit_pass,
    distances,
    targets,
    torchvision_pass,
)

pytestmark = pytest.mark.parity

CLASSES = 7
KEYS = ("boxes", "scores", "labels", "masks")
FEW = {
    "rpn_post_nms_top_n_train": 8,
    "rpn_post_nms_top_n_test": 30,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 16,
    "box_detections_per_img": 8,
}


def small(name: str, longest: int, **settings: int) -> tuple[FasterRCNN, list[Tensor]]:
    """A Mask R-CNN in float64, whose levels are chosen for boxes of this size, and two pictures.

    They are not resized: torchvision takes other pixels than ours of masks that are.
    """
    shortest = longest * 2 // 3
    sides = {"min_size": shortest, "max_size": longest}
    model = build(name, CLASSES, masks=True, **(sides | FEW | settings))
    for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
        pool.canonical_scale = 40
    whole = pictures(1, longest=longest)[0]
    images = [whole[:, :shortest], whole[:, :shortest, -shortest - 8 :]]
    calibrate(model, images)
    return model.double(), [image.double() for image in images]


@pytest.mark.parametrize(
    ("name", "longest", "most"),
    [
        ("resnet18", 96, 8),
        ("resnet50_v2", 96, 8),
        pytest.param("resnet50", 480, 100, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_masks_are_equal(name: str, longest: int, most: int) -> None:
    model, images = small(
        name, longest, box_detections_per_img=most, rpn_post_nms_top_n_test=3 * most
    )
    batch, _ = model.transform(images)
    sizes = batch.image_sizes
    features = model.backbone(batch.tensors)
    theirs, _ = model.roi_heads(features, model.rpn(batch, features)[0], sizes)
    converted = from_torchvision(model)
    ours = converted.predict(converted.resized(as_batch(images, targets(images, [0, 0], CLASSES))))[
        "detection"
    ]
    assert len(theirs[0]["boxes"]) > 4
    for i, expected in enumerate(theirs):
        found = {key: value[i][ours["valid"][i]] for key, value in ours.items() if key in KEYS}
        masks = found["masks"][:, None]
        torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=0, atol=1e-6)
        assert torch.equal(found["labels"], expected["labels"] - 1)
        torch.testing.assert_close(masks, expected["masks"], rtol=0, atol=1e-8)
        assert 0.2 < (masks > 0.5).double().mean() < 0.8
        pasted = [
            paste_masks_in_image(of, expected["boxes"], sizes[i])[:, 0] > 0.5
            for of in (masks, expected["masks"])
        ]
        inter, union = pasted[0] & pasted[1], pasted[0] | pasted[1]
        assert (inter.sum((1, 2)) >= 0.999 * union.sum((1, 2))).all()


@pytest.mark.parametrize(
    ("name", "counts", "backend"),
    [
        ("resnet18", (6, 0), "ragged"),
        ("resnet18", (6, 0), "static"),
        # the norms of the mask branch are trained on the positive regions alone
        ("resnet50_v2", (6, 3), "static"),
        pytest.param("resnet50_v2", (6, 3), "ragged", marks=pytest.mark.slow),
        pytest.param("resnet50", (4, 7), "ragged", marks=pytest.mark.slow),
    ],
)
def test_losses_and_gradients_are_equal(
    name: str, counts: tuple[int, int], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = small(name, 96)
    model.train()
    annotations = targets(images, list(counts), CLASSES)
    theirs = torchvision_pass(model, images, copy.deepcopy(annotations))
    monkeypatch.setattr("densekit.heads.faster_rcnn.mask_rcnn.default_backend", lambda _: backend)
    ours = densekit_pass(model, images, annotations, theirs.draws)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-9)
    assert ours.losses["detection/mask"] > 0.1
    assert ours.gradients.keys() == theirs.gradients.keys()
    assert max(distances(ours.gradients, theirs.gradients).values()) < 1e-9
