"""Random masks that look a little like structures, with a prediction that is nearly right."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from densekit.types import IGNORE_INDEX, Result, Truth


def blobs(rng: np.random.Generator, size: tuple[int, ...], num_classes: int) -> np.ndarray:
    """(*size) uint8 of smooth areas 0..K-1."""
    fields = [gaussian_filter(rng.normal(size=size), 2) for _ in range(num_classes)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def shaken(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """The mask moved by a pixel, with some pixels wrong."""
    moved = np.roll(mask, 1, axis=int(rng.integers(mask.ndim)))
    return np.where(rng.random(mask.shape) < 0.02, rng.permutation(moved.ravel())[0], moved)


def mask_scene(
    seed: int, num_images: int, num_classes: int, dims: int = 2, ignored: float = 0.0
) -> tuple[list[Result], list[Truth]]:
    """Images of different sizes and spacings.

    Args:
        seed: Of everything random.
        num_images: Their ids descend, in steps.
        num_classes: 1 gives binary masks.
        dims: Spatial dimensions.
        ignored: Share of the pixels that are 255 in truth.
    """
    rng = np.random.default_rng(seed)
    results: list[Result] = []
    truths: list[Truth] = []
    for n in range(num_images):
        size = tuple(int(side) for side in rng.integers(14, 26, dims))
        mask = blobs(rng, size, max(num_classes, 2))
        results.append({"mask": shaken(rng, mask)})
        truths.append(
            {
                "image_id": 1000 - 7 * n,
                "size": size,
                "mask": np.where(rng.random(size) < ignored, np.uint8(IGNORE_INDEX), mask),
                "spacing": tuple(float(side) for side in rng.uniform(0.5, 3, dims)),
            }
        )
    return results, truths


def figures_of(metric, results, truths) -> dict[str, float]:
    """What a metric says of some images."""
    metric.update(results, truths)
    return {name: float(value) for name, value in metric.compute().items()}


def one(truth, predicted, image_id: int = 7, **more) -> tuple[list[Result], list[Truth]]:
    """One image from nested lists or arrays."""
    mask, guess = np.asarray(truth, np.uint8), np.asarray(predicted, np.uint8)
    return [{"mask": guess}], [{"image_id": image_id, "size": mask.shape, "mask": mask, **more}]
