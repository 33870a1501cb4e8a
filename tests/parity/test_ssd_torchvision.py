"""Same features, same weights: torchvision's SSD head and ours."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD as TorchvisionSSD

from densekit.heads import SSD
from densekit.heads.one_stage import MultiBoxDetectionRule
from densekit.types import FeatureSpec
from tests.parity.torchvision_training import as_batch, distances, targets

pytestmark = pytest.mark.parity

SIDES, STRIDES, WIDTHS = (160, 192), (8, 16, 32), (24, 32, 16)
CLASSES = 4
RATIOS = [[2], [2, 3], [2]]
SIZES = (20, 50, 90, 150)
"""In pixels. Torchvision's are shares of the sides, so that its boxes of other images than squares
are stretched; here its scales are pixels, and the sides that multiply them 1."""


OTHER = {
    **{"score_thresh": 0.2, "nms_thresh": 0.3},
    **{"detections_per_img": 20, "topk_candidates": 30},
}


class Stored(nn.Module):
    """A backbone whose features are given."""

    out_channels = WIDTHS

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels = nn.ParameterList(
            torch.randn(2, width, SIDES[0] // stride, SIDES[1] // stride)
            for width, stride in zip(WIDTHS, STRIDES, strict=True)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(k), level) for k, level in enumerate(self.levels))


class Pixels(DefaultBoxGenerator):
    """Default boxes whose scales are in pixels."""

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        grids = [level.shape[-2:] for level in feature_maps]
        boxes = self._grid_default_boxes(grids, [1, 1], feature_maps[0].dtype)
        centre, side = boxes[:, :2], boxes[:, 2:]
        return [torch.cat([centre - 0.5 * side, centre + 0.5 * side], 1)] * 2


def torchvision_ssd(**settings: Any) -> Any:
    made: Any = DefaultBoxGenerator(RATIOS, scales=SIZES, steps=list(STRIDES), clip=False)
    made.__class__ = Pixels
    model = TorchvisionSSD(Stored(), made, SIDES[::-1], CLASSES + 1, **settings)
    for name, parameter in model.head.named_parameters():
        nn.init.normal_(parameter, std=0.1 if "classification" in name else 0.05)
    return model.double()


def of_ours(name: str, value: Tensor) -> Tensor:
    """A parameter or gradient in our order: background is the last output, there the first."""
    if "classification" not in name:
        return value
    return value.unflatten(0, (-1, CLASSES + 1)).roll(-1, 1).flatten(0, 1)


def pair(detection: MultiBoxDetectionRule, **settings: Any) -> tuple[Any, SSD]:
    theirs = torchvision_ssd(**settings)
    specs = {
        f"p{number}": FeatureSpec(width, (stride, stride))
        for number, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True), 3)
    }
    ours = SSD(
        specs,
        CLASSES,
        levels=tuple(specs),
        extra_channels=(),
        sizes=SIZES,
        aspect_ratios=RATIOS,
        detection=detection,
    )
    ours.double().load_state_dict(renamed(theirs, dict(theirs.head.named_parameters())))
    return theirs, ours


def renamed(theirs: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {"classification_head.module_list": "logits", "regression_head.module_list": "deltas"}
    found = {}
    for name, value in values.items():
        head, list_name, rest = name.split(".", 2)
        found[f"{parts[f'{head}.{list_name}']}.{rest}"] = of_ours(name, value.detach())
    return found


def our_features(theirs: Any) -> dict[str, Tensor]:
    levels = [level.detach().clone().requires_grad_() for level in theirs.backbone.levels]
    return {f"p{number}": level for number, level in enumerate(levels, 3)}


def images() -> list[Tensor]:
    return list(torch.rand(2, 3, *SIDES).double())


@pytest.mark.parametrize(
    ("rule", "settings"),
    [(MultiBoxDetectionRule(), {}), (MultiBoxDetectionRule(0.2, 0.3, 20, 30), OTHER)],
)
@pytest.mark.parametrize("backend", ["static", "ragged"])
def test_detections_are_equal(
    rule: MultiBoxDetectionRule, settings: dict[str, Any], backend: Any
) -> None:
    theirs, ours = pair(rule, **settings)
    ours.backend = backend
    with torch.no_grad():
        expected = theirs.eval()(images())
        found = ours.predict(our_features(theirs), torch.tensor([SIDES] * 2))
    for image, rows in enumerate(expected):
        valid = found["valid"][image]
        assert valid.sum() == len(rows["boxes"]) >= 20
        for key, value in rows.items():
            ours_of_key = found[key][image][valid] + (key == "labels")
            torch.testing.assert_close(ours_of_key, value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [(4, 7), (0, 3), (0, 0)])
def test_losses_and_gradients_are_equal(counts: tuple[int, int]) -> None:
    theirs, ours = pair(MultiBoxDetectionRule())
    pictures, features = images(), our_features(theirs)
    annotations = targets(pictures, list(counts), CLASSES)
    expected = theirs.train()(pictures, annotations)
    sum(expected.values()).backward()

    found = ours.loss(features, as_batch(pictures, annotations))
    sum(found.values()).backward()

    for name, own in {"classification": "cls", "bbox_regression": "box"}.items():
        assert found[own].item() == pytest.approx(expected[name].item(), rel=1e-6)
    if any(counts):
        grads = {name: p.grad for name, p in theirs.head.named_parameters()}
        reference = renamed(theirs, grads)
        errors = distances({n: p.grad for n, p in ours.named_parameters()}, reference)
        levels = {f"p{k}": level.grad for k, level in enumerate(theirs.backbone.levels, 3)}
        errors |= distances({name: level.grad for name, level in features.items()}, levels)
        assert max(errors.values()) < 1e-4, errors
