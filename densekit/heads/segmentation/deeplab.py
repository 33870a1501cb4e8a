"""DeepLabV3 and DeepLabV3+, by default in the forms of torchvision and smp.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densekit.heads.segmentation.aspp import ASPP, conv_norm_relu, separable_norm_relu
from densekit.heads.segmentation.fcn import Classifier
from densekit.layers import CONV
from densekit.ops.interpolation import resize_linear
from densekit.types import Features, FeatureSpec

RATES = (12, 24, 36)
SKIP_CHANNELS = 48
"""Channels that the high-resolution level is projected to; the paper's choice (table 1)."""


class DeepLabV3(Classifier):
    """Atrous spatial pyramid pooling on c5, with an auxiliary FCN on c4.

    The default rates are meant for a backbone of output stride 8 (`backbone.output_stride=8` in
    the experiment or on the command line; it applies to all heads). Tensor for tensor torchvision's
    `classifier.*` and `aux_classifier.*`; mmsegmentation's has `project_kernel=3`.
    Paper: Rethinking Atrous Convolution, section 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        channels: Channels of the pyramid's branches.
        rates: Dilations of the branches.
        project_kernel: Kernel of the convolution that joins the branches: 1, followed by a 3x3 one,
            or 3 without another.
        dropout: Dropout probability of the pyramid's output.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        channels: int = 256,
        rates: Sequence[int] = RATES,
        project_kernel: int = 1,
        dropout: float = 0.5,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        deep = specs[self.level].channels
        pyramid = ASPP(
            self.make, deep, channels, rates, project_kernel=project_kernel, dropout=dropout
        )
        refined = conv_norm_relu(self.make, channels, channels, 3) if project_kernel == 1 else ()
        self.classifier = nn.Sequential(
            pyramid,
            *refined,
            CONV[self.make.spatial_dims](channels, num_classes, 1),
        )


class DeepLabV3Plus(Classifier):
    """Separable atrous spatial pyramid pooling on c5, refined by c2.

    Meant for a backbone of output stride 16 (`backbone.output_stride=16` in the experiment or on
    the command line). Tensor for tensor smp's `decoder.*` and `segmentation_head.0.*`; like smp it
    interpolates with aligned corners. mmsegmentation's has `project_kernel=3`,
    `depthwise_norm=True`, `decoder_convs=2` and does not align corners.
    Paper: Encoder-Decoder with Atrous Separable Convolution, section 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        skip_level: The level that refines the result.
        skip_channels: Channels that it is projected to.
        channels: Channels of the pyramid and the decoder.
        rates: Dilations of the pyramid's branches.
        project_kernel: See `DeepLabV3`.
        depthwise_norm: Whether a norm and a ReLU follow every depthwise convolution (section 3.2 of
            the paper).
        decoder_convs: Number of 3x3 convolutions after the skip level has been joined.
        dropout: Dropout probability of the pyramid's output.
        aux_level: See `Classifier`.
        align_corners: See `Segmentation`.
        settings: See `Classifier` and `Segmentation`.

    Raises:
        ValueError: There is no convolution in the decoder.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        skip_level: str = "c2",
        skip_channels: int = SKIP_CHANNELS,
        channels: int = 256,
        rates: Sequence[int] = RATES,
        project_kernel: int = 1,
        depthwise_norm: bool = False,
        decoder_convs: int = 1,
        dropout: float = 0.5,
        aux_level: str | None = None,
        align_corners: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(
            specs, num_classes, aux_level=aux_level, align_corners=align_corners, **settings
        )
        if decoder_convs < 1:
            raise ValueError(f"decoder_convs: expected at least 1, got {decoder_convs}")
        self.skip_level = skip_level
        self.reads = tuple(sorted({*self.reads, skip_level}))
        make = self.make
        separable = partial(separable_norm_relu, make, depthwise_norm=depthwise_norm)
        pyramid = ASPP(
            make,
            specs[self.level].channels,
            channels,
            rates,
            is_separable=True,
            depthwise_norm=depthwise_norm,
            project_kernel=project_kernel,
            dropout=dropout,
        )
        refined = separable(channels, channels) if project_kernel == 1 else ()
        inputs = [skip_channels + channels] + [channels] * (decoder_convs - 1)
        self.decoder = nn.ModuleDict(
            {
                "aspp": nn.Sequential(pyramid, *refined),
                "block1": conv_norm_relu(make, specs[skip_level].channels, skip_channels, 1),
                "block2": nn.Sequential(
                    *(layer for count in inputs for layer in separable(count, channels))
                ),
            }
        )
        self.segmentation_head = nn.Sequential(CONV[make.spatial_dims](channels, num_classes, 1))

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the skip level."""
        skip = self.decoder["block1"](features[self.skip_level])
        x = self.decoder["aspp"](features[self.level])
        x = resize_linear(x, skip.shape[2:], align_corners=self.align_corners)
        x = self.decoder["block2"](torch.cat([x, skip], 1))
        logits: Tensor = self.segmentation_head(x)
        return logits
