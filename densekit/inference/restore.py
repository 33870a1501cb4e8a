"""From the network's frame back to each image's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from densekit.types import Batch, Predictions, Result


def restore(predictions: Mapping[str, Predictions], batch: Batch) -> list[dict[str, Result]]:
    """Undoes padding and resizing.

    Args:
        predictions: Head name to predictions, as `DenseModel.predict` returns them.
        batch: The batch they were made from; its `meta` says the original sizes.

    Returns:
        One dict an image, head name to `boxes` (N, 4) float32 xyxy in pixels of the original
        image, `scores` (N,) float32 and `labels` (N,) int64, by falling score. A head without boxes
        gives the image's row of each of its tensors.
    """
    size = batch["size"].cpu().numpy().astype(np.float64)  # (B, 2) y, x
    original = np.array([meta["original_size"] for meta in batch["meta"]], np.float64)
    scale = original / size
    per_head = {
        name: _restore_boxes(p, scale) if "boxes" in p else _rows(p, len(scale))
        for name, p in predictions.items()
    }
    return [{name: rows[i] for name, rows in per_head.items()} for i in range(len(size))]


def _host(value: Tensor) -> NDArray[Any]:
    value = value.detach()
    array: NDArray[Any] = (value.float() if value.is_floating_point() else value).cpu().numpy()
    return array


def _rows(predictions: Predictions, count: int) -> list[Result]:
    host = {key: _host(value) for key, value in predictions.items()}
    return [{key: value[i] for key, value in host.items()} for i in range(count)]


def _restore_boxes(predictions: Predictions, scale: NDArray[Any]) -> list[Result]:
    boxes, scores, labels, valid = (
        _host(predictions[key]) for key in ("boxes", "scores", "labels", "valid")
    )
    results = []
    for i, (scale_y, scale_x) in enumerate(scale):
        rows = valid[i]
        factor = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        results.append(
            {
                "boxes": boxes[i][rows] * factor,
                "scores": scores[i][rows],
                "labels": labels[i][rows],
            }
        )
    return results
