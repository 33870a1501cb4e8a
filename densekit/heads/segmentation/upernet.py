"""UPerNet: pyramid pooling on the deepest level, a feature pyramid, and all its levels joined.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekit.heads.segmentation.aspp import conv_norm_relu
from densekit.heads.segmentation.fcn import Classifier
from densekit.heads.segmentation.pspnet import SCALES, PyramidPooling
from densekit.layers import CONV
from densekit.ops.interpolation import resize_linear
from densekit.types import Features, FeatureSpec


class UPerNet(Classifier):
    """Pyramid pooling on c5 and a feature pyramid down to c2, with an auxiliary FCN on c4.

    It is the network of the paper and of mmsegmentation, on a backbone of output stride 32; smp's
    is `SmpHead` (`head=smp_upernet`).
    Paper: Unified Perceptual Parsing for Scene Understanding, section 3.1.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        skip_levels: The levels that refine the deepest one, finest first.
        channels: Channels of all levels of the pyramid.
        scales: Cells per axis of the grids of the pyramid pooling.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        skip_levels: Sequence[str] = ("c2", "c3", "c4"),
        channels: int = 512,
        scales: Sequence[int] = SCALES,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        self.skip_levels = tuple(skip_levels)
        self.reads = tuple(sorted({*self.reads, *skip_levels}))
        make = self.make
        self.pooling = PyramidPooling(
            make, specs[self.level].channels, channels, scales, align_corners=self.align_corners
        )
        self.lateral = nn.ModuleDict(
            {n: conv_norm_relu(make, specs[n].channels, channels, 1) for n in skip_levels}
        )
        self.output = nn.ModuleDict(
            {n: conv_norm_relu(make, channels, channels, 3) for n in skip_levels}
        )
        self.classifier = nn.Sequential(
            *conv_norm_relu(make, (len(self.skip_levels) + 1) * channels, channels, 3),
            nn.Dropout(0.1),
            CONV[make.spatial_dims](channels, num_classes, 1),
        )

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the finest skip level."""
        x = self.pooling(features[self.level])
        outputs = [x]
        for level in reversed(self.skip_levels):
            lateral = self.lateral[level](features[level])
            x = lateral + self._resized(x, lateral)
            outputs.append(self.output[level](x))
        finest = outputs[-1]
        # Finest first, as in the paper's figure and in mmsegmentation.
        joined = torch.cat([self._resized(level, finest) for level in reversed(outputs)], 1)
        logits: Tensor = self.classifier(joined)
        return logits

    def _resized(self, x: Tensor, like: Tensor) -> Tensor:
        """Interpolates (B, C, *s) to the sides of another map."""
        return resize_linear(x, like.shape[2:], align_corners=self.align_corners)
