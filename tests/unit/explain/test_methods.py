"""Methods against maps that are known, and against the libraries' own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from xaitk_saliency.impls.gen_detector_prop_sal.drise_scoring import DRISEScoring

from densekit import DenseModel, Predictor
from densekit.explain import Explainer, Settings
from densekit.explain.boxes import BoxTarget
from densekit.explain.categories import ClassTarget
from densekit.explain.gradients import Tapped, gradcam, integrated_gradients, layercam
from densekit.explain.methods import METHODS
from densekit.explain.rise import LONGEST, random_masks
from densekit.explain.subject import Subject
from densekit.explain.target import Target
from densekit.heads import Classification
from tests.unit.explain.readers import Corner, bright, explainer
from tests.unit.inference.segmenter import TinyEncoder

PLAIN = Settings(masks=200, grid=4, steps=4, faithfulness=False, check=False)


@pytest.mark.parametrize("method", ["layercam", "integrated_gradients", "rise"])
def test_a_head_that_reads_one_quadrant_gets_its_map_there(method: str) -> None:
    saliency = explainer(method, settings=PLAIN)(bright(32, 48), "corner").saliency
    assert saliency.shape == (32, 48)
    inside = np.zeros(saliency.shape, bool)
    inside[:16, :24] = True
    assert saliency[inside].mean() > 5 * abs(saliency[~inside].mean())
    assert np.unravel_index(saliency.argmax(), saliency.shape) < (18, 26)


@pytest.mark.parametrize("dims", [1, 3])
def test_gradients_explain_series_and_volumes(dims: int) -> None:
    found = explainer("layercam", settings=PLAIN, dims=dims)(bright(*[8] * dims), "corner")
    assert found.saliency.shape == (8,) * dims
    assert found.saliency[(0,) * dims] > 0
    assert found.saliency[(-1,) * dims] == 0


def test_gradients_sum_to_the_difference_from_the_baseline() -> None:
    made = explainer("integrated_gradients", settings=PLAIN)
    subject = made.subject(bright(8, 8))
    target = ClassTarget("probabilities", 1, "corner")
    whole = Tapped(subject, target, ())
    mean = subject.fill.expand_as(subject.image)
    expected = whole(subject.image[None]) - whole(mean[None])
    found = integrated_gradients(subject, target, PLAIN).sum()
    torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-6)


def classifier() -> tuple[Subject, Target, torch.Tensor]:
    """A classifier with global average pooling, a target, and its level c2 (C, h, w)."""
    torch.manual_seed(3)
    model = DenseModel(
        TinyEncoder(3), {"category": lambda specs: Classification(specs, num_classes=4)}
    )
    subject = Explainer(Predictor(model)).subject(bright(16, 24).repeat(3, 2))
    level = model.eval().features(subject.batch(subject.image[None]))["c2"][0]
    return subject, ClassTarget("probabilities", 2, "c"), level


def test_gradcam_of_a_pooled_classifier_is_its_cam() -> None:
    """Zhou et al. 2016: with average pooling and one linear layer the weights are those of the
    layer, divided by the number of positions (Selvaraju et al. 2017, appendix A)."""
    subject, target, level = classifier()
    weight = subject.model.heads["category"].fc.weight[2]
    cam = torch.einsum("c,chw->hw", weight, level).relu() / level[0].numel()
    expected = torch.nn.functional.interpolate(cam[None, None], subject.sides, mode="bilinear")
    torch.testing.assert_close(gradcam(subject, target, PLAIN), expected[0, 0].detach())


def test_layercam_weights_each_activation_by_its_own_gradient() -> None:
    subject, target, level = classifier()
    weight = subject.model.heads["category"].fc.weight[2]
    gradient = (weight / level[0].numel()).clamp(min=0)  # the same at each position
    cam = torch.einsum("c,chw->hw", gradient, level)
    expected = torch.nn.functional.interpolate(cam[None, None], subject.sides, mode="bilinear")
    torch.testing.assert_close(layercam(subject, target, PLAIN), expected[0, 0].detach())


def test_agreement_with_a_box_is_that_of_d_rise() -> None:
    """xaitk-saliency counts both edges as pixels of a box, so that its boxes end one earlier."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(6, 5, 2, generator=generator) * 40
    boxes = torch.cat([start, start + 10 + 30 * torch.rand(6, 5, 2, generator=generator)], 2)
    labels = torch.randint(0, 3, (6, 5), generator=generator)
    scores = torch.rand(6, 5, generator=generator)
    found = {"boxes": boxes, "labels": labels, "scores": scores, "valid": labels >= 0}
    target = BoxTarget(boxes[0, 0], int(labels[0, 0]), "a")

    masks = np.random.default_rng(0).random((6, 9, 7))
    one_hot = torch.nn.functional.one_hot(labels, 3)
    inclusive = boxes - torch.tensor([0.0, 0.0, 1.0, 1.0])
    rows = torch.cat([inclusive, scores[..., None], one_hot], 2).double().numpy()
    expected = DRISEScoring().generate(rows[0, :1], rows, masks)[0]
    weights = target.score(found).double().numpy()
    saliency = (weights[:, None, None] * masks).sum(0) / masks.sum(0)
    np.testing.assert_allclose(saliency / saliency.max(), expected, rtol=1e-5)


def test_masks_of_a_large_image_are_small() -> None:
    masks = random_masks((480, 640), Settings(masks=3))
    assert masks.shape == (3, 96, LONGEST)
    assert 0 <= masks.min() < 0.1 < 0.9 < masks.max() <= 1


def test_each_method_states_its_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    for name, method in METHODS.items():
        made = explainer(name, settings=Settings(masks=6, steps=3))
        made.advance = done.append
        subject = made.subject(bright(16, 16))
        target = made.targets(subject)[0]
        done.clear()
        made.explain(subject, target)
        assert sum(done) == made.passes(name) + 1, name  # one for the score
        assert made.passes(name) == 2 * method.passes(made.settings) + 18


def test_a_head_without_levels_has_no_class_activation_map() -> None:
    def on_image(specs: object) -> Corner:
        return Corner({}, level="c0")

    with pytest.raises(ValueError, match="method: expected integrated_gradients or rise"):
        explainer("gradcam", on_image)(bright(8, 8))  # type: ignore[arg-type]
