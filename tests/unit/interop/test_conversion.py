"""The core of conversions: every tensor is mapped or left for a reason, or it is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from densekit import Predictor
from densekit.artifact import model_from_artifact
from densekit.backbones import ResNet
from densekit.heads import Classification, FasterRCNN
from densekit.heads.faster_rcnn import RPN, BoxHead, BoxLossRule, DetectionRule
from densekit.interop.conversion import Conversion, Parts, as_node, convert_tensors, renamer

PARTS = Parts(
    partial(ResNet, depth=18, width=8), {"classification": partial(Classification, num_classes=2)}
)
INFO = {"heads": {"classification": {"names": ["a", "b"], "num_classes": 2}}, "channels": 3}
RENAME = renamer([(r"^net\.fc\.", "heads.classification.fc."), (r"^net\.", "backbone.")])
DROPPED = {r"projector\.": "a projection head of the training"}


def _state() -> dict[str, Tensor]:
    """Weights under another library's names."""
    torch.manual_seed(0)
    backbone = ResNet(depth=18, width=8)
    head = nn.Linear(64, 2)
    state = {f"net.{key}": value for key, value in backbone.state_dict().items()}
    return state | {f"net.fc.{key}": value for key, value in head.state_dict().items()}


def _converted(state: dict[str, Tensor]) -> Conversion:
    return convert_tensors(
        "from_other", PARTS, INFO, state, RENAME, source="other", dropped=DROPPED
    )


def test_every_tensor_is_mapped_or_left(tmp_path):
    state = _state() | {"projector.0.weight": torch.zeros(3)}

    found = _converted(state)

    assert {*found.mapped.values(), *found.left} == set(state)
    assert found.left == {"projector.0.weight": "a projection head of the training"}
    own = found.model.state_dict()
    assert all(torch.equal(own[ours], state[theirs]) for ours, theirs in found.mapped.items())
    found.save(tmp_path / "a.ckpt")
    again = model_from_artifact(tmp_path / "a.ckpt").state_dict()
    assert all(torch.equal(own[key], again[key]) for key in own | again)
    assert Predictor(tmp_path / "a.ckpt").model.info["heads"] == INFO["heads"]


def test_a_tensor_without_a_place_is_refused():
    with pytest.raises(ValueError, match="from_other: .* without a place: net.layer5.weight$"):
        _converted(_state() | {"net.layer5.weight": torch.zeros(3)})


def test_a_missing_tensor_is_refused_and_a_missing_counter_is_not():
    state = {key: value for key, value in _state().items() if "num_batches" not in key}
    assert _converted(state).mapped
    del state["net.conv1.weight"]

    with pytest.raises(ValueError, match="missing: backbone.conv1.weight$"):
        _converted(state)


def test_another_shape_is_refused():
    wrong = {"net.fc.weight": torch.zeros(5, 64)}

    with pytest.raises(ValueError, match=r"net.fc.weight \(5, 64\) for heads.* \(2, 64\)$"):
        _converted(_state() | wrong)


def test_two_tensors_of_one_name_are_refused():
    double = {"backbone.conv1.weight": torch.zeros(8, 3, 7, 7)}

    with pytest.raises(ValueError, match="expected one tensor for backbone.conv1.weight"):
        _converted(_state() | double)


def test_float64_weights_stay_and_half_precision_becomes_float32():
    def dtype(state: dict[str, Tensor]) -> torch.dtype:
        return _converted(state).model.backbone.state_dict()["conv1.weight"].dtype

    assert dtype({k: v.double() for k, v in _state().items()}) == torch.float64
    assert dtype({k: v.half() for k, v in _state().items()}) == torch.float32


def test_constructors_become_nodes_with_public_paths():
    head = partial(
        FasterRCNN,
        num_classes=2,
        rpn=partial(RPN, aspect_ratios=(0.5, 1.0)),
        box_head=partial(
            BoxHead, norm=nn.BatchNorm2d, box_loss=BoxLossRule(delta_weights=(2.0, 2.0, 1.0, 1.0))
        ),
        detection=DetectionRule(score_threshold=0.1),
    )

    node = as_node(head)

    assert node["_target_"] == "densekit.heads.FasterRCNN"
    assert node["rpn"] == {
        "_target_": "densekit.heads.faster_rcnn.RPN",
        "_partial_": True,
        "aspect_ratios": [0.5, 1.0],
    }
    assert node["box_head"]["norm"] == {"_target_": "torch.nn.BatchNorm2d", "_partial_": True}
    assert node["box_head"]["box_loss"]["delta_weights"] == [2.0, 2.0, 1.0, 1.0]
    assert node["detection"]["score_threshold"] == 0.1
