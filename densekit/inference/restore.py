"""Maps predictions from the network's frame back to each image's original frame.

Shape letters: B images, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import back, turned_mask, turned_sides
from densekit.inference.pasting import paste_masks
from densekit.inference.pixel_probabilities import PixelProbabilities, rows_of_logits
from densekit.ops.padding import corner
from densekit.types import PIXELS, Batch, Decision, Predictions, Result

HALF = 0.5
"""Probability from which a class that excludes no other counts, unless a head says otherwise."""


def restore(
    predictions: Mapping[str, Predictions],
    batch: Batch,
    thresholds: Mapping[str, Decision] | None = None,
) -> list[dict[str, Result]]:
    """Undoes padding, resizing and the reorientation of volumes.

    Args:
        predictions: Head name to predictions, as `DenseModel.predict` returns them.
        batch: The batch they were made from; its `meta` holds the original sizes and axes.
        thresholds: Head name to the probability from which a class of a binary or multi-label head
            counts, 0.5 by default; boxes are not dropped by it.

    Returns:
        One dict per image, head name to result in the image's original frame. A head with boxes
        gives `boxes` (N, 4) float32 xyxy, `scores` (N,) float32 and `labels` (N,) int64, by
        descending score; with `masks` in the frames of its boxes also `masks`, N `RunLengths` of
        the image. One with `logits` or `multilabel_logits` (B, K, *S) gives `mask`, see
        `restore_mask`, and `pixel_probabilities`, which metrics may read before the logits are
        released. One with `probabilities` or `multilabel_probabilities` (B, K) gives
        `probabilities` (K,), and `labels` and `scores` (n,): the most probable class, or every
        label from its threshold on, by descending probability. Any other gives the image's row of
        each of its tensors.
    """
    chosen = thresholds or {}
    per_head = {n: _restore_head(p, batch, chosen.get(n, HALF)) for n, p in predictions.items()}
    return [{name: rows[i] for name, rows in per_head.items()} for i in range(len(batch["size"]))]


def restore_mask(
    logits: Tensor, size: tuple[int, ...], multilabel: bool = False, threshold: Decision = HALF
) -> NDArray[Any]:
    """Returns the class mask of one image at its original size.

    The logits are interpolated, not the classes, so that borders stay smooth.

    Args:
        logits: (K, *S) without padding; K = 1 is binary.
        size: The D original sides.
        multilabel: Whether the K classes are independent or exclusive.
        threshold: Of independent classes and of K = 1: a pixel belongs to a class whose probability
            exceeds it.

    Returns:
        uint8: (*size) classes 0..K-1, or 0 and 1 if K = 1; (K, *size) of 0 and 1 if multi-label.
    """
    independent = multilabel or len(logits) == 1
    bounds = logits_of(threshold, logits) if independent else None
    parts = []
    for _, rows in rows_of_logits(logits, size):
        classes = rows.argmax(0) if bounds is None else rows > bounds
        parts.append(_host(classes.to(torch.uint8)))
    mask: NDArray[Any] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-len(size))
    return mask if multilabel or len(logits) > 1 else mask[0]


def logits_of(threshold: Decision, like: Tensor) -> Tensor:
    """A threshold as logits, (1 or K, 1, ...), for logits (K, ...); that of 0.5 is exactly 0."""
    values = torch.as_tensor(threshold, dtype=torch.float64).reshape(-1, *[1] * (like.ndim - 1))
    return values.logit().to(like.device, torch.promote_types(like.dtype, torch.float32))


def _restore_head(predictions: Predictions, batch: Batch, threshold: Decision) -> list[Result]:
    if "boxes" in predictions:
        return _restore_boxes(predictions, batch)
    for key in ("logits", "multilabel_logits"):
        if key in predictions:
            return _restore_masks(predictions[key], batch, threshold, multilabel=key != "logits")
    for key in ("probabilities", "multilabel_probabilities"):
        if key in predictions:
            independent = key != "probabilities"
            return _restore_categories(predictions[key], threshold if independent else None)
    host = {key: _host(value) for key, value in predictions.items()}
    return [{key: value[i] for key, value in host.items()} for i in range(len(batch["size"]))]


def _restore_masks(
    logits: Tensor, batch: Batch, threshold: Decision, *, multilabel: bool
) -> list[Result]:
    results: list[Result] = []
    for row, size, meta in zip(logits, batch["size"].tolist(), batch["meta"], strict=True):
        inside = row[corner(size)]
        axes = meta.get("axes")
        size_there = turned_sides(meta["original_size"], axes)
        mask = restore_mask(inside, size_there, multilabel, threshold)
        pixels = PixelProbabilities(inside, size_there, multilabel, axes)
        results.append({"mask": turned_mask(mask, back(axes)), PIXELS: pixels})
    return results


def _restore_categories(probabilities: Tensor, threshold: Decision | None) -> list[Result]:
    results = []
    for row in _host(probabilities):  # (K,)
        order = np.argsort(-row, kind="stable")
        counts = None if threshold is None else row >= np.asarray(threshold, dtype=row.dtype)
        labels = order[:1] if counts is None else order[counts[order]]
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
    masks = _host(predictions["masks"]) if "masks" in predictions else None
    results: list[Result] = []
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
        if masks is not None:
            height, width = map(int, original[i])
            pasted = paste_masks(masks[i][rows], results[-1]["boxes"], (height, width))
            results[-1]["masks"] = pasted
    return results
