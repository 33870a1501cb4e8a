"""FCN in torchvision's form: two convolutions on c5, and the same on c4 in training.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from densekit._names import unknown
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
        aux_weight: float = 0.4,
        norm: str = "batch",
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        for name in filter(None, (level, aux_level)):
            if name not in specs:
                raise ValueError(unknown("level of the backbone", name, specs))
        self.level, self.aux_level, self.aux_weight = level, aux_level, aux_weight
        self.reads = ("c0", *filter(None, (aux_level, level)))
        self.make = Layers(specs[level].spatial_dims, norm)
        self.aux_classifier = (
            None
            if aux_level is None
            else fcn_layers(self.make, specs[aux_level].channels, num_classes)
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
    """Fully convolutional network in the form of torchvision's `fcn_resnet50`.

    Meant for a backbone of output stride 8 (`backbone.output_stride=8`); with a larger one the
    logits are coarser. Tensor for tensor torchvision's `classifier.*` and `aux_classifier.*`.
    Paper: Fully Convolutional Networks for Semantic Segmentation.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(self, specs: Mapping[str, FeatureSpec], num_classes: int, **settings: Any) -> None:
        super().__init__(specs, num_classes, **settings)
        self.classifier = fcn_layers(self.make, specs[self.level].channels, num_classes)


def fcn_layers(make: Layers, channels: int, num_classes: int) -> nn.Sequential:
    """A 3x3 convolution to a quarter of the channels, then one logit per class."""
    width = channels // 4
    return nn.Sequential(
        make.conv(channels, width, 3),
        make.normalisation(width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        CONV[make.spatial_dims](width, num_classes, 1),
    )
