"""Conversion of torchvision's detectors, segmentation models and classifiers to `DenseModel`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torchvision.models import ResNet
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.segmentation import FCN, DeepLabV3

from densekit.interop.conversion import Conversion
from densekit.interop.torchvision_classification import convert_classifier
from densekit.interop.torchvision_detection import convert_detector
from densekit.interop.torchvision_fcos import convert_fcos
from densekit.interop.torchvision_retinanet import convert_retinanet
from densekit.interop.torchvision_segmentation import convert_segmentation
from densekit.model import DenseModel


def from_torchvision(model: nn.Module, names: Sequence[str] | None = None) -> DenseModel:
    """Converts a detector, an FCN, a DeepLabV3 or a ResNet classifier of torchvision.

    A detector returns the same detections, with labels that start at 0 without background. It
    takes the same input as the original, float images in 0..1, and also uint8 images. For a
    segmentation model see `densekit.interop.torchvision_segmentation.convert_segmentation`, for a
    classifier `densekit.interop.torchvision_classification.convert_classifier`.

    Args:
        model: `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn`, `retinanet_resnet50_fpn`, their
            v2, `fcos_resnet50_fpn`, or a `FasterRCNN`, `MaskRCNN`, `RetinaNet` or `FCOS` on
            `resnet_fpn_backbone`; `fcn_resnet50`, `deeplabv3_resnet101` or similar; `resnet50` or
            similar.
        names: Class names, of a detector without the background, e.g.
            `weights.meta["categories"][1:]`, of a segmentation model with it. A RetinaNet or FCOS
            keeps all outputs if there is a name for each.

    Raises:
        TypeError: It is another kind of model.
        ValueError: A setting has no counterpart in densekit.
    """
    return convert_torchvision(model, names).model.train(model.training)


def convert_torchvision(
    model: nn.Module, names: Sequence[str] | None = None, info: Mapping[str, Any] | None = None
) -> Conversion:
    """Converts a model of torchvision as `from_torchvision` does.

    Args:
        model: See `from_torchvision`.
        names: See `from_torchvision`.
        info: Entries of the result's `info` that replace those of the conversion.

    Raises:
        TypeError: See `from_torchvision`.
        ValueError: See `from_torchvision`.
    """
    if isinstance(model, FCN | DeepLabV3):
        return convert_segmentation(model, names, info)
    if type(model) is ResNet:
        return convert_classifier(model, names, info)
    if type(model) in (FasterRCNN, MaskRCNN):
        return convert_detector(model, names, info)
    if type(model) is RetinaNet:
        return convert_retinanet(model, names, info)
    if type(model) is FCOS:
        return convert_fcos(model, names, info)
    raise TypeError(
        "from_torchvision: expected torchvision's FasterRCNN, MaskRCNN, RetinaNet, FCOS, FCN,"
        f" DeepLabV3 or ResNet, got {type(model).__name__}"
    )
