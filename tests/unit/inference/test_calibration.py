"""Calibration images reach the scales as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from densekit import DenseModel
from densekit.inference import SlidingWindow, WholeImage, calibrate_on
from densekit.inference import TestTimeAugmentation as Augmented
from densekit.inference.calibration import IMAGES, WINDOWS, CalibrationError, fitted, seen_by
from densekit.types import Batch
from tests.unit.inference.segmenter import tiny_segmenter


@pytest.fixture(scope="module")
def model() -> DenseModel:
    return tiny_segmenter(channels=3).eval()


def pictures(count: int, sides: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, (*sides, 3), dtype=np.uint8) for _ in range(count)]


def test_whole_images(model: DenseModel) -> None:
    images = pictures(2)
    pairs = seen_by(model, WholeImage(), calibrate_on(images)(model))
    for (image, size), expected in zip(pairs, images, strict=True):
        assert torch.equal(image[0], torch.from_numpy(expected).permute(2, 0, 1))
        assert size.tolist() == [[64, 96]]


def test_windows_are_spread_over_the_image(model: DenseModel) -> None:
    image = pictures(1, (128, 128))[0]
    inferer = SlidingWindow(window=(32, 32), overlap=0, batch_size=1)
    pairs = seen_by(model, inferer, calibrate_on([image])(model))
    assert len(pairs) == WINDOWS < 16
    assert all(window.shape == (1, 3, 32, 32) for window, _ in pairs)
    expected = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(pairs[0][0][0], expected[:, :32, :32])
    assert torch.equal(pairs[-1][0][0], expected[:, 96:, 96:])


def test_what_wraps_an_inferer(model: DenseModel) -> None:
    inferer = Augmented(SlidingWindow(window=(32, 32), overlap=0))
    pairs = seen_by(model, inferer, calibrate_on(pictures(1, (32, 32)))(model))
    assert any(torch.equal(image, pairs[0][0].flip(3)) for image, _ in pairs[1:])


def test_no_more_images_than_needed_are_read(model: DenseModel) -> None:
    read = []

    def endless(model: DenseModel) -> Iterator[Batch]:
        while True:
            read.append(1)
            yield from calibrate_on(pictures(1, (32, 32)))(model)

    assert len(seen_by(model, WholeImage(), endless(model))) == len(read) == IMAGES


def test_images_are_cropped_and_padded_to_a_program(model: DenseModel) -> None:
    large, small = torch.full((1, 3, 80, 80), 7, dtype=torch.uint8), torch.ones(1, 3, 40, 64)
    pairs = [(large, torch.tensor([[80, 70]])), (small, torch.tensor([[40, 60]]))]
    (image, size), (last, _) = fitted(model, [*pairs, pairs[0]], (2, 64, 64))
    assert image.dtype == np.float32
    assert size.tolist() == [[64, 64], [40, 60]]
    assert (image[0] == 7).all()
    assert (image[1, :, :40] == 1).all()
    assert not image[1, :, 40:].any()
    assert np.array_equal(last[1], image[0])  # filled up with the first


def test_nothing_to_measure_on(model: DenseModel, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="precision=int8: expected images .*, got none"):
        seen_by(model, WholeImage(), [])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    with pytest.raises(CalibrationError, match=f"precision=int8: {broken}: expected"):
        seen_by(model, WholeImage(), calibrate_on([broken])(model))
