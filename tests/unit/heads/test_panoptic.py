"""Merging of instances and stuff: detectron2's rule, what it needs, and its place in a model."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from densekit import DenseModel, Predictor
from densekit.artifact import model_from_artifact, save_artifact
from densekit.heads import Head, Panoptic, SemanticFPN
from densekit.inference import WholeImage
from densekit.metrics import PanopticQuality
from densekit.necks import FPN
from densekit.ops.run_lengths import encode
from densekit.training.metric_set import build_metrics, check_heads
from densekit.training.monitors import main_metric
from densekit.types import Batch, Features, FeatureSpec, Predictions
from tests.unit.tiny import TinyBackbone

THINGS = {"names": ["cat", "dog"], "ids": [3, 7], "num_classes": 2}
STUFF = {
    "names": ["things", "sky", "dog", "grass"],
    "ids": [0, 20, 7, 30],
    "num_classes": 4,
    "background": True,
}
HEADS = {"detection": THINGS, "segmentation": STUFF}
merger = partial(Panoptic, things="detection", stuff="segmentation")


def by_the_rule(
    planes: NDArray[np.bool_], scores: Any, labels: Any, mask: Any, area_limit: int
) -> tuple[NDArray[np.int32], list[tuple[int, int, bool]]]:
    """detectron2's `combine_semantic_and_instance_outputs`, plane by plane."""
    panoptic, segments = np.zeros(mask.shape, np.int32), []
    for row in np.argsort(-scores, kind="stable"):
        inside = planes[row]
        if scores[row] < 0.5 or not inside.any():
            continue
        taken = inside & (panoptic > 0)
        if taken.sum() / inside.sum() > 0.5:
            continue
        segments.append((len(segments) + 1, int(labels[row]), True))
        panoptic[inside & (panoptic == 0)] = len(segments)
    for value, label in ((1, 2), (3, 3)):
        free = (mask == value) & (panoptic == 0)
        if free.sum() >= area_limit:
            segments.append((len(segments) + 1, label, False))
            panoptic[free] = len(segments)
    return panoptic, segments


@pytest.mark.parametrize("seed", range(8))
def test_the_rule_of_detectron2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes = np.zeros((9, 20, 30), dtype=bool)
    for plane in planes[:8]:  # the last one is empty
        top, left = rng.integers(0, 14), rng.integers(0, 24)
        plane[top : top + rng.integers(3, 12), left : left + rng.integers(3, 14)] = True
    scores, labels = np.round(rng.random(9) + 0.3, 1), rng.integers(0, 2, 9)
    mask = np.repeat(rng.integers(0, 4, (20, 6)), 5, axis=1).astype(np.uint8)
    results: Any = {
        "detection": {"masks": encode(planes), "scores": scores, "labels": labels},
        "segmentation": {"mask": mask},
    }
    merge = merger(HEADS, min_stuff_area=60)

    found = merge(results)

    expected, segments = by_the_rule(planes, scores, labels, mask, 60)
    np.testing.assert_array_equal(found["panoptic"], expected)
    listed = [(one["id"], one["label"], one["isthing"]) for one in found["segments"]]
    assert listed == segments
    for one in found["segments"]:
        assert one["area"] == (expected == one["id"]).sum()
        assert ("score" in one) is one["isthing"]
        assert one["name"] == merge.info["names"][one["label"]]


def test_its_classes_are_the_things_and_what_else_the_mask_has() -> None:
    assert merger(HEADS).info == {
        "names": ["cat", "dog", "sky", "grass"],
        "ids": [3, 7, 20, 30],
        "num_classes": 4,
        "num_things": 2,
        "stuff": [1, 3],
    }


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"detections": THINGS, "segmentation": STUFF}, "things: .* did you mean 'detections'"),
        ({"detection": {}, "segmentation": STUFF}, "things: expected a head with names and ids"),
        ({"detection": THINGS, "segmentation": {**STUFF, "multilabel": True}}, "got multilabel"),
        ({"detection": STUFF, "segmentation": STUFF}, "stuff: expected a class besides the things"),
    ],
)
def test_heads_that_cannot_be_merged(heads: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merger(heads)


def test_boxes_alone_are_refused() -> None:
    results: Any = {
        "detection": {"boxes": np.zeros((0, 4))},
        "segmentation": {"mask": np.zeros((2, 2))},
    }
    with pytest.raises(ValueError, match="expected instance masks of heads.detection"):
        merger(HEADS)(results)


class Instances(Head):
    """Finds one instance in the left half of every image, whatever it shows."""

    reads = ("c0",)
    target_keys = ("boxes",)

    def __init__(self, specs: dict[str, FeatureSpec]) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        half = size.flip(1) / torch.tensor([2, 1])
        return {"boxes": torch.cat([torch.zeros_like(half), half], 1)[:, None] * self.scale}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        rows = torch.ones(len(size), 1)
        more = {"scores": rows, "labels": rows.long(), "valid": rows > 0}
        return {**outputs, **more, "masks": torch.ones(len(size), 1, 28, 28)}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        return {"none": 0 * self.scale}


def panoptic_model(**settings: Any) -> DenseModel:
    torch.manual_seed(0)
    heads = {"detection": Instances, "segmentation": partial(SemanticFPN, num_classes=4)}
    combine = {"panoptic": partial(merger, min_stuff_area=1)}
    settings = {"info": {"heads": HEADS}, "combine": combine, **settings}
    return DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=8), **settings).eval()


def test_a_model_combines_its_results_whatever_predicts_them() -> None:
    model = panoptic_model()
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    predictor = Predictor(model, inferer=WholeImage())

    (result,) = predictor([image])

    assert list(result) == ["detection", "segmentation", "panoptic"]
    panoptic, segments = result["panoptic"]["panoptic"], result["panoptic"]["segments"]
    assert (panoptic[1:-1, 1:29] == 1).all()  # pasting rounds the corners
    assert segments[0]["name"] == "dog"
    right = result["segmentation"]["mask"][:, 31:]
    assert ((panoptic[:, 31:] > 0) == np.isin(right, [1, 3])).all()
    (alone,) = predictor.head("panoptic")([image])
    np.testing.assert_array_equal(alone["panoptic"], panoptic)


def test_it_is_measured_first_where_a_data_set_has_all_its_parts() -> None:
    model = panoptic_model()
    both = build_metrics(model, None, {})
    assert list(both.metrics) == ["panoptic", "detection", "segmentation"]
    assert main_metric(model, "panoptic", both.names()) == ("panoptic/PQ", "max")
    assert list(build_metrics(model, ["segmentation"], {}).metrics) == ["segmentation"]
    replaced = build_metrics(model, None, {"panoptic": {"mine": PanopticQuality}})
    assert list(replaced.metrics["panoptic"]) == ["mine"]
    with pytest.raises(ValueError, match="did you mean 'panoptic'"):
        check_heads({"panoptics": {}}, [*model.heads, *model.combined])


def test_a_checkpoint_keeps_it(tmp_path: Any) -> None:
    node = {"_target_": "densekit.heads.Panoptic", "_partial_": True, "min_stuff_area": 5}
    config = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8},
        "neck": {"_target_": "densekit.necks.FPN", "_partial_": True, "out_channels": 8},
        "heads": {
            name: {"_target_": "densekit.heads.SemanticFPN", "_partial_": True, "num_classes": 4}
            for name in HEADS
        },
        "combine": {"panoptic": {**node, "things": "detection", "stuff": "segmentation"}},
    }
    from densekit.build import build_model

    model = build_model(config, {"heads": HEADS})
    save_artifact(tmp_path / "model.ckpt", model, yaml.safe_dump(config))
    loaded: Any = model_from_artifact(tmp_path / "model.ckpt").combined["panoptic"]
    assert loaded.min_stuff_area == 5
    other: Any = {**config, "combine": {"panoptic": {"_target_": "densekit.heads.UNet"}}}
    save_artifact(tmp_path / "model.ckpt", model, yaml.safe_dump(other))
    with pytest.raises(ValueError, match=r"combine.panoptic.*densekit.heads.Combination"):
        model_from_artifact(tmp_path / "model.ckpt")


def test_names_of_heads_are_checked() -> None:
    with pytest.raises(ValueError, match=r"combine.detection: expected another name"):
        panoptic_model(combine={"detection": merger})
