"""detectron2's detectors by their names, against forwards after its code, in float64."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.artifact import model_from_artifact
from densekit.interop.detector import DetectorSettings
from densekit.interop.detectron2 import convert, from_detectron2, matches
from densekit.interop.pickled import read_pickle
from tests.parity.pyramid_reference import (
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
RESNET = Body(
    stem="backbone.bottom_up.stem.conv1",
    block="backbone.bottom_up.res{stage}.{block}",
    shortcut="shortcut",
    stride_in_1x1=True,
)
RESNEXT = replace(RESNET, stride_in_1x1=False, groups=4, depth=101)
MEAN, RESNEXT_STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]


def pyramid(weights: Weights, x: Tensor, body: Body, first: int = 2) -> list[Tensor]:
    """The levels from `first` to p6."""
    above, outputs = None, []
    for number, c in reversed(list(enumerate(body.levels(weights, x), start=2))[first - 2 :]):
        x = weights.conv(f"backbone.fpn_lateral{number}", c, CHANNELS, std=1.0)
        above = x if above is None else x + F.interpolate(above, scale_factor=2.0)
        outputs.insert(0, weights.conv(f"backbone.fpn_output{number}", above, CHANNELS, 3, std=1.0))
    return [*outputs, F.max_pool2d(outputs[-1], 1, 2)]


def prepared(image: Tensor, body: Body) -> Tensor:
    """Channels turned round, normalised, padded to a multiple of 32."""
    std = [1.0] * 3 if body.groups == 1 else RESNEXT_STD
    mean, std = (image.new_tensor(value)[:, None, None] for value in (MEAN, std))
    x = (image.flip(0) - mean) / std
    return F.pad(x, [0, -x.shape[2] % 32, 0, -x.shape[1] % 32])[None]


def faster_rcnn(weights: Weights, image: Tensor, body: Body) -> Detections:
    """`GeneralizedRCNN.inference` of one RGB image (3, H, W)."""
    size = (image.shape[1], image.shape[2])
    levels = pyramid(weights, prepared(image, body), body)
    dense = []
    for number, x in enumerate(levels, start=2):
        y = weights.conv("proposal_generator.rpn_head.conv", x, CHANNELS, 3).relu()
        logits = weights.conv("proposal_generator.rpn_head.objectness_logits", y, 3, std=2.0)
        deltas = weights.conv("proposal_generator.rpn_head.anchor_deltas", y, 12, std=0.1)
        anchors = anchors_of(x, 2**number, cell_anchors([8 * 2**number]))
        dense.append((per_anchor(logits, 1), per_anchor(deltas, 4), anchors))
    boxes = proposals(dense, size, 1000, 1000)
    x = pooled(levels[:4], boxes).flatten(1)
    for name in ("fc1", "fc2"):
        x = weights.linear(f"roi_heads.box_head.{name}", x, HIDDEN, 1.0).relu()
    logits = weights.linear("roi_heads.box_predictor.cls_score", x, CLASSES + 1, 2.0)
    deltas = weights.linear("roi_heads.box_predictor.bbox_pred", x, 4 * CLASSES, 0.5)
    return detections(logits, deltas, boxes, size)


def retinanet(weights: Weights, image: Tensor, body: Body) -> Detections:
    """`RetinaNet.inference` of one RGB image (3, H, W)."""
    x = prepared(image, body)
    c5 = body.levels(weights, x)[-1]
    p6 = weights.conv("backbone.top_block.p6", c5, CHANNELS, 3, stride=2, std=1.0)
    p7 = weights.conv("backbone.top_block.p7", p6.relu(), CHANNELS, 3, stride=2, std=1.0)
    levels = [*pyramid(weights, x, body, first=3)[:-1], p6, p7]
    dense = []
    for number, x in enumerate(levels, start=3):
        of_classes, of_boxes = x, x
        for layer in (0, 2, 4, 6):
            of_classes = weights.conv(f"head.cls_subnet.{layer}", of_classes, CHANNELS, 3, std=1.0)
            of_boxes = weights.conv(f"head.bbox_subnet.{layer}", of_boxes, CHANNELS, 3, std=1.0)
            of_classes, of_boxes = of_classes.relu(), of_boxes.relu()
        logits = weights.conv("head.cls_score", of_classes, 9 * CLASSES, 3, std=2.0)
        deltas = weights.conv("head.bbox_pred", of_boxes, 36, 3, std=0.3)
        sizes = [4 * 2**number * 2 ** (step / 3) for step in range(3)]
        anchors = anchors_of(x, 2**number, cell_anchors(sizes))
        dense.append((per_anchor(logits, CLASSES), per_anchor(deltas, 4), anchors))
    return dense_detections(dense, (image.shape[1], image.shape[2]), clip_first=False)


@cache
def _trained(
    body: Body, detector: Callable[..., Detections]
) -> tuple[dict[str, Tensor], Detections]:
    """A state dict and the detections in the picture."""
    weights = Weights(_norm_of)
    found = detector(weights, picture(), body)
    return weights.state, found


def trained(
    body: Body, detector: Callable[..., Detections] = faster_rcnn
) -> tuple[dict[str, Tensor], Detections]:
    """A state dict of one's own and the detections in the picture."""
    state, found = _trained(body, detector)
    return dict(state), found


def _norm_of(conv: str) -> str:
    return f"{conv}.norm"


@pytest.mark.parametrize("body", [RESNET, RESNEXT], ids=["resnet50", "resnext101"])
def test_faster_rcnn_detects_the_same(body: Body) -> None:
    state, expected = trained(body)
    assert matches(state)

    found = convert(state)

    assert {*found.mapped.values()} == set(state)
    assert_detects(found.model, expected)


@pytest.mark.parametrize("body", [RESNET, RESNEXT], ids=["resnet50", "resnext101"])
def test_retinanet_detects_the_same(body: Body) -> None:
    state, expected = trained(body, retinanet)
    assert matches(state)

    found = convert(state)

    assert found.source.startswith("detectron2 RetinaNet, ResNe")
    assert {*found.mapped.values()} == set(state)
    assert_detects(found.model, expected)


def test_files_of_the_model_zoo_and_of_own_training(tmp_path: Path) -> None:
    state, expected = trained(RESNET)
    extra = {
        "pixel_mean": torch.tensor(MEAN)[:, None, None],
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    arrays = {name: value.numpy() for name, value in (state | extra).items()}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    torch.save({"model": state, "iteration": 9}, tmp_path / "model.pth")

    zoo = convert(read_pickle(tmp_path / "model.pkl")["model"])
    own = convert(torch.load(tmp_path / "model.pth", weights_only=True)["model"])

    assert set(zoo.left) == set(extra)
    assert zoo.model.info["mean"] == pytest.approx(MEAN)
    for found in (zoo, own):
        assert_detects(found.model, expected)
    zoo.save(tmp_path / "model.ckpt")
    again = model_from_artifact(tmp_path / "model.ckpt").double()  # rounded to float32 meanwhile
    assert again.info == zoo.model.info
    assert_detects(again, expected, tolerance=10)


def test_mask_rcnn_segments_the_same() -> None:
    state, expected = trained(RESNET)
    weights = Weights(_norm_of, state)
    levels = pyramid(weights, prepared(picture(), RESNET), RESNET)[:4]
    layers = [*(f"mask_fcn{number}" for number in range(1, 5)), "deconv", "predictor"]
    names = [f"roi_heads.mask_head.{layer}" for layer in layers]
    masks = mask_branch(weights, names, levels, expected, CLASSES)

    found = convert(state)

    assert found.source.startswith("detectron2 Mask R-CNN, ResNe")
    assert {*found.mapped.values()} == set(state)
    assert_detects(found.model, expected)
    assert_segments(found.model, masks)


def test_parts_can_be_left_out() -> None:
    state, expected = trained(RESNET)
    state["roi_heads.keypoint_head.conv_fcn1.weight"] = torch.zeros(4, 4, 3, 3)

    with pytest.raises(ValueError, match=r"a keypoint head; leave=\[roi_heads.keypoint_head\] "):
        convert(state)
    assert_detects(from_detectron2(state, leave=["roi_heads.keypoint_head"]), expected)
    with pytest.raises(ValueError, match="leave.*did you mean 'roi_heads.keypoint_head'"):
        from_detectron2(state, leave=["roi_heads.keypoint_heads"])


def test_settings_of_a_configuration() -> None:
    rgb = replace(RESNET, stride_in_1x1=False)
    state, _ = trained(rgb)
    settings = DetectorSettings(
        stride_in_1x1=False, channel_order="rgb", mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0),
        min_size=640, max_size=900, score_threshold=0.2, nms_iou=0.6, max_detections=7,
    )  # fmt: skip

    found = convert(state, list("abcde"), settings=settings)

    info = found.model.info
    assert (info["channel_order"], info["mean"], info["std"]) == ("rgb", [1, 2, 3], [4, 5, 6])
    assert info["resize"] == {"min_size": 640, "max_size": 900, "antialias": True, "rounded": True}
    assert info["heads"]["detection"]["names"] == list("abcde")
    rule = found.model.heads["detection"].detection
    assert (rule.score_threshold, rule.nms_iou, rule.max_detections) == (0.2, 0.6, 7)
    assert not found.config["backbone"].get("stride_in_1x1", False)


def test_layers_of_the_newer_baselines() -> None:
    """Batch norm everywhere, two convolutions in the RPN, four and one layer in the box head."""
    state, _ = trained(RESNET)
    counter = {"num_batches_tracked": torch.tensor(3)}

    def norm(name: str, channels: int) -> dict[str, Tensor]:
        kinds = ("weight", "bias", "running_mean", "running_var")
        values = {kind: torch.rand(channels).double() for kind in kinds} | counter
        return {f"{name}.norm.{kind}": value for kind, value in values.items()}

    for level in range(2, 6):
        for kind in ("lateral", "output"):
            del state[f"backbone.fpn_{kind}{level}.bias"]
            state |= norm(f"backbone.fpn_{kind}{level}", CHANNELS)
    for name in [key.removesuffix(".norm.weight") for key in state if "res" in key]:
        if f"{name}.norm.weight" in state:
            state |= {f"{name}.norm.{key}": value for key, value in counter.items()}
    rpn = "proposal_generator.rpn_head.conv"
    for kind in ("weight", "bias"):
        state[f"{rpn}.conv0.{kind}"] = state.pop(f"{rpn}.{kind}")
        state[f"{rpn}.conv1.{kind}"] = state[f"{rpn}.conv0.{kind}"]
        del state[f"roi_heads.box_head.fc2.{kind}"]
    for number in range(1, 5):
        name = f"roi_heads.box_head.conv{number}"
        state |= {f"{name}.weight": torch.rand(CHANNELS, CHANNELS, 3, 3).double()}
        state |= norm(name, CHANNELS)

    found = convert(state)

    assert set(found.mapped.values()) == set(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roi_heads.box_head.conv9.weight": torch.zeros(2)}, "without a place: .*conv9.weight"),
        ({"backbone.fpn_output3.bias": torch.zeros(3)}, r"fpn_output3.bias \(3,\) for"),
        (
            {"roi_heads.box_predictor.cls_score.weight": None},
            "expected a Faster R-CNN or RetinaNet with",
        ),
        ({"backbone.fpn_lateral2.weight": None}, "expected a Faster R-CNN or RetinaNet with"),
        ({"backbone.bottom_up.res3.0.conv1.weight": None}, r"of blocks|stages of \(3, 3, 6, 3\)"),
        ({"roi_heads.box_head.fc1.bias": None}, "missing: heads.detection.box_head.hidden.0.bias"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    state = trained(RESNET)[0] | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(ValueError, match=f"from_detectron2: .*{message}"):
        convert(state)
