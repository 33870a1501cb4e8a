"""Conversion of torchvision's FCOS (ResNet with FPN) to a `DenseModel`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.models import detection

from densekit.heads import FCOS
from densekit.interop.conversion import Conversion
from densekit.interop.torchvision_one_stage import (
    LOGITS,
    OURS,
    WHERE,
    convert_one_stage,
    detection_rule,
    fresh_backbone,
    is_one_stage,
    loaded,
    with_assumptions,
)
from densekit.ops.point_matching import PointRule

CENTERNESS = "head.regression_head.bbox_ctrness.weight"
REACH = 8
"""Longest side in strides, which torchvision has as a constant."""


def convert_fcos(
    model: detection.FCOS,
    names: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
    kept: Sequence[int] | None = None,
) -> Conversion:
    """Converts an FCOS on a ResNet with FPN; see `convert_one_stage` for the arguments."""
    theirs: Any = model
    depth = len(theirs.head.classification_head.conv) // 3  # convolution, norm, ReLU
    return convert_one_stage(model, _head(model, depth), _rename(depth), names, info, kept)


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of an FCOS of torchvision."""
    return is_one_stage(state) and CENTERNESS in state


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; what it does not say is torchvision's default.

    Args:
        state: Tensors of an `FCOS` on a ResNet with FPN.
        names: See `convert_one_stage`.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    model = detection.FCOS(fresh_backbone(state), len(state[LOGITS]))
    return with_assumptions(convert_fcos(model, names, loaded(model, state)))


def _head(model: Any, depth: int) -> partial[FCOS]:
    generator = model.anchor_generator
    strides = tuple(2**number for number in range(3, 8))
    sizes = tuple(size for (size,) in generator.sizes)
    if sizes != strides or set(generator.aspect_ratios) != {(1.0,)}:
        raise ValueError(
            f"{WHERE}: expected square anchors of one stride, {strides}, got sizes {sizes} and"
            f" aspect_ratios {generator.aspect_ratios}"
        )
    return partial(
        FCOS,
        depth=depth,
        grid_strides=True,
        matching=PointRule(model.center_sampling_radius, REACH),
        detection=detection_rule(model),
    )


def _rename(depth: int) -> Iterable[tuple[str, str]]:
    for head, ours in (("classification", "cls_convs"), ("regression", "box_convs")):
        for number in range(depth):
            for part in (0, 1):
                theirs = rf"^head\.{head}_head\.conv\.{3 * number + part}\."
                yield theirs, f"{OURS}.{ours}.{number}.{part}."
    yield r"^head\.regression_head\.bbox_ctrness\.", f"{OURS}.centerness."
