"""DenseModel: shapes are wired, images normalised, and mistakes named."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit import DenseModel
from densekit.backbones.base import Statistics
from densekit.heads import FasterRCNN, Head
from densekit.necks import FPN
from densekit.types import Batch, Features, FeatureSpec, Predictions
from tests.unit.inference.segmenter import tiny_segmenter
from tests.unit.tiny import SMALL_HEAD, TinyBackbone, spread, targets, tiny_detector


class Mean(Head):
    """Scores an image by the mean of one level."""

    target_keys = ("category",)

    def __init__(self, specs: dict[str, FeatureSpec], level: str = "c3") -> None:
        super().__init__()
        self.reads = (level,)
        self.size_divisor = 6

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        return {"logits": features[self.reads[0]].mean((1, 2, 3))}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        return {"scores": outputs["logits"].sigmoid()}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return {"error": (self(features, batch["size"])["logits"] - batch["category"]).abs().sum()}


def mean_model(level: str = "c3", **options: Any) -> DenseModel:
    return DenseModel(TinyBackbone(), {"mean": partial(Mean, level=level)}, **options)


IDENTITY = {"mean": [0.0] * 3, "std": [1.0] * 3}


def plain(**info: Any) -> DenseModel:
    return mean_model(info=IDENTITY | info)


def test_no_pyramid_where_none_is_read() -> None:
    model = mean_model("c3", neck=partial(FPN, out_channels=8))
    assert model.neck is None
    assert len(model.backbone.stages) == 3


def test_a_pyramid_of_the_levels_read() -> None:
    model = mean_model("p4", neck=partial(FPN, out_channels=8))
    assert model.neck is not None
    assert model.neck.levels == ("p4",)
    assert len(model.backbone.stages) == 5
    found = model.features({"image": torch.zeros(1, 3, 64, 64), "size": torch.tensor([[64, 64]])})
    assert found["p4"].shape == (1, 8, 6, 6)  # padded to 96


def test_a_neck_may_be_a_bare_class() -> None:
    assert mean_model("p2", neck=FPN).neck is not None


def test_heads_share_a_pass() -> None:
    heads = {"mean": Mean, "detection": partial(FasterRCNN, **SMALL_HEAD)}
    model = DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=8))
    batch: Batch = {**targets([2, 1]), "category": torch.tensor([1, 0])}
    features = model.features(batch)
    losses = model.loss(batch, features)
    assert {name.split("/")[0] for name in losses} == {"mean", "detection"}
    assert model.loss(batch, features, ["mean"]).keys() == {"mean/error"}
    assert torch.equal(losses["mean/error"], model.loss(batch)["mean/error"])
    assert model.predict(batch, features, heads=["mean"]).keys() == {"mean"}
    outputs = model(batch["image"], batch["size"])
    assert outputs["mean"].keys() == {"logits"}


@pytest.mark.parametrize("name", ["type", "train", "keys", "forward", "a b", "2d", ""])
def test_refuses_names_of_methods(name: str) -> None:
    with pytest.raises(ValueError, match=f"heads: expected names .* got '{name}'"):
        DenseModel(TinyBackbone(), {name: Mean})


def test_refuses_a_level_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"heads\.mean: expected levels among c0, .* got p3; "):
        mean_model("p3")


def test_a_head_that_looks_up_a_level_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"heads\.mine: expected levels .* got p2; choose a neck"):
        DenseModel(TinyBackbone(), {"mine": partial(FasterRCNN, num_classes=2)})


def test_refuses_an_unknown_channel_order() -> None:
    with pytest.raises(
        ValueError, match="info.channel_order: .* got 'BGR'; did you mean 'bgr'|rgb, bgr"
    ):
        plain(channel_order="BGR")


def test_names_the_target_that_is_missing() -> None:
    batch = targets([1])
    del batch["labels"]
    with pytest.raises(
        ValueError, match=r"heads.detection: expected a batch with .* without \['labels'\]"
    ):
        tiny_detector().loss(batch)


def test_refuses_other_channels() -> None:
    with pytest.raises(ValueError, match=r"image: expected 3 channels, .* got 1"):
        plain().normalise(torch.zeros(1, 1, 6, 6), torch.tensor([[6, 6]]))


def test_normalises_by_mean_and_std() -> None:
    model = mean_model(info={"mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]})
    image = torch.full((1, 3, 6, 6), 9, dtype=torch.uint8)
    found = model.normalise(image, torch.tensor([[6, 6]]))
    assert found[0, :, 0, 0].tolist() == [4.0, 7 / 4, 6 / 8]
    assert (found == found[..., :1, :1]).all()


def test_bytes_are_brought_to_the_full_scale_and_floats_are_in_it() -> None:
    model, size = plain(full_scale=1), torch.tensor([[6, 6]])
    image = torch.randint(0, 256, (1, 3, 6, 6), dtype=torch.uint8)
    found = model.normalise(image, size)
    torch.testing.assert_close(found, image / 255)
    torch.testing.assert_close(model.normalise(image / 255, size), found)


def test_channels_are_flipped_for_weights_trained_on_bgr() -> None:
    image, size = torch.rand(1, 3, 6, 6), torch.tensor([[6, 6]])
    info = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    found = mean_model(info=info | {"channel_order": "bgr"}).normalise(image, size)
    assert torch.equal(found, mean_model(info=info).normalise(image.flip(1), size))


def test_padding_is_zero_after_normalising() -> None:
    model = mean_model(info={"mean": [5.0] * 3, "std": [1.0] * 3})
    assert model.size_divisor == 6
    image = torch.full((2, 3, 8, 9), 7.0)
    found = model.normalise(image, torch.tensor([[8, 9], [5, 4]]))
    assert found.shape == (2, 3, 12, 12)
    expected = torch.zeros(2, 3, 12, 12)
    expected[0, :, :8, :9] = expected[1, :, :5, :4] = 2
    assert torch.equal(found, expected)


def test_the_divisor_serves_heads_and_pyramid() -> None:
    assert mean_model("p4", neck=partial(FPN, out_channels=8)).size_divisor == 96


def test_mean_is_exact_in_float64() -> None:
    model = plain(mean=[0.1, 0.2, 0.3]).double()
    assert model.mean.flatten().tolist() == [0.1, 0.2, 0.3]
    assert "mean" not in model.state_dict()


def test_info_of_the_caller_is_left_alone() -> None:
    info: dict[str, Any] = {"full_scale": 1}
    model = mean_model(info=info)
    assert info == {"full_scale": 1}
    assert model.info["channel_order"] == "rgb"


def test_what_lies_in_the_padding_changes_no_prediction() -> None:
    model = tiny_detector().eval()
    spread(model)
    batch = targets([2, 2])
    batch["size"] = torch.tensor([[64, 96], [40, 50]])
    with torch.no_grad():
        found = model.predict(batch)["detection"]
        batch["image"][1, :, 40:] = 200
        batch["image"][1, :, :, 50:] = 90
        again = model.predict(batch)["detection"]
    assert found["valid"].any(1).all()
    assert all(torch.equal(found[key], again[key]) for key in found)


def test_resized_moves_images_and_boxes() -> None:
    batch = targets([2, 1], (32, 48))
    found = tiny_detector({"resize": {"min_size": 64, "max_size": 999}}).resized(batch)
    assert found["size"].tolist() == [[64, 96]] * 2
    torch.testing.assert_close(found["boxes"], batch["boxes"] * 2)
    assert tiny_detector().resized(batch) is batch


@pytest.mark.parametrize(("dims", "kind"), [(1, "series"), (3, "volumes")])
def test_a_resize_rule_is_for_pictures(dims: int, kind: str) -> None:
    with pytest.raises(ValueError, match=f"resize: expected null for {kind}"):
        tiny_segmenter(dims, resize={"min_size": 64})


def test_a_crop_is_not_for_heads_whose_results_have_a_place() -> None:
    with pytest.raises(ValueError, match=r"resize.crop: expected .* got heads.detection"):
        tiny_detector({"resize": {"min_size": 64, "crop": 32}})


@pytest.mark.parametrize(
    ("info", "warned"),
    [
        ({"mean": [127.0] * 3, "std": [128.0] * 3}, ""),
        ({"mean": [127 / 255] * 3, "std": [128 / 255] * 3, "full_scale": 1}, ""),
        ({}, "mean: expected [127.0, 127.0, 127.0], as the backbone's weights do, got [123.675,"),
        (
            {"mean": [0.5] * 3, "std": [0.5] * 3, "full_scale": 1},
            "got [0.5, 0.5, 0.5]; set mean=[0.498, 0.498, 0.498] and std=[0.502, 0.502, 0.502]",
        ),
    ],
)
def test_warns_of_other_statistics_than_the_weights_expect(
    info: dict[str, Any], warned: str, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = TinyBackbone()
    backbone.statistics = Statistics((127.0,) * 3, (128.0,) * 3)
    DenseModel(backbone, {"mean": Mean}, info=info)
    assert bool(caplog.text) == bool(warned)
    assert warned in caplog.text
