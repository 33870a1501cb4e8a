"""What the configuration in mmdetection's files says, of versions 2 and 3."""

from __future__ import annotations

import pytest

from densekit.interop.detector import DetectorSettings
from densekit.interop.mmdet_settings import settings_of
from densekit.interop.openmmlab import Recipe, recipe_of

VERSION_3 = """
model = dict(
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(type="ResNeXt", depth=101, groups=32, base_width=8, style="pytorch"),
    neck=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type="RPNHead",
        anchor_generator=dict(
            type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_head=dict(bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2]))),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7)),
        rcnn=dict(score_thr=0.1, nms=dict(type="nms", iou_threshold=0.6), max_per_img=50)))
test_pipeline = [
    dict(type="LoadImageFromFile"), dict(type="Resize", scale=(1000, 600), keep_ratio=True)]
"""
VERSION_2 = """
model = dict(
    backbone=dict(type="ResNet", depth=50, style="caffe"),
    bbox_head=dict(type="RetinaHead", anchor_generator=dict(octave_base_scale=4)),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5)))
test_pipeline = [
    dict(
        type="MultiScaleFlipAug", img_scale=(1333, 800), flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="Normalize", mean=[102.98, 115.95, 122.77], std=[1.0, 1.0, 1.0],
                 to_rgb=False)])]
"""


def test_a_two_stage_detector_of_version_3() -> None:
    found = settings_of(recipe_of({"cfg": VERSION_3}), two_stage=True)
    assert found == DetectorSettings(
        stride_in_1x1=False,
        channel_order="bgr",
        mean=(103.53, 116.28, 123.675),
        std=(57.375, 57.12, 58.395),
        min_size=600,
        max_size=1000,
        score_threshold=0.1,
        nms_iou=0.6,
        max_detections=50,
    )


def test_a_one_stage_detector_of_version_2() -> None:
    found = settings_of(recipe_of({"config": VERSION_2}), two_stage=False)
    assert found == DetectorSettings(True, "bgr", (102.98, 115.95, 122.77), (1.0, 1.0, 1.0))


def test_without_a_configuration_nothing_is_known() -> None:
    assert settings_of(Recipe(), two_stage=True) == DetectorSettings()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scales=[8]", "scales=[4]", r"model.rpn_head.anchor_generator.scales: expected \[8\]"),
        ('type="ResNeXt"', 'type="HRNet"', "model.backbone.type: expected 'ResNet' or 'ResNeXt'"),
        ("nms_pre=1000", "nms_pre=2000", "model.test_cfg.rpn.nms_pre: expected 1000, got 2000"),
        ('nms=dict(type="nms", iou_threshold=0.6)', 'nms=dict(type="soft_nms")', "rcnn.nms.type"),
        ("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]", "bbox_head.bbox_coder.target_stds"),
        ("keep_ratio=True", "keep_ratio=False", "cannot be understood.*whatever their ratio"),
        ("mean=[103.53, 116.28, 123.675]", "mean=['a']", "cannot be understood"),
    ],
)
def test_settings_without_a_counterpart_are_refused(old: str, new: str, message: str) -> None:
    assert old in VERSION_3
    with pytest.raises(ValueError, match=f"from_mmdet: .*{message}"):
        settings_of(recipe_of({"cfg": VERSION_3.replace(old, new)}), two_stage=True)
