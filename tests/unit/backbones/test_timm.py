"""timm's networks keep the backbone contract; heads and necks build on them."""

from __future__ import annotations

import builtins
import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from densekit import DenseModel
from densekit.backbones import ResNet, TimmBackbone
from densekit.heads import FasterRCNN, SmpHead, UNet
from densekit.necks import FPN
from densekit.testing import check_backbone, check_backbone_graphs
from densekit.types import IMAGENET_MEAN, IMAGENET_STD, FeatureSpec

SMALL = ["resnet18", "mobilenetv3_small_050", "convnext_atto"]


def strides(backbone: TimmBackbone) -> dict[str, int]:
    return {level: spec.stride[0] for level, spec in backbone.features.items()}


@pytest.mark.parametrize("name", SMALL)
def test_contract(name: str) -> None:
    check_backbone(TimmBackbone(name), 64)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "resnet18", "in_channels": 4, "freeze_stages": 2},
        {"name": "mobilenetv3_small_050", "in_channels": 1, "freeze_stages": 3},
        {"name": "convnext_atto", "freeze_stages": 1, "settings": {"drop_path_rate": 0.1}},
        {"name": "convnext_atto", "output_stride": 16, "settings": {"out_indices": (1, 2, 3)}},
    ],
    ids=str,
)
def test_contract_of_settings(settings: dict[str, Any]) -> None:
    check_backbone(TimmBackbone(**settings), 64)


def test_one_graph() -> None:
    check_backbone_graphs(TimmBackbone("convnext_atto"), 64)


def test_the_number_is_the_stage() -> None:
    with torch.device("meta"):
        stem, patches = TimmBackbone("resnet18"), TimmBackbone("convnext_atto")
        dilated = TimmBackbone("resnet18", output_stride=8)
        large = TimmBackbone("vgg11_bn")
    assert strides(stem) == {"c0": 1, "c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}
    assert strides(patches) == {"c0": 1, "c2": 4, "c3": 8, "c4": 16, "c5": 32}
    assert strides(dilated) == {"c0": 1, "c1": 2, "c2": 4, "c3": 8, "c4": 8, "c5": 8}
    assert strides(large) == {"c0": 1, "c1": 1, "c2": 2, "c3": 4, "c4": 8, "c5": 16, "c6": 32}
    assert patches.features["c5"] == FeatureSpec(320, (32, 32))
    assert (stem.size_divisor, dilated.size_divisor) == (32, 8)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_resnet_is_ours(output_stride: int) -> None:
    ours = ResNet(18, output_stride=output_stride).eval()
    theirs = TimmBackbone("resnet18", output_stride=output_stride).eval()
    theirs.model.load_state_dict(ours.state_dict())
    image = torch.randn(2, 3, 75, 97)
    with torch.no_grad():
        expected, found = ours(image), theirs(image)
    assert list(found) == list(expected)
    assert theirs.features == ours.features
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_detector_and_segmenter(name: str) -> None:
    model = DenseModel(
        TimmBackbone(name),
        {
            "detection": partial(FasterRCNN, num_classes=3),
            "segmentation": partial(UNet, num_classes=2),
        },
        partial(FPN, out_channels=32),
    ).eval()
    assert model.size_divisor == 32
    image, size = torch.rand(1, 3, 70, 90) * 255, torch.tensor([[70, 90]])
    with torch.no_grad():
        outputs = model(image, size)
        boxes = model.predict({"image": image, "size": size})["detection"]["boxes"]
    assert outputs["segmentation"]["logits"].shape == (1, 2, 96, 96)
    assert boxes.isfinite().all()


def test_trimmed_stages_are_gone() -> None:
    model = DenseModel(
        TimmBackbone("convnext_atto"), {"segmentation": partial(UNet, num_classes=2, depth=3)}
    )
    assert list(model.backbone.features) == ["c0", "c2", "c3"]
    assert model.size_divisor == 8
    assert not any("stages.2" in key for key in model.state_dict())
    with pytest.raises(ValueError, match="expected every level from c0 to c4, got no c1"):
        SmpHead(TimmBackbone("convnext_atto").features, 2, "unet", depth=4)
    with pytest.raises(ValueError, match="depth: expected 2 to 5, a level of the backbone, got 1"):
        UNet(TimmBackbone("convnext_atto").features, 2, depth=1)


def test_frozen_levels_stay_and_later_ones_learn() -> None:
    network = TimmBackbone("mobilenetv3_small_050", freeze_stages=2)
    before = copy.deepcopy(network.state_dict())
    network.train()
    network(torch.randn(2, 3, 64, 64))["c5"].square().mean().backward()
    moved = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert moved
    assert all(key.startswith("model.blocks") for key in moved)
    assert not any(key.startswith("model.blocks.0.") for key in moved)  # c2
    assert any(key.startswith("model.blocks.1.") for key in moved)
    learn = {key for key, p in network.named_parameters() if p.grad is not None}
    assert {key.split(".")[1] for key in learn} == {"blocks"}
    assert not any(key.startswith("model.blocks.0.") for key in learn)


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = timm.create_model("mobilenetv3_small_050").state_dict()
    return state


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.model."])
def test_weights_from_a_file(
    prefix: str, small: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save_file({prefix + key: value for key, value in small.items()}, tmp_path / "w.safetensors")
    network = TimmBackbone("mobilenetv3_small_050", weights=tmp_path / "w.safetensors")
    assert all(torch.equal(v, small[k]) for k, v in network.model.state_dict().items())
    assert (
        "left out: classifier.bias, classifier.weight, conv_head.bias, conv_head.weight"
        in caplog.text
    )
    assert network.statistics is None


def test_weights_are_adapted_to_a_grey_image(small: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(small, tmp_path / "w.safetensors")
    path = tmp_path / "w.safetensors"
    grey = TimmBackbone("mobilenetv3_small_050", in_channels=1, weights=path).eval()
    rgb = TimmBackbone("mobilenetv3_small_050", weights=path).eval()
    image = torch.randn(1, 1, 64, 64)
    got, expected = grey(image)["c5"], rgb(image.expand(1, 3, -1, -1))["c5"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(small: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(small, path)
    with pytest.raises(ValueError, match="weights: .* fits this network, got tensors missing"):
        TimmBackbone("convnext_atto", weights=path)
    save_file({**small, "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"not in this network: extra\.weight"):
        TimmBackbone("mobilenetv3_small_050", weights=path)
    with pytest.raises(ValueError, match="weights: expected none with pretrained=true, got"):
        TimmBackbone("mobilenetv3_small_050", weights=path, pretrained=True)
    with pytest.raises(ValueError, match="weights: expected a URL, pip:PACKAGE, .* path of a"):
        TimmBackbone("mobilenetv3_small_050", weights="IMAGENET1K_V1")


def test_statistics_of_timm() -> None:
    overlay = {"state_dict": timm.create_model("mobilenetv3_small_050").state_dict()}
    network = TimmBackbone(
        "mobilenetv3_small_050", pretrained=True, settings={"pretrained_cfg_overlay": overlay}
    )
    assert network.statistics == (IMAGENET_MEAN, IMAGENET_STD)


def test_refuses() -> None:
    with pytest.raises(
        ValueError, match="name: expected a model of timm, got 'resnet19'; did you mean 'resnet"
    ):
        TimmBackbone("resnet19")
    with pytest.raises(TypeError, match="no_such_setting"):
        TimmBackbone("resnet18", settings={"no_such_setting": 1})
    with pytest.raises(ValueError, match="freeze_stages: expected 0 to 4, got 5"):
        TimmBackbone("convnext_atto", freeze_stages=5)
    with pytest.raises(ValueError, match="did you mean"):
        TimmBackbone("convnext_atto").trim(["c1"])


@pytest.mark.parametrize(
    "name",
    ["inception_v3", "inception_v4", "inception_resnet_v2", "legacy_xception", "nasnetalarge"],
)
def test_networks_without_padding_are_refused(name: str) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=rf"^name: expected c1 of timm's {name} to be .* got "),
    ):
        TimmBackbone(name)


@pytest.mark.parametrize("name", ["hardcorenas_a", "levit_128s", "crossvit_9_240"])
def test_networks_without_maps_of_their_strides_are_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=rf"^name: expected .*{name}"):
        TimmBackbone(name)


def test_networks_of_one_size_say_which() -> None:
    with torch.device("meta"):
        network = TimmBackbone("vit_tiny_patch16_224").eval()
        larger = TimmBackbone("vit_tiny_patch16_224", settings={"img_size": [64, 96]}).eval()
        free = TimmBackbone("vit_tiny_patch16_224", settings={"dynamic_img_size": True}).eval()
        image = torch.empty(1, 3, 64, 96)
    assert (network.only, larger.only, free.only) == ((224, 224), (64, 96), None)
    message = "image: expected 224 x 224 pixels, .* vit_tiny_patch16_224 takes, got 64 x 96"
    with pytest.raises(ValueError, match=message):
        network(image)
    for other in (larger, free):
        assert [tuple(level.shape[2:]) for level in other(image).values()][1:] == [(4, 6)] * 3


FAMILIES = {timm.models._registry._model_to_module[name]: name for name in timm.list_models()[::-1]}


@pytest.mark.slow  # a network of each of a hundred families
@pytest.mark.parametrize("name", FAMILIES.values())
def test_every_family_keeps_the_contract_or_is_refused(name: str) -> None:
    with torch.device("meta"):
        try:
            network = TimmBackbone(name).eval()
        except ValueError as error:
            assert str(error).startswith("name: expected ")  # noqa: PT017
            assert name in str(error)  # noqa: PT017
            return
        step = network.size_divisor
        sizes = [network.only] if network.only else [(8 * step, 10 * step), (12 * step, 9 * step)]
        for height, width in sizes:
            levels = network(torch.empty(1, 3, height, width))
            for level, spec in network.features.items():
                expected = (spec.channels, height // spec.stride[0], width // spec.stride[1])
                assert tuple(levels[level].shape[1:]) == expected


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "timm":
            raise ImportError("no module named timm")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="TimmBackbone needs timm: pip install timm"):
        TimmBackbone("resnet18")
