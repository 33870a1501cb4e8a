"""Sliding windows against MONAI's, with the same network."""

from __future__ import annotations

import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from torch import Tensor

from densekit import DenseModel
from densekit.inference import SlidingWindow
from densekit.inference.sliding_window import gaussian_weights
from tests.unit.inference.segmenter import pixels, tiny_segmenter

pytestmark = pytest.mark.parity


def reference(model: DenseModel, image: Tensor, window: SlidingWindow, mode: str) -> Tensor:
    """(K, *S): MONAI on the normalised image, so that what it pads is zero for the network."""

    def network(x: Tensor) -> Tensor:
        features = model.backbone(x)
        size = torch.tensor([x.shape[2:]] * len(x))
        logits: Tensor = model.heads["segmentation"](features, size)["logits"]
        return logits

    normalised = (image[None].float() - model.mean) / model.std
    found = sliding_window_inference(
        normalised, window.window, window.batch_size, network, window.overlap, mode, 0.125
    )
    assert isinstance(found, Tensor)
    return found[0]


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("sides", "window", "overlap"),
    [
        ((53, 70), (32, 24), 0.5),
        ((53, 70), (16, 16), 0.25),
        ((21, 70), (32, 24), 0.5),  # the window is higher than the image: centred
        ((9, 11), (16, 32), 0.6),  # and larger on both axes
        ((32, 24), (32, 24), 0.9),
        ((13, 22, 17), (8, 16, 8), 0.5),
        ((5, 22, 17), (8, 8, 24), 0.7),
    ],
)
@torch.inference_mode()
def test_logits_equal_monai(
    sides: tuple[int, ...], window: tuple[int, ...], overlap: float, mode: str
) -> None:
    model = tiny_segmenter(len(sides), channels=2)
    image = pixels(2, *sides)
    inferer = SlidingWindow(window, overlap, batch_size=3, gaussian=mode == "gaussian")
    batch = {"image": image[None], "size": torch.tensor([sides])}
    found = inferer.predict(model, batch)["segmentation"]["logits"][0]  # type: ignore[arg-type]
    expected = reference(model, image, inferer, mode)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [(64, 64), (7, 30), (16, 96, 96), (4, 4, 4)])
@pytest.mark.parametrize("sigma", [0.125, 0.5])
def test_weights_equal_monai(window: tuple[int, ...], sigma: float) -> None:
    expected = compute_importance_map(window, "gaussian", sigma)
    torch.testing.assert_close(gaussian_weights(window, sigma), expected, rtol=1e-6, atol=1e-7)
