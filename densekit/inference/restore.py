"""Maps predictions from the network's frame back to each image's original frame.

Shape letters: B images, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import back, turned_mask, turned_sides
from densekit.ops.interpolation import resize_linear
from densekit.ops.padding import corner
from densekit.types import Batch, Predictions, Result

CHUNK = 1 << 24
"""Values that are interpolated at once (64 MB); a volume at its original size has many more."""


def restore(predictions: Mapping[str, Predictions], batch: Batch) -> list[dict[str, Result]]:
    """Undoes padding, resizing and the reorientation of volumes.

    Args:
        predictions: Head name to predictions, as `DenseModel.predict` returns them.
        batch: The batch they were made from; its `meta` holds the original sizes and axes.

    Returns:
        One dict per image, head name to result in the image's original frame. A head with boxes
        gives `boxes` (N, 4) float32 xyxy, `scores` (N,) float32 and `labels` (N,) int64, by
        descending score. One with `logits` or `multilabel_logits` (B, K, *S) gives `mask`, see
        `restore_mask`. One with `probabilities` or `multilabel_probabilities` (B, K) gives
        `probabilities` (K,), and `labels` and `scores` (n,): the most probable class, or every
        label of at least 0.5 by descending probability. Any other gives the image's row of each of
        its tensors.
    """
    per_head = {name: _restore_head(p, batch) for name, p in predictions.items()}
    return [{name: rows[i] for name, rows in per_head.items()} for i in range(len(batch["size"]))]


def restore_mask(logits: Tensor, size: tuple[int, ...], multilabel: bool = False) -> NDArray[Any]:
    """Returns the class mask of one image at its original size.

    The logits are interpolated, not the classes, so that borders stay smooth.

    Args:
        logits: (K, *S) without padding; K = 1 is binary.
        size: The D original sides.
        multilabel: Whether the K classes are independent or exclusive.

    Returns:
        uint8: (*size) classes 0..K-1, or 0 and 1 if K = 1; (K, *size) of 0 and 1 if multi-label.
    """
    classes = _positive if multilabel or len(logits) == 1 else _largest
    rows = max(1, CHUNK // max(1, len(logits) * math.prod(size[1:])))
    parts = [
        _host(classes(_interpolated(logits, size, start, min(start + rows, size[0]))))
        for start in range(0, size[0], rows)
    ]
    mask: NDArray[Any] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-len(size))
    return mask if multilabel or len(logits) > 1 else mask[0]


def _interpolated(logits: Tensor, size: tuple[int, ...], start: int, stop: int) -> Tensor:
    """Rows start..stop of the logits at a new size: (K, stop - start, *size[1:])."""
    if tuple(logits.shape[1:]) == tuple(size):
        return logits[:, start:stop]
    if stop - start == size[0]:
        return resize_linear(logits[None].float(), size)[0]
    # Linear interpolation is separable: the first axis comes first, for the requested rows only.
    length = logits.shape[1]
    at = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (length / size[0]) - 0.5
    at = at.clamp(0, length - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=length - 1)
    weight = (at - low).to(logits.device, torch.float32).view(1, -1, *[1] * (len(size) - 1))
    low, high = low.to(logits.device), high.to(logits.device)
    first, second = logits.index_select(1, low).float(), logits.index_select(1, high).float()
    rows = torch.lerp(first, second, weight)  # (K, n, *S[1:])
    if len(size) == 1:
        return rows
    return resize_linear(rows.movedim(1, 0), size[1:]).movedim(0, 1)


def _positive(logits: Tensor) -> Tensor:
    return (logits > 0).to(torch.uint8)


def _largest(logits: Tensor) -> Tensor:
    return logits.argmax(0).to(torch.uint8)


def _restore_head(predictions: Predictions, batch: Batch) -> list[Result]:
    if "boxes" in predictions:
        return _restore_boxes(predictions, batch)
    for key in ("logits", "multilabel_logits"):
        if key in predictions:
            return _restore_masks(predictions[key], batch, multilabel=key != "logits")
    for key in ("probabilities", "multilabel_probabilities"):
        if key in predictions:
            return _restore_categories(predictions[key], multilabel=key != "probabilities")
    host = {key: _host(value) for key, value in predictions.items()}
    return [{key: value[i] for key, value in host.items()} for i in range(len(batch["size"]))]


def _restore_masks(logits: Tensor, batch: Batch, *, multilabel: bool) -> list[Result]:
    masks = []
    for row, size, meta in zip(logits, batch["size"].tolist(), batch["meta"], strict=True):
        inside = row[corner(size)]
        axes = meta.get("axes")
        size_there = turned_sides(meta["original_size"], axes)
        masks.append(turned_mask(restore_mask(inside, size_there, multilabel), back(axes)))
    return [{"mask": mask} for mask in masks]


def _restore_categories(probabilities: Tensor, *, multilabel: bool) -> list[Result]:
    results = []
    for row in _host(probabilities):  # (K,)
        order = np.argsort(-row, kind="stable")
        labels = order[row[order] >= 0.5] if multilabel else order[:1]
        results.append({"probabilities": row, "labels": labels, "scores": row[labels]})
    return results


def _host(value: Tensor) -> NDArray[Any]:
    value = value.detach()
    array: NDArray[Any] = (value.float() if value.is_floating_point() else value).cpu().numpy()
    return array


def _restore_boxes(predictions: Predictions, batch: Batch) -> list[Result]:
    size = batch["size"].cpu().numpy().astype(np.float64)  # (B, 2) y, x
    original = np.array([meta["original_size"] for meta in batch["meta"]], np.float64)
    boxes, scores, labels, valid = (
        _host(predictions[key]) for key in ("boxes", "scores", "labels", "valid")
    )
    results = []
    for i, (scale_y, scale_x) in enumerate(original / size):
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
