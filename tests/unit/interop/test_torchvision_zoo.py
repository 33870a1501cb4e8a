"""Published models of torchvision by name, with a seeded file in place of the download."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models import ResNet18_Weights, get_model_weights

from densekit import Predictor
from densekit.interop import convert
from densekit.interop.torchvision_zoo import named_weights
from tests.unit.interop.peers import photo, saved, shaken


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache of downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_a_classifier_by_name(cache: Path) -> None:
    torch.manual_seed(0)
    theirs = shaken(torchvision.models.resnet18())
    weights = ResNet18_Weights.IMAGENET1K_V1
    saved(cache / Path(weights.url).name, theirs.state_dict())

    found = convert("torchvision:resnet18")

    assert found.source == "torchvision ResNet classifier, ResNet18_Weights.IMAGENET1K_V1"
    assert found.model.info["resize"] == {"min_size": 256, "crop": 224, "antialias": True}
    assert found.model.info["heads"]["classification"]["names"][1] == "goldfish"
    image = photo(300, 280)
    with torch.no_grad():
        expected = theirs(weights.transforms()(image)[None]).softmax(1)[0]
    (ours,) = Predictor(found.model).head("classification")([image])
    # torchvision rounds the resized image to 8 bits
    torch.testing.assert_close(torch.as_tensor(ours["probabilities"]), expected, rtol=0, atol=1e-3)


def test_a_detector_by_name_has_the_classes_of_coco(cache: Path) -> None:
    torch.manual_seed(0)
    entry = get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT
    theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91
    )
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    saved(cache / Path(entry.url).name, state)

    model = convert("torchvision:fasterrcnn_resnet50_fpn.COCO_V1").model

    known, own = model.info["heads"]["detection"], model.state_dict()
    assert len(known["names"]) == len(known["ids"]) == 80
    assert (known["names"][11], known["ids"][11]) == ("stop sign", 13)
    predictor = "roi_heads.box_predictor"
    logits, deltas = (
        own[f"heads.detection.box_head.{name}.weight"] for name in ("logits", "deltas")
    )
    assert torch.equal(logits[11], state[f"{predictor}.cls_score.weight"][13])
    assert torch.equal(logits[80], state[f"{predictor}.cls_score.weight"][0])
    assert torch.equal(deltas[44:48], state[f"{predictor}.bbox_pred.weight"][52:56])
    assert model.info["mean"][0] == pytest.approx(123.675)
    assert model.info["full_scale"] == 255


@pytest.mark.parametrize(
    ("name", "builder", "entry"),
    [
        ("resnet50", "resnet50", "IMAGENET1K_V2"),
        ("fcos_resnet50_fpn", "fcos_resnet50_fpn", "COCO_V1"),
        ("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2", "COCO_V1"),
        ("resnet50.IMAGENET1K_V1", "resnet50", "IMAGENET1K_V1"),
        ("resnet50.DEFAULT", "resnet50", "IMAGENET1K_V2"),
        ("FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1", "fasterrcnn_resnet50_fpn_v2", "COCO_V1"),
        ("deeplabv3_resnet50", "deeplabv3_resnet50", "COCO_WITH_VOC_LABELS_V1"),
    ],
)
def test_names(name: str, builder: str, entry: str) -> None:
    found = named_weights(name)
    assert (found[0], found[1].name) == (builder, entry)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fasterrcnn_resnet50_fpn_v3", "did you mean 'fasterrcnn_resnet50_fpn_v2'"),
        ("resnet50.IMAGENET1K_V3", "weights of resnet50: expected .*IMAGENET1K_V"),
        ("vgg16", "torchvision:NAME: expected"),
        ("keypointrcnn_resnet50_fpn", "torchvision:NAME: expected"),
        ("deeplabv3_mobilenet_v3_large", "torchvision:NAME: expected"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_weights(name)


def test_without_a_network_the_message_says_where_the_file_goes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(
        ConnectionError, match=rf"torchvision:resnet18: expected https.*pth to download.*{cache}"
    ):
        convert("torchvision:resnet18")


def test_a_damaged_download_is_refused(cache: Path) -> None:
    file = cache / Path(ResNet18_Weights.DEFAULT.url).name
    file.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(ValueError, match=f"torchvision:resnet18: expected whole weights at {file}"):
        convert("torchvision:resnet18")


def test_a_retinanet_by_name_has_no_class_for_the_background(cache: Path) -> None:
    torch.manual_seed(0)
    entry = get_model_weights("retinanet_resnet50_fpn_v2").DEFAULT
    theirs = torchvision.models.detection.retinanet_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=91
    )
    saved(cache / Path(entry.url).name, theirs.state_dict())

    found = convert("torchvision:retinanet_resnet50_fpn_v2")

    assert found.source.startswith("torchvision RetinaNet, 50 layers, FPN, RetinaNet_ResNet50")
    names = found.model.info["heads"]["detection"]["names"]
    assert names[0] == "person"
    head = found.model.heads["detection"]
    rows = theirs.head.classification_head.cls_logits.bias.view(9, 91)
    assert torch.equal(head.logits.bias.view(9, -1)[:, 0], rows[:, 1])
