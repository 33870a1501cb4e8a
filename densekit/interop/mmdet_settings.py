"""What the configuration in mmdetection's files says of a detector and its tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densekit.interop.detector import DetectorSettings
from densekit.interop.openmmlab import Recipe, normalisation_of

WHERE = "from_mmdet"
ABSENT = object()
EXPECTED: dict[str, tuple[Any, ...]] = {
    "backbone.type": ("ResNet", "ResNeXt"),
    "backbone.strides": ([1, 2, 2, 2],),
    "backbone.dilations": ([1, 1, 1, 1],),
    "backbone.norm_cfg.eps": (1e-5,),
    "neck.type": ("FPN",),
    "neck.relu_before_extra_convs": (False,),
    "neck.upsample_cfg": ({"mode": "nearest"},),
}
"""Settings that change a network without changing its tensors, and what converts."""
TWO_STAGE: dict[str, tuple[Any, ...]] = {
    "rpn_head.type": ("RPNHead",),
    "rpn_head.anchor_generator.scales": ([8],),
    "rpn_head.anchor_generator.ratios": ([0.5, 1.0, 2.0],),
    "rpn_head.anchor_generator.strides": ([4, 8, 16, 32, 64],),
    "rpn_head.anchor_generator.center_offset": (0.0,),
    "rpn_head.bbox_coder.target_stds": ([1.0] * 4,),
    "roi_head.type": ("StandardRoIHead",),
    "roi_head.bbox_roi_extractor.type": ("SingleRoIExtractor",),
    "roi_head.bbox_roi_extractor.finest_scale": (56,),
    "roi_head.bbox_roi_extractor.roi_layer.type": ("RoIAlign",),
    "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": (0,),
    "roi_head.bbox_head.bbox_coder.target_stds": ([0.1, 0.1, 0.2, 0.2],),
    "roi_head.bbox_head.reg_decoded_bbox": (False,),
    "roi_head.bbox_head.loss_cls.use_sigmoid": (False,),
    "test_cfg.rpn.nms_pre": (1000,),
    "test_cfg.rpn.max_per_img": (1000,),
    "test_cfg.rpn.nms.type": ("nms",),
    "test_cfg.rpn.nms.iou_threshold": (0.7,),
    "test_cfg.rpn.min_bbox_size": (0,),
    "test_cfg.rcnn.nms.type": ("nms",),
}
MASKS: dict[str, tuple[Any, ...]] = {
    "roi_head.mask_roi_extractor.type": ("SingleRoIExtractor",),
    "roi_head.mask_roi_extractor.finest_scale": (56,),
    "roi_head.mask_roi_extractor.roi_layer.type": ("RoIAlign",),
    "roi_head.mask_roi_extractor.roi_layer.output_size": (14,),
    "roi_head.mask_roi_extractor.roi_layer.sampling_ratio": (0,),
    "roi_head.mask_head.type": ("FCNMaskHead",),
    "roi_head.mask_head.class_agnostic": (False,),
    "roi_head.mask_head.conv_kernel_size": (3,),
    "roi_head.mask_head.upsample_cfg.type": ("deconv",),
    "test_cfg.rcnn.mask_thr_binary": (0.5,),
}
ONE_STAGE: dict[str, tuple[Any, ...]] = {
    "bbox_head.type": ("RetinaHead",),
    "bbox_head.anchor_generator.octave_base_scale": (4,),
    "bbox_head.anchor_generator.scales_per_octave": (3,),
    "bbox_head.anchor_generator.ratios": ([0.5, 1.0, 2.0],),
    "bbox_head.anchor_generator.strides": ([8, 16, 32, 64, 128],),
    "bbox_head.anchor_generator.center_offset": (0.0,),
    "bbox_head.bbox_coder.target_stds": ([1.0] * 4,),
    "bbox_head.reg_decoded_bbox": (False,),
    "bbox_head.loss_cls.use_sigmoid": (True,),
    "test_cfg.nms_pre": (1000,),
    "test_cfg.nms.type": ("nms",),
    "test_cfg.min_bbox_size": (0,),
}


def settings_of(recipe: Recipe, *, two_stage: bool, masks: bool = False) -> DetectorSettings:
    """The settings in the configuration that a file carries; without one all are left open.

    Args:
        recipe: What the file says besides its tensors.
        two_stage: Whether the tensors are those of a Faster R-CNN, or of a RetinaNet.
        masks: Whether they are those of a Mask R-CNN too.

    Raises:
        ValueError: A setting has no counterpart in densekit; the message gives its key.
    """
    model = recipe.model
    if not model:
        return DetectorSettings()
    of_head = TWO_STAGE if two_stage else ONE_STAGE
    for key, accepted in (EXPECTED | of_head | (MASKS if masks else {})).items():
        found = _at(model, key)
        if found is not ABSENT and _plain(found) not in accepted:
            names = " or ".join(map(repr, accepted))
            raise ValueError(f"{WHERE}: model.{key}: expected {names}, got {found!r}")
    known: dict[str, Any] = {"stride_in_1x1": _at(model, "backbone.style") == "caffe"}
    test = "test_cfg.rcnn" if two_stage else "test_cfg"
    for name, key in (
        ("score_threshold", "score_thr"),
        ("nms_iou", "nms.iou_threshold"),
        ("max_detections", "max_per_img"),
    ):
        if (found := _at(model, f"{test}.{key}")) is not ABSENT:
            known[name] = found
    try:
        known |= normalisation_of(recipe) | _size(recipe)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{WHERE}: expected a configuration of mmdetection, got one that cannot be understood:"
            f" {error!r}"
        ) from error
    return DetectorSettings(**known)


def _size(recipe: Recipe) -> dict[str, int]:
    """The shorter and longer side of test images."""
    steps = list(recipe.transforms())
    keeps_ratio = any(step.get("keep_ratio") for step in steps if step.get("type") == "Resize")
    for step in steps:
        scale = step.get("scale", step.get("img_scale"))
        if isinstance(scale, tuple | list) and len(scale) == 2:
            if not keeps_ratio:
                raise ValueError(f"images resized to {scale} whatever their ratio")
            return {"min_size": int(min(scale)), "max_size": int(max(scale))}
    return {}


def _at(around: Any, key: str) -> Any:
    """The value at a dotted key; `ABSENT` if there is none."""
    for part in key.split("."):
        if not isinstance(around, Mapping) or part not in around:
            return ABSENT
        around = around[part]
    return around


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
