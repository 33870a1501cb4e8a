"""A detector small enough for unit tests, and batches for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densekit import DenseModel
from densekit.backbones.base import Backbone
from densekit.heads.faster_rcnn import RPN, BoxHead, DetectionRule, FasterRCNN, MaskHead, MaskRCNN
from densekit.necks import FPN
from densekit.types import Batch, Features, FeatureSpec

CHANNELS = 8
CLASSES = 3
PYRAMID = {f"p{n}": FeatureSpec(CHANNELS, (2**n, 2**n)) for n in range(2, 7)}
SPECS = {"c0": FeatureSpec(3, (1, 1)), **PYRAMID}

SMALL_HEAD: dict[str, Any] = {
    "num_classes": CLASSES,
    "box_head": partial(BoxHead, hidden=(16,)),
    "rpn": RPN,
}


class TinyBackbone(Backbone):
    """One convolution a stage."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        widths = [channels, 4, 6, 8, 10, 12]
        self.features = {f"c{n}": FeatureSpec(width, (2**n,) * 2) for n, width in enumerate(widths)}
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in zip(widths, widths[1:], strict=False)
        )

    def trim(self, levels: Iterable[str]) -> None:
        self.stages = self.stages[: max(int(level[1:]) for level in levels)]

    def forward(self, x: Tensor) -> Features:
        levels = {"c0": x}
        for number, stage in enumerate(self.stages, 1):
            x = stage(x).relu()
            levels[f"c{number}"] = x
        return levels


def tiny_detector(
    info: dict[str, Any] | None = None, kind: type[FasterRCNN] = FasterRCNN, **head: Any
) -> DenseModel:
    heads = {"detection": partial(kind, **(SMALL_HEAD | head))}
    names = {"detection": {"names": ["a", "b", "c"], "ids": [1, 2, 3], "num_classes": CLASSES}}
    info = {"heads": names, **(info or {})}
    return DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=CHANNELS), info)


def tiny_mask_detector(
    info: dict[str, Any] | None = None, score_threshold: float = 0.05
) -> DenseModel:
    return tiny_detector(
        info,
        MaskRCNN,
        mask_head=partial(MaskHead, convs=(4,)),
        detection=DetectionRule(score_threshold=score_threshold, candidates=100, max_detections=20),
    )


@torch.no_grad()
def spread(module: nn.Module, factor: float = 30) -> None:
    """Scales the predictors of fresh weights, so that scores differ and boxes move."""
    for name, parameter in module.named_parameters():
        if name.endswith(("logits.weight", "deltas.weight", "objectness.weight")):
            parameter *= factor


def random_features(batch: int = 2, sides: tuple[int, int] = (64, 96), **options: Any) -> Features:
    """Levels of images of these sides; only the shape of c0 counts."""
    levels = {
        name: torch.randn(
            batch, spec.channels, *(-(-side // spec.stride[0]) for side in sides), **options
        )
        for name, spec in PYRAMID.items()
    }
    return {"c0": torch.zeros(batch, 3, *sides), **levels}


def targets(
    counts: Sequence[int],
    sides: tuple[int, int] = (64, 96),
    slots: int | None = None,
    seed: int = 0,
) -> Batch:
    """Random objects, `counts` of them an image; the images themselves are noise."""
    generator = torch.Generator().manual_seed(seed)
    images, slots = len(counts), max(1, *counts) if slots is None else slots
    limit = torch.tensor([sides[1] - 8, sides[0] - 8])
    boxes = torch.zeros(images, slots, 4)
    labels = torch.zeros(images, slots, dtype=torch.int64)
    for image, count in enumerate(counts):
        corner = torch.rand(count, 2, generator=generator) * limit
        side = 4 + torch.rand(count, 2, generator=generator) * 40
        far = torch.minimum(corner + side, limit + 8.0)
        boxes[image, :count] = torch.cat([corner, far], 1)
        labels[image, :count] = torch.randint(0, CLASSES, (count,), generator=generator)
    return {
        "image": torch.randint(0, 256, (images, 3, *sides), generator=generator).byte(),
        "size": torch.tensor([sides] * images),
        "sample_valid": torch.ones(images, dtype=torch.bool),
        "key": torch.arange(images) + 11,
        "boxes": boxes,
        "boxes_valid": torch.arange(slots) < torch.tensor(counts)[:, None],
        "labels": labels,
        "crowd": torch.zeros(images, slots, dtype=torch.bool),
    }
