"""FCN: convolutions on c5, and an auxiliary classifier on c4 in training.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from densekit.heads.segmentation.aspp import conv_norm_relu
from densekit.heads.segmentation.base import Segmentation, Supervised
from densekit.layers import CONV, Layers
from densekit.types import Features, FeatureSpec


class Classifier(Segmentation):
    """A classifier on the deepest level, and optionally an auxiliary one on the level before.

    The auxiliary logits are interpolated like the main ones, as in torchvision's reference.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        level: The level the classifier reads.
        aux_level: The level the auxiliary classifier reads; None for no auxiliary classifier.
        aux_channels: Channels of the auxiliary classifier; by default a quarter of its level's.
        aux_weight: Factor of the auxiliary terms.
        norm: Norm of the layers, see `densekit.layers.Layers`.
        settings: See `Segmentation`.
    """

    classifier: nn.Module

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        level: str = "c5",
        aux_level: str | None = "c4",
        aux_channels: int | None = None,
        aux_weight: float = 0.4,
        norm: str = "batch",
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.level, self.aux_level, self.aux_weight = level, aux_level, aux_weight
        self.reads = ("c0", *filter(None, (aux_level, level)))
        self.make = Layers(specs[level].spatial_dims, norm)
        self.aux_classifier = (
            None
            if aux_level is None
            else fcn_layers(self.make, specs[aux_level].channels, num_classes, aux_channels)
        )

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the level read."""
        logits: Tensor = self.classifier(features[self.level])
        return logits

    def supervised(self, features: Features) -> list[Supervised]:
        """Returns the main output and the auxiliary one, whose terms begin with `aux_`."""
        outputs = [Supervised(self.low_resolution(features))]
        if self.aux_classifier is not None and self.aux_level is not None:
            logits = self.aux_classifier(features[self.aux_level])
            outputs.append(Supervised(logits, "aux", self.aux_weight))
        return outputs


class FCN(Classifier):
    """Fully convolutional network, by default in the form of torchvision's `fcn_resnet50`.

    Meant for a backbone of output stride 8 (`backbone.output_stride=8`); with a larger one the
    logits are coarser. Tensor for tensor torchvision's `classifier.*` and `aux_classifier.*`.
    mmsegmentation's has two convolutions and `concat_input`.
    Paper: Fully Convolutional Networks for Semantic Segmentation.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        channels: Channels of the convolutions; by default a quarter of the level's.
        num_convs: Number of 3x3 convolutions.
        dilation: Dilation of these convolutions.
        concat_input: Whether a further 3x3 convolution joins their output with the level.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        channels: int | None = None,
        num_convs: int = 1,
        dilation: int = 1,
        concat_input: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        self.classifier = fcn_layers(
            self.make,
            specs[self.level].channels,
            num_classes,
            channels,
            num_convs=num_convs,
            dilation=dilation,
            concat_input=concat_input,
        )


class WithInput(nn.Sequential):
    """Layers whose output is concatenated with their input."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *s) to (B, C + C', *s), of which the C' are the layers'."""
        y = x
        for layer in self:
            y = layer(y)
        return torch.cat([x, y], 1)


def fcn_layers(
    make: Layers,
    in_channels: int,
    num_classes: int,
    channels: int | None = None,
    *,
    num_convs: int = 1,
    dilation: int = 1,
    concat_input: bool = False,
) -> nn.Sequential:
    """3x3 convolutions with norm and ReLU, dropout, then one logit per class; see `FCN`.

    Raises:
        ValueError: There is no convolution.
    """
    if num_convs < 1:
        raise ValueError(f"num_convs: expected at least 1, got {num_convs}")
    width = channels or in_channels // 4
    inputs = [in_channels] + [width] * (num_convs - 1)
    layers = [one for count in inputs for one in conv_norm_relu(make, count, width, 3, dilation)]
    if concat_input:
        joined = conv_norm_relu(make, in_channels + width, width, 3)
        layers = [WithInput(*layers), *joined]
    return nn.Sequential(*layers, nn.Dropout(0.1), CONV[make.spatial_dims](width, num_classes, 1))
