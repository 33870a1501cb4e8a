"""Deletion and insertion against numbers computed by hand; random maps; random weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densekit import Predictor
from densekit.explain import METHODS, Explainer, Settings
from densekit.explain.categories import ClassTarget
from densekit.explain.faithfulness import area, blurred, faithfulness, random_map, replaced
from densekit.explain.methods import Method
from densekit.explain.randomised import randomised, rank_correlation
from densekit.explain.subject import Subject
from densekit.explain.target import Target
from densekit.inference.engine import with_engine
from densekit.layers import FrozenBatchNorm
from densekit.types import Features
from tests.unit.explain.readers import Corner, Halves, bright, explainer, model_of
from tests.unit.inference.segmenter import tiny_segmenter


def test_area_is_that_of_trapezoids() -> None:
    assert area(np.array([1.0, 0.5, 0.0])) == 0.5
    assert area(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(1 / 6)
    x = np.random.default_rng(0).random(9)
    assert area(x) == pytest.approx(np.trapezoid(x, dx=1 / 8))


def test_pixels_are_replaced_from_the_most_salient() -> None:
    start, end = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    saliency = torch.tensor([[0.1, 0.9], [0.5, 0.5]])
    images = [image[0].int().tolist() for image in replaced(start, end, saliency, 4)]
    assert images == [
        [[0, 0], [0, 0]],
        [[0, 1], [0, 0]],
        [[0, 1], [1, 0]],
        [[0, 1], [1, 1]],
        [[1, 1], [1, 1]],
    ]


def test_deletion_by_hand() -> None:
    """4 x 4 pixels at mean + 2 std: the logit of the corner is their share times 2, so that the
    probability is sigmoid(2 * 2 * share)."""
    subject = explainer("rise").subject(np.full((4, 4, 1), 200, np.uint8))
    target = ClassTarget("probabilities", 1, "corner")
    saliency = torch.zeros(4, 4)
    saliency[:2, :2] = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    found = faithfulness(subject, target, saliency, steps=4)
    # the first of four steps deletes the whole corner
    shares = [1.0, 0.0, 0.0, 0.0, 0.0]
    curve = [1 / (1 + math.exp(-4 * share)) for share in shares]
    assert found.deletion == pytest.approx(sum(curve) / 4 - (curve[0] + curve[-1]) / 8)
    assert found.insertion == pytest.approx(curve[0])  # a constant image has nothing to blur


def test_blur_removes_details() -> None:
    image = torch.zeros(1, 40, 40)
    image[0, 20, 20] = 1.0
    smooth = blurred(image)
    assert smooth.sum() == pytest.approx(1, abs=1e-5)
    assert smooth.max() < 0.05


def test_a_random_map_is_as_smooth_as_the_map() -> None:
    saliency = torch.rand(12, 16)
    other = random_map(saliency, seed=1)
    amplitudes = [np.abs(np.fft.fft2(m - m.mean())) for m in (saliency.numpy(), other.numpy())]
    np.testing.assert_allclose(*amplitudes, atol=1e-5)
    assert abs(rank_correlation(saliency, other)) < 0.4
    assert torch.equal(other, random_map(saliency, seed=1))


def test_rank_correlation() -> None:
    rising = torch.arange(6.0).view(2, 3)
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising, torch.zeros(2, 3)) == 0
    assert math.isnan(rank_correlation(torch.zeros(2, 3), rising))


def test_random_weights_leave_the_model_and_its_engine_alone() -> None:
    model = tiny_segmenter(channels=3)  # built with seed 0
    subject = Explainer(Predictor(model)).subject(bright(16, 16).repeat(3, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = randomised(subject.with_model(with_engine(model, _Engine())), seed=0).model
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    same = [
        name
        for name, value in random.named_parameters()
        if value.numel() > 1 and torch.equal(value, before[name])
    ]
    assert all("stages" in name and ".1." in name for name in same)  # affine of batch norms
    assert not torch.equal(random.backbone.stages[0][1].running_mean, before[NORM])


NORM = "backbone.stages.0.1.running_mean"


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm])
def test_the_signal_reaches_the_end_of_a_deep_network(norm: Callable[[int], nn.Module]) -> None:
    model = model_of(Corner)
    layers = [nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), norm(1), nn.ReLU()) for _ in range(40)]
    model.backbone = Deep(nn.Sequential(*layers)).eval()
    subject = Explainer(Predictor(model)).subject(bright(16, 16))
    random = randomised(subject, seed=3)
    score = random.predictions(subject.image[None])["probabilities"][0, 1]
    flat = random.predictions(subject.fill.expand_as(subject.image)[None])["probabilities"][0, 1]
    assert abs(score - flat) > 1e-4
    target = ClassTarget("probabilities", 1, "corner")
    assert METHODS["integrated_gradients"].compute(random, target, Settings(steps=2)).any()


class Deep(Halves):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Features:
        return super().forward(self.layers(x))


class _Engine:
    name, precision = "eager", "fp32"

    def predict(self, *_: object) -> None:
        raise AssertionError("the engine has the old weights")

    def __deepcopy__(self, memo: object) -> None:
        raise AssertionError("an engine cannot be copied")


def edges(subject: Subject, target: Target, settings: Settings) -> Tensor:
    """A map that ignores the model."""
    grey = subject.image.mean(0)
    return (grey - grey.roll(1, 0)).abs() + (grey - grey.roll(1, 1)).abs()


def test_an_edge_detector_fails_the_check_and_a_method_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METHODS, "gradcam", Method(edges, lambda _: 0))
    settings = Settings(masks=64, grid=4, faithfulness=False)
    image = bright(24, 32)
    found = {
        method: Explainer(Predictor(tiny_segmenter()), method=method, settings=settings)(image)
        for method in ("gradcam", "layercam")
    }
    assert found["gradcam"].correlation == pytest.approx(1)
    assert found["gradcam"].depends_on_weights is False
    assert abs(found["layercam"].correlation or 1) < 0.9


def test_the_right_map_is_more_faithful_than_a_random_one() -> None:
    found = explainer("rise", settings=Settings(masks=100, grid=4, steps=8))(
        bright(32, 32), "corner"
    )
    assert found.measured is not None
    assert found.random is not None
    assert found.measured.deletion < found.random.deletion


def test_what_is_not_measured_is_none() -> None:
    settings = Settings(masks=4, faithfulness=False, check=False)
    found = explainer("rise", settings=settings)(bright(16, 16))
    assert (found.measured, found.random, found.correlation) == (None, None, None)
    assert found.depends_on_weights is None
