"""mmdetection's detectors by their names, against forwards after its code, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.interop import convert as convert_file
from densekit.interop.detector import DetectorSettings
from densekit.interop.layouts import convert_state
from densekit.interop.mmdet import convert, from_mmdet, matches
from tests.parity.pyramid_reference import (
    SIZE,
    Body,
    Detections,
    Weights,
    anchors_of,
    assert_detects,
    assert_segments,
    cell_anchors,
    dense_detections,
    detections,
    mask_branch,
    per_anchor,
    picture,
    pooled,
    proposals,
)

CLASSES, CHANNELS, HIDDEN = 5, 16, 32
RESNET = Body("backbone.conv1", "backbone.layer{layer}.{block}", "downsample.0")
CAFFE = replace(RESNET, stride_in_1x1=True)
RESNEXT = replace(RESNET, groups=4, depth=101)
CAFFE_SETTINGS = DetectorSettings(True, "bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


def prepared(image: Tensor, body: Body) -> Tensor:
    """`DetDataPreprocessor`: normalised, then padded with zeros to a multiple of 32."""
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if body.stride_in_1x1:
        image, mean, std = image.flip(0), mean[::-1], [1.0] * 3
    x = (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]
    return F.pad(x, [0, -x.shape[2] % 32, 0, -x.shape[1] % 32])[None]


def pyramid(weights: Weights, stages: list[Tensor]) -> list[Tensor]:
    """One level per stage of the backbone."""
    laterals = [
        weights.conv(f"neck.lateral_convs.{number}.conv", c, CHANNELS, std=1.0)
        for number, c in enumerate(stages)
    ]
    for number in range(len(laterals) - 1, 0, -1):
        above = F.interpolate(laterals[number], size=laterals[number - 1].shape[2:])
        laterals[number - 1] = laterals[number - 1] + above
    return [
        weights.conv(f"neck.fpn_convs.{number}.conv", x, CHANNELS, 3, std=1.0)
        for number, x in enumerate(laterals)
    ]


def faster_rcnn(weights: Weights, image: Tensor, body: Body) -> Detections:
    """`FasterRCNN.predict` of one RGB image (3, H, W)."""
    levels = pyramid(weights, body.levels(weights, prepared(image, body)))
    dense = []
    for number, x in enumerate([*levels, F.max_pool2d(levels[-1], 1, 2)], start=2):
        y = weights.conv("rpn_head.rpn_conv", x, CHANNELS, 3).relu()
        logits = weights.conv("rpn_head.rpn_cls", y, 3, std=2.0)
        deltas = weights.conv("rpn_head.rpn_reg", y, 12, std=0.1)
        anchors = anchors_of(x, 2**number, cell_anchors([8 * 2**number]))
        dense.append((per_anchor(logits, 1), per_anchor(deltas, 4), anchors))
    boxes = proposals(dense, SIZE, 1000, 1000)
    x = pooled(levels, boxes).flatten(1)
    for number in range(2):
        x = weights.linear(f"roi_head.bbox_head.shared_fcs.{number}", x, HIDDEN, 1.0).relu()
    logits = weights.linear("roi_head.bbox_head.fc_cls", x, CLASSES + 1, 2.0)
    deltas = weights.linear("roi_head.bbox_head.fc_reg", x, 4 * CLASSES, 0.5)
    return detections(logits, deltas, boxes, SIZE)


def retinanet(weights: Weights, image: Tensor, body: Body) -> Detections:
    """`RetinaNet.predict` of one RGB image (3, H, W)."""
    *_, c5 = stages = body.levels(weights, prepared(image, body))[1:]
    levels = pyramid(weights, stages)
    for number, x in ((3, c5), (4, None)):  # without a ReLU between p6 and p7
        x = levels[-1] if x is None else x
        name = f"neck.fpn_convs.{number}.conv"
        levels.append(weights.conv(name, x, CHANNELS, 3, stride=2, std=1.0))
    dense = []
    for number, x in enumerate(levels, start=3):
        of_classes, of_boxes = x, x
        for layer in range(4):
            name = f"bbox_head.cls_convs.{layer}.conv"
            of_classes = weights.conv(name, of_classes, CHANNELS, 3, std=1.0).relu()
            name = f"bbox_head.reg_convs.{layer}.conv"
            of_boxes = weights.conv(name, of_boxes, CHANNELS, 3, std=1.0).relu()
        logits = weights.conv("bbox_head.retina_cls", of_classes, 9 * CLASSES, 3, std=2.0)
        deltas = weights.conv("bbox_head.retina_reg", of_boxes, 36, 3, std=0.3)
        sizes = [4 * 2**number * 2 ** (step / 3) for step in range(3)]
        by_ratio = cell_anchors(sizes).view(3, 3, 4).transpose(0, 1).reshape(9, 4)
        anchors = anchors_of(x, 2**number, by_ratio)
        dense.append((per_anchor(logits, CLASSES), per_anchor(deltas, 4), anchors))
    return dense_detections(dense, SIZE, clip_first=True)


def _norm_of(conv: str) -> str:
    if conv.endswith("downsample.0"):
        return conv[:-1] + "1"
    return conv.replace("conv", "bn")


@cache
def _trained(detector: Callable[..., Detections], body: Body) -> tuple[Weights, Detections]:
    weights = Weights(_norm_of, counters=True)
    found = detector(weights, picture(), body)
    return weights, found


def trained(
    body: Body, detector: Callable[..., Detections] = faster_rcnn
) -> tuple[dict[str, Tensor], Detections]:
    """A state dict of one's own and the detections in the picture."""
    weights, found = _trained(detector, body)
    return dict(weights.state), found


@pytest.mark.parametrize("body", [RESNET, RESNEXT, CAFFE], ids=["resnet", "resnext", "caffe"])
def test_faster_rcnn_detects_the_same(body: Body) -> None:
    state, expected = trained(body)
    assert matches(state)

    found = convert(state, settings=CAFFE_SETTINGS if body is CAFFE else DetectorSettings())

    assert {*found.mapped.values(), *found.left} == set(state)
    assert set(found.left.values()) == {"counter of a batch norm, whose statistics are constant"}
    assert_detects(found.model, expected)


@pytest.mark.parametrize("body", [RESNET, CAFFE], ids=["resnet", "caffe"])
def test_retinanet_detects_the_same(body: Body) -> None:
    state, expected = trained(body, retinanet)
    assert matches(state)

    found = convert(state, settings=CAFFE_SETTINGS if body is CAFFE else DetectorSettings())

    assert found.source == "mmdetection RetinaNet, ResNet-50 FPN"
    assert {*found.mapped.values(), *found.left} == set(state)
    assert_detects(found.model, expected)


CAFFE_CONFIG = """
model = dict(
    type="FasterRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False, pad_size_divisor=32),
    backbone=dict(type="ResNet", depth=50, style="caffe", norm_cfg=dict(type="BN")),
    neck=dict(type="FPN", num_outs=5),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7)),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)))
"""


def test_the_configuration_in_a_file_is_obeyed(tmp_path: Path) -> None:
    state, expected = trained(CAFFE)
    meta = {"cfg": CAFFE_CONFIG, "dataset_meta": {"classes": ("a", "b", "c", "d", "e")}}
    torch.save({"state_dict": state, "meta": meta}, tmp_path / "model.pth")

    found = convert_file(tmp_path / "model.pth")

    assert found.assumed == ()
    assert found.model.info["heads"]["detection"]["names"] == list("abcde")
    assert_detects(found.model, expected)
    assert_detects(from_mmdet(tmp_path / "model.pth"), expected)


def test_mask_rcnn_segments_the_same() -> None:
    state, expected = trained(RESNET)
    weights = Weights(_norm_of, dict(state), counters=True)
    levels = pyramid(weights, RESNET.levels(weights, prepared(picture(), RESNET)))
    layers = [*(f"convs.{number}.conv" for number in range(4)), "upsample", "conv_logits"]
    names = [f"roi_head.mask_head.{layer}" for layer in layers]
    masks = mask_branch(weights, names, levels, expected, CLASSES)

    found = convert_state(weights.state)

    assert found.source == "mmdetection Mask R-CNN, ResNet-50 FPN"
    assert_detects(found.model, expected)
    assert_segments(found.model, masks)
    boxes = convert_state(weights.state, leave=["roi_head.mask_head"])
    assert boxes.source == "mmdetection Faster R-CNN, ResNet-50 FPN"
    assert boxes.left["roi_head.mask_head.upsample.bias"] == "leave=[roi_head.mask_head]"
    assert_detects(from_mmdet(weights.state, leave=["roi_head.mask_head"]), expected)


def test_masks_of_no_class_are_refused() -> None:
    state, _ = trained(RESNET)
    state["roi_head.mask_head.conv_logits.weight"] = torch.zeros(1, 4, 1, 1)
    with pytest.raises(ValueError, match="expected a mask of each of 5 classes, got 1"):
        convert_state(state)


def test_convolutions_of_the_box_head() -> None:
    """`Shared4Conv1FCBBoxHead` and an RPN of two convolutions."""
    state, _ = trained(RESNET)
    for kind in ("weight", "bias"):
        state[f"rpn_head.rpn_conv.0.conv.{kind}"] = state.pop(f"rpn_head.rpn_conv.{kind}")
        state[f"rpn_head.rpn_conv.1.conv.{kind}"] = state[f"rpn_head.rpn_conv.0.conv.{kind}"]
        del state[f"roi_head.bbox_head.shared_fcs.1.{kind}"]
    for number in range(4):
        conv = f"roi_head.bbox_head.shared_convs.{number}.conv"
        state[f"{conv}.weight"] = torch.rand(CHANNELS, CHANNELS, 3, 3)
        state[f"{conv}.bias"] = torch.rand(CHANNELS)

    found = convert(state)

    assert {*found.mapped.values(), *found.left} == set(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roi_head.bbox_head.fc_cls.weight": None}, "expected a Faster R-CNN or RetinaNet"),
        ({"backbone.layer1.0.se.weight": torch.zeros(2)}, "without a place: .*layer1.0.se"),
        ({"neck.fpn_convs.4.conv.weight": torch.zeros(2)}, "without a place: neck.fpn_convs.4"),
        ({"roi_head.bbox_head.fc_reg.weight": torch.zeros(4, 32)}, r"fc_reg.weight \(4, 32\) for"),
        ({"rpn_head.rpn_cls.bias": None}, "missing: heads.detection.rpn.logits.bias"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    state = trained(RESNET)[0] | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(ValueError, match=f"from_mmdet: .*{message}"):
        convert(state)
