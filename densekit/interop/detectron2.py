"""Conversion of detectron2's detectors on a feature pyramid: model zoo files and own checkpoints.

The tensors do not say how images are prepared, where a bottleneck's stride is, or which thresholds
apply. These are the defaults of detectron2's configuration unless they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from densekit.heads.faster_rcnn import detectron2_preset
from densekit.heads.one_stage import detectron2_retinanet
from densekit.interop.conversion import (
    Conversion,
    Parts,
    convert_tensors,
    renamer,
    without_parts,
)
from densekit.interop.detector import (
    HEAD,
    NAMES,
    DetectorSettings,
    faster_rcnn_of,
    is_two_stage,
    pyramid_of,
    refuse_parts,
    resnet_of,
    retinanet_of,
)
from densekit.interop.reading import read_tensors
from densekit.interop.resnet_tensors import resnet_name
from densekit.model import DenseModel

WHERE = "from_detectron2"
MEAN = (103.53, 116.28, 123.675)
RESNET_STD, RESNEXT_STD = (1.0, 1.0, 1.0), (57.375, 57.12, 58.395)
"""Of the model zoo's ResNets and ResNeXts."""

_OURS = f"heads.{HEAD}"
_MASKS = f"{_OURS}.mask_head"
_BODY = r"^backbone\.bottom_up"
_STAGES = tuple(
    (rf"{_BODY}\.res{stage + 1}\.(\d+)\.{theirs}\.", rf"backbone.layer{stage}.\1.{ours}.")
    for stage in range(1, 5)
    for theirs, ours in (
        (r"conv(\d)\.norm", r"bn\2"),
        (r"conv(\d)", r"conv\2"),
        (r"shortcut\.norm", "downsample.1"),
        ("shortcut", "downsample.0"),
    )
)
_COUNTED = tuple(
    rule
    for number in range(1, 9)  # detectron2 counts from 1; in RetinaNet each second layer is a ReLU
    for rule in (
        (rf"^head\.cls_subnet\.{2 * number - 2}\.", f"{_OURS}.cls_convs.{number - 1}.0."),
        (rf"^head\.bbox_subnet\.{2 * number - 2}\.", f"{_OURS}.box_convs.{number - 1}.0."),
        (rf"^roi_heads\.box_head\.fc{number}\.", f"{_OURS}.box_head.hidden.{number - 1}."),
        (rf"^roi_heads\.box_head\.conv{number}\.norm\.", f"{_OURS}.box_head.convs.{number - 1}.1."),
        (rf"^roi_heads\.box_head\.conv{number}\.", f"{_OURS}.box_head.convs.{number - 1}.0."),
        (rf"^roi_heads\.mask_head\.mask_fcn{number}\.norm\.", f"{_MASKS}.convs.{number - 1}.1."),
        (rf"^roi_heads\.mask_head\.mask_fcn{number}\.", f"{_MASKS}.convs.{number - 1}.0."),
    )
)
RENAME = renamer(
    [
        (rf"{_BODY}\.stem\.conv1\.norm\.", "backbone.bn1."),
        (rf"{_BODY}\.stem\.conv1\.", "backbone.conv1."),
        *_STAGES,
        (r"^backbone\.fpn_lateral(\d)\.norm\.", r"neck.lateral.c\1.1."),
        (r"^backbone\.fpn_lateral(\d)\.", r"neck.lateral.c\1.0."),
        (r"^backbone\.fpn_output(\d)\.norm\.", r"neck.output.p\1.1."),
        (r"^backbone\.fpn_output(\d)\.", r"neck.output.p\1.0."),
        (r"^proposal_generator\.rpn_head\.conv\.conv(\d)\.", rf"{_OURS}.rpn.convs.\1."),
        (r"^proposal_generator\.rpn_head\.conv\.", rf"{_OURS}.rpn.convs.0."),
        (r"^proposal_generator\.rpn_head\.objectness_logits\.", rf"{_OURS}.rpn.logits."),
        (r"^proposal_generator\.rpn_head\.anchor_deltas\.", rf"{_OURS}.rpn.deltas."),
        *_COUNTED,
        (r"^backbone\.top_block\.", "neck.extra."),
        (r"^head\.cls_score\.", f"{_OURS}.logits."),
        (r"^head\.bbox_pred\.", f"{_OURS}.deltas."),
        (r"^roi_heads\.box_predictor\.cls_score\.", rf"{_OURS}.box_head.logits."),
        (r"^roi_heads\.box_predictor\.bbox_pred\.", rf"{_OURS}.box_head.deltas."),
        (r"^roi_heads\.mask_head\.deconv\.", f"{_MASKS}.upsample."),
        (r"^roi_heads\.mask_head\.predictor\.", f"{_MASKS}.logits."),
    ]
)
DROPPED = {
    r"(proposal_generator\.)?anchor_generator\.": "anchors are computed",
    r"pixel_(mean|std)$": "in the model's info",
}
OTHER_PARTS = {
    "roi_heads.keypoint_head": "a keypoint head",
    "sem_seg_head": "a semantic segmentation head",
}


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a detector of detectron2."""
    return any(name.startswith(("backbone.bottom_up.", "proposal_generator.")) for name in state)


def from_detectron2(
    source: str | Path | Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    leave: Sequence[str] = (),
    settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
) -> DenseModel:
    """Converts a Faster R-CNN, Mask R-CNN or RetinaNet of detectron2 (ResNet or ResNeXt with FPN).

    Boxes, scores and the probabilities of masks are equal; masks are pasted into the image by
    torchvision's rule, to whole pixels, detectron2's by positions between them.

    Args:
        source: Path of a file of its model zoo (.pkl) or of a training (.pth), or a state dict.
        names: Class names; COCO's by default if there are 80 classes, else `class_0` and so on.
        leave: Modules to leave out, such as `["roi_heads.keypoint_head"]`.
        settings: What the training's configuration says. By default that of the model zoo, BGR with
            the stride in the first convolution, of a ResNeXt in the 3x3.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be read, or a tensor has no counterpart in densekit.
    """
    state = source if isinstance(source, Mapping) else read_tensors(source)
    kept, _ = without_parts(WHERE, state, leave)
    return convert(kept, names, settings=settings).model


def convert(
    state: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    settings: DetectorSettings = DetectorSettings(),  # noqa: B008 - frozen
) -> Conversion:
    """Converts all tensors; see `from_detectron2`."""
    refuse_parts(WHERE, state, OTHER_PARTS)
    ours = {RENAME(name): value for name, value in state.items()}
    two_stage = is_two_stage(WHERE, ours)
    backbone = resnet_of(WHERE, ours)
    settings = _completed(settings, state, backbone.keywords["groups"] > 1)
    backbone = partial(backbone, stride_in_1x1=settings.stride_in_1x1)
    head: partial[Any]
    if two_stage:
        head, changed = faster_rcnn_of(ours, detectron2_preset(), settings.detection())
        neck = pyramid_of(ours)
    else:
        head, changed = retinanet_of(ours, detectron2_retinanet(), settings), _anchors_changed()
        neck = pyramid_of(ours, extra="conv_backbone")
    info, assumed = settings.info(names, head.keywords["num_classes"], antialias=True)
    return convert_tensors(
        WHERE,
        Parts(backbone, {HEAD: head}, neck),
        info,
        state,
        RENAME,
        source=f"detectron2 {NAMES[head.func]}, {resnet_name(backbone)} FPN",
        changed=changed,
        dropped=DROPPED,
        assumed=assumed,
    )


def _anchors_changed() -> dict[str, Callable[[Tensor], Tensor]]:
    """How the predictors of RetinaNet change: detectron2 orders the anchors of a cell by size."""
    kinds = [(layer, part) for layer in ("logits", "deltas") for part in ("weight", "bias")]
    return {f"{_OURS}.{layer}.{part}": _by_ratio for layer, part in kinds}


def _by_ratio(rows: Tensor) -> Tensor:
    """Reorders rows (size * ratio * value, ...) to (ratio * size * value, ...)."""
    reordered: Tensor = rows.unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)
    return reordered


def _completed(
    settings: DetectorSettings, state: Mapping[str, Tensor], is_resnext: bool
) -> DetectorSettings:
    """The settings with what older files tell, else with those of the model zoo."""
    told = {
        name: tuple(state[key].flatten().tolist())
        for name, key in (("mean", "pixel_mean"), ("std", "pixel_std"))
        if key in state
    }
    zoo: dict[str, Any] = {
        "stride_in_1x1": not is_resnext,
        "channel_order": "bgr",
        "mean": MEAN,
        "std": RESNEXT_STD if is_resnext else RESNET_STD,
    }
    return settings.completed(**(zoo | told))
