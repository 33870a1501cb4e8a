"""DeepLabV3 in torchvision's form and DeepLabV3+ in smp's.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from densekit._names import unknown
from densekit.heads.segmentation.aspp import ASPP, conv_norm_relu, separable_norm_relu
from densekit.heads.segmentation.base import Segmentation
from densekit.heads.segmentation.fcn import Classifier
from densekit.layers import CONV, Layers
from densekit.ops.interpolation import resize_linear
from densekit.types import Features, FeatureSpec

RATES = (12, 24, 36)
SKIP_CHANNELS = 48
"""Channels that the high-resolution level is projected to; the paper's choice (table 1)."""


class DeepLabV3(Classifier):
    """Atrous spatial pyramid pooling on c5, with an auxiliary FCN on c4.

    The default rates are meant for a backbone of output stride 8 (`backbone.output_stride=8` in
    the experiment or on the command line; it applies to all heads). Tensor for tensor torchvision's
    `classifier.*` and `aux_classifier.*`. Paper: Rethinking Atrous Convolution, section 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        channels: Channels of the pyramid's branches.
        rates: Dilations of the branches.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        channels: int = 256,
        rates: Sequence[int] = RATES,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        self.classifier = nn.Sequential(
            ASPP(self.make, specs[self.level].channels, channels, rates),
            *conv_norm_relu(self.make, channels, channels, 3),
            CONV[self.make.spatial_dims](channels, num_classes, 1),
        )


class DeepLabV3Plus(Segmentation):
    """Separable atrous spatial pyramid pooling on c5, refined by c2.

    Meant for a backbone of output stride 16 (`backbone.output_stride=16` in the experiment or on
    the command line). Tensor for tensor smp's `decoder.*` and `segmentation_head.0.*`; like smp it
    interpolates with aligned corners. Paper: Encoder-Decoder with Atrous Separable Convolution,
    section 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        level: The level that is pooled.
        skip_level: The level that refines the result.
        channels: Channels of the decoder.
        rates: Dilations of the pyramid's branches.
        dropout: Dropout probability of the pyramid's output.
        norm: Norm of the layers, see `densekit.layers.Layers`.
        settings: See `Segmentation`.
    """

    align_corners: ClassVar[bool] = True

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        level: str = "c5",
        skip_level: str = "c2",
        channels: int = 256,
        rates: Sequence[int] = RATES,
        dropout: float = 0.5,
        norm: str = "batch",
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        for name in (level, skip_level):
            if name not in specs:
                raise ValueError(unknown("level of the backbone", name, specs))
        self.level, self.skip_level = level, skip_level
        self.reads = ("c0", skip_level, level)
        self.size_divisor = max(specs[level].stride)  # so that the corners of both levels coincide
        make = Layers(specs[level].spatial_dims, norm)
        deep = specs[level].channels
        pyramid = ASPP(make, deep, channels, rates, is_separable=True, dropout=dropout)
        refined = separable_norm_relu(make, channels, channels)
        self.decoder = nn.ModuleDict(
            {
                "aspp": nn.Sequential(pyramid, *refined),
                "block1": conv_norm_relu(make, specs[skip_level].channels, SKIP_CHANNELS, 1),
                "block2": separable_norm_relu(make, SKIP_CHANNELS + channels, channels),
            }
        )
        self.segmentation_head = nn.Sequential(CONV[make.spatial_dims](channels, num_classes, 1))

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the skip level."""
        skip = self.decoder["block1"](features[self.skip_level])
        x = self.decoder["aspp"](features[self.level])
        sides = skip.shape[2:]
        x = resize_linear(x, sides, align_corners=True)
        x = self.decoder["block2"](torch.cat([x, skip], 1))
        logits: Tensor = self.segmentation_head(x)
        return logits
