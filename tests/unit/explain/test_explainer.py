"""Which targets and methods every kind of head gets, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from densekit import DenseModel, Predictor
from densekit.explain import Explainer, Settings
from densekit.explain.choosing import NothingFoundError
from densekit.heads import Classification, Embedding, RetinaNet
from densekit.heads.faster_rcnn.rules import DetectionRule
from densekit.inference import SlidingWindow
from densekit.necks import FPN
from tests.unit.explain.readers import Corner, Offering, Strange, bright, explainer
from tests.unit.inference.segmenter import TinyEncoder, pixels, tiny_segmenter
from tests.unit.tiny import TinyBackbone, spread, tiny_detector

FEW = Settings(masks=6, grid=4, steps=2)
NAMES = {"names": ["a", "b", "c"], "ids": [1, 2, 3], "num_classes": 3}


def picture(*sides: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 255, (*sides, 3), dtype=np.uint8)


def detector(one_stage: bool = False) -> DenseModel:
    torch.manual_seed(0)
    if not one_stage:
        model = tiny_detector()
        spread(model)
        return model
    rule = partial(RetinaNet, num_classes=3, levels=("p3", "p4"), depth=1)
    model = DenseModel(
        TinyBackbone(),
        {"detection": rule},
        partial(FPN, out_channels=8),
        {"heads": {"detection": NAMES}},
    )
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith("heads") and "logits" in name:
                value.normal_(0, 0.5)
    return model


def classifier(multilabel: bool = False) -> DenseModel:
    torch.manual_seed(0)
    head = partial(Classification, num_classes=3, multilabel=multilabel)
    return DenseModel(TinyEncoder(3), {"category": head}, info={"heads": {"category": NAMES}})


def embedder() -> DenseModel:
    torch.manual_seed(0)
    head = partial(Embedding, num_identities=3, embedding_size=8, level="c2")
    return DenseModel(TinyEncoder(3), {"face": head})


MODELS: dict[str, tuple[Callable[[], DenseModel], str]] = {
    "two-stage boxes": (detector, "rise"),
    "one-stage boxes": (partial(detector, one_stage=True), "rise"),
    "category": (classifier, "gradcam"),
    "labels": (partial(classifier, multilabel=True), "gradcam"),
    "embedding": (embedder, "gradcam"),
    "classes": (partial(tiny_segmenter, channels=3), "gradcam"),
    "channels": (partial(tiny_segmenter, channels=3, multilabel=True), "gradcam"),
    "binary": (partial(tiny_segmenter, channels=3, classes=1), "gradcam"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_head_by_every_method_that_is_sound_for_it(name: str) -> None:
    build, preferred = MODELS[name]
    predictor = Predictor(build())
    image = picture(40, 48)
    pair = picture(32, 32) if name == "embedding" else None
    first = Explainer(predictor, settings=FEW)
    subject = first.subject(image)
    target = first.targets(subject, None if pair is None else first.subject(pair))[0]
    for method in ("auto", *target.methods):
        found = Explainer(predictor, method=method, settings=FEW)(image, pair=pair)
        assert found.method == (preferred if method == "auto" else method)
        assert found.saliency.shape == (40, 48)
        assert np.isfinite(found.saliency).all()
        assert found.measured is not None
        assert found.correlation is not None
        assert (found.outline is None) == (name in ("category", "labels", "embedding"))


def test_volumes_are_explained_by_gradients() -> None:
    explained = Explainer(Predictor(tiny_segmenter(dims=3)), settings=FEW)
    assert explained(pixels(1, 8, 12, 16)).saliency.shape == (8, 12, 16)
    with pytest.raises(ValueError, match="method: expected one that takes 3 dimensions, got rise"):
        Explainer(Predictor(tiny_segmenter(dims=3)), method="rise")(pixels(1, 8, 12, 16))


def test_targets_are_chosen_by_name_and_by_place() -> None:
    explained = Explainer(
        Predictor(classifier()), settings=Settings(faithfulness=False, check=False)
    )
    image = picture(16, 16)
    names = [target.name for target in explained.targets(explained.subject(image))]
    assert sorted(names) == ["a", "b", "c"]
    assert explained(image).target == names[0]
    assert explained(image, "2").target == names[1]
    assert explained(image, "c").target == "c"
    with pytest.raises(ValueError, match="target: expected one of auto, a, b, c, got 'd'"):
        explained(image, "d")
    with pytest.raises(NothingFoundError, match="target: expected 1 to 3, got 4"):
        explained(image, "4")


def test_nothing_found() -> None:
    model = tiny_detector()
    model.heads["detection"].detection = DetectionRule(score_threshold=0.99)
    with pytest.raises(NothingFoundError, match="expected a prediction with an object"):
        Explainer(Predictor(model), settings=FEW)(picture(32, 32))


def test_a_class_that_is_not_in_the_mask() -> None:
    explained = Explainer(Predictor(tiny_segmenter(channels=3)), settings=FEW)
    with torch.no_grad():
        explained.model.heads["segmentation"].last.bias[2] = -1e3
    message = "target: tumour is not predicted; expected (organ|background)"
    with pytest.raises(NothingFoundError, match=message):
        explained(picture(16, 16), "tumour")


@pytest.mark.parametrize(
    ("build", "method", "message"),
    [
        (detector, "gradcam", "method: expected rise or layercam for heads.detection, got gradcam"),
        (classifier, "cam", "method: expected one of auto, gradcam, .*, got 'cam'"),
        (embedder, "auto", "pair: expected an image to compare with, as heads.face predicts"),
    ],
)
def test_refused(build: Callable[[], DenseModel], method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Explainer(Predictor(build()), method=method, settings=FEW)(picture(40, 48))


def test_a_pair_for_a_head_without_embeddings_is_refused() -> None:
    with pytest.raises(ValueError, match="pair: expected a head with embeddings, got heads.cat"):
        Explainer(Predictor(classifier()), settings=FEW)(picture(16, 16), pair=picture(16, 16))


def test_heads() -> None:
    heads = {name: partial(Classification, num_classes=3) for name in ("one", "two")}
    predictor = Predictor(DenseModel(TinyEncoder(3), heads))
    with pytest.raises(ValueError, match="head: expected one of one, two, got none"):
        Explainer(predictor)
    with pytest.raises(ValueError, match="head: expected one of one, two, got 'too'"):
        Explainer(predictor, head="too")
    assert Explainer(predictor, head="two", settings=FEW)(picture(16, 16)).target in "012"


def test_gradients_need_the_model_itself() -> None:
    predictor = Predictor(classifier(), precision="bf16")
    with pytest.raises(ValueError, match="engine: expected eager with precision=fp32 for method=g"):
        Explainer(predictor, method="gradcam")
    assert Explainer(predictor, settings=FEW)(picture(16, 16)).method == "rise"


def test_images_larger_than_the_window_are_explained_by_masks() -> None:
    model = tiny_segmenter(channels=3)
    predictor = Predictor(model, inferer=SlidingWindow((24, 24)))
    image = picture(40, 32)
    assert Explainer(predictor, settings=FEW)(image).method == "rise"
    with pytest.raises(ValueError, match="method: expected rise for an image of 40 x 32 pixels"):
        Explainer(predictor, method="gradcam", settings=FEW)(image)
    assert Explainer(predictor, settings=FEW)(picture(24, 20)).method == "gradcam"


def test_slices_are_refused() -> None:
    predictor = Predictor(tiny_segmenter(slices={"axis": 0}))
    with pytest.raises(
        ValueError, match="checkpoint: expected a network of images or of whole vol"
    ):
        Explainer(predictor)


def test_an_inferer_that_is_a_function_is_refused() -> None:
    predictor = Predictor(classifier(), inferer=lambda model, batch: [])
    with pytest.raises(ValueError, match="inferer: expected a densekit.inference.Inferer"):
        Explainer(predictor)


def test_a_head_of_another_kind() -> None:
    with pytest.raises(
        ValueError, match="heads.category: expected predictions with boxes.*got age"
    ):
        explainer("rise", Strange)(bright(16, 16))
    found = explainer("layercam", Offering)(bright(16, 16))
    assert found.target == "age"
    assert found.saliency[2, 2] > found.saliency[12, 12]


def test_levels() -> None:
    with pytest.raises(ValueError, match="levels: expected one of c1, got 'c9'"):
        explainer("gradcam", settings=Settings(levels=("c9",)))(bright(16, 16))


def test_a_crop_is_undone() -> None:
    """The network sees the middle 16 x 16 of 16 x 32 pixels."""
    found = explainer("layercam", Corner, FEW, resize={"min_size": 16, "crop": 16})(
        bright(16, 32), "corner"
    )
    assert found.saliency.shape == (16, 32)
    assert (found.saliency[:, :7] == 0).all()
    assert (found.saliency[:7, 9:15] > 0).all()
    assert (found.saliency[:, 25:] == 0).all()


def test_the_order_of_channels_is_that_of_the_image() -> None:
    model = DenseModel(
        TinyEncoder(3),
        {"category": partial(Classification, num_classes=3)},
        info={"mean": [1.0, 2.0, 3.0], "channel_order": "bgr"},
    )
    subject = Explainer(Predictor(model)).subject(picture(8, 8))
    assert subject.fill.flatten().tolist() == [3.0, 2.0, 1.0]
    grey = subject.fill.expand_as(subject.image)[None]
    assert model.normalise(grey, subject.batch(grey)["size"]).abs().max() == 0
