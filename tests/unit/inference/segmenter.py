"""A segmentation network small enough for unit tests, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit import DenseModel
from densekit.backbones.base import Backbone
from densekit.heads.base import Head
from densekit.types import Batch, Features, FeatureSpec, Predictions

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
NAMES = ["background", "organ", "tumour"]


class TinyEncoder(Backbone):
    """Levels c0..c2 by a convolution, batch norm and pooling each; `depth` 0 gives c0 alone."""

    def __init__(self, channels: int = 1, dims: int = 2, depth: int = 2, width: int = 4) -> None:
        super().__init__()
        widths = [channels, *[width] * depth]
        self.features = {f"c{n}": FeatureSpec(w, (2**n,) * dims) for n, w in enumerate(widths)}
        self.dims = dims
        self.stages = nn.ModuleList(
            nn.Sequential(CONVS[dims](a, b, 3, padding=1), BATCH_NORMS[dims](b))
            for a, b in zip(widths, widths[1:], strict=False)
        )

    def trim(self, levels: Iterable[str]) -> None:
        assert set(levels) <= set(self.features)

    def forward(self, x: Tensor) -> Features:
        levels = {"c0": x}
        for number, stage in enumerate(self.stages, 1):
            x = POOLS[self.dims](stage(x).relu(), 2)
            levels[f"c{number}"] = x
        return levels


class TinyUNet(Head):
    """Upsamples from the deepest level and joins every level on the way."""

    target_keys = ("mask",)

    def __init__(
        self, specs: Mapping[str, FeatureSpec], num_classes: int, multilabel: bool = False
    ) -> None:
        super().__init__()
        self.reads = tuple(specs)
        dims, self.multilabel = specs["c0"].spatial_dims, multilabel
        self.size_divisor = max(spec.stride[0] for spec in specs.values())
        conv = CONVS[dims]
        levels = list(specs.values())[::-1]
        self.joins = nn.ModuleList(
            conv(deep.channels + skip.channels, skip.channels, 3, padding=1)
            for deep, skip in zip(levels, levels[1:], strict=False)
        )
        self.last = conv(levels[-1].channels, num_classes, 3, padding=1)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        deepest, *skips = [features[level] for level in self.reads][::-1]
        x = deepest
        for join, skip in zip(self.joins, skips, strict=True):
            x = join(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1)).relu()
        return {"logits": self.last(x)}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"multilabel_logits" if self.multilabel else "logits": outputs["logits"]}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        logits = self(features, batch["size"])["logits"]
        return {"ce": F.cross_entropy(logits, batch["mask"].long(), ignore_index=255)}


def tiny_segmenter(
    dims: int = 2,
    depth: int = 2,
    channels: int = 1,
    classes: int = 3,
    multilabel: bool = False,
    **info: Any,
) -> DenseModel:
    """In eval mode, with running statistics that are not the identity."""
    torch.manual_seed(0)
    names = {
        "names": NAMES[-classes:],
        "ids": list(range(classes)),
        "num_classes": classes,
        "background": classes > 1 and not multilabel,
        "multilabel": multilabel,
    }
    known = {"heads": {"segmentation": names}, "mean": [30.0] * channels, "std": [20.0] * channels}
    head = partial(TinyUNet, num_classes=classes, multilabel=multilabel)
    model = DenseModel(
        TinyEncoder(channels, dims, depth), {"segmentation": head}, info={**known, **info}
    )
    for module in model.modules():
        if isinstance(module, tuple(BATCH_NORMS.values())):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def pixels(*shape: int, seed: int = 0) -> Tensor:
    """uint8 noise with structure at several scales, (C, *S)."""
    generator = torch.Generator().manual_seed(seed)
    channels, sides = shape[0], shape[1:]
    coarse = torch.rand(1, channels, *(max(1, side // 8) for side in sides), generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    smooth = F.interpolate(coarse, sides, mode=mode, align_corners=False)[0]
    return (60 * smooth + 20 * torch.rand(shape, generator=generator)).byte()
