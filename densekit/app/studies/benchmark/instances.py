"""Mask R-CNN of torchvision and ours, each with its pasting of masks into the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.app.studies.benchmark.detectors import (
    BOX_TOLERANCE,
    PROOF_BATCH,
    PROOF_SIZE,
    SCORE_TOLERANCE,
    check_detections,
    detector_pair,
)
from densekit.app.studies.benchmark.pair import (
    Options,
    Pair,
    as_text,
    check_losses,
    our_rows,
    predictions_of,
    their_rows,
)
from densekit.app.studies.benchmark.work import Work
from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.ops.run_lengths import decode
from densekit.types import Predictions

MASK_IOU = 0.999
"""Least IoU of the pasted masks of an image, all of its detections together."""


def instance_work(options: Options) -> Work:
    """A training step or a prediction of Mask R-CNN.

    Raises:
        RuntimeError: Losses, detections or masks differ: timing unequal models means nothing.
    """
    proof = detector_pair(options, PROOF_SIZE, PROOF_BATCH, proof=True, with_masks=True)
    gap = check_losses(proof)
    check_detections(proof)
    overlap = check_masks(proof)
    pair = detector_pair(options, options["size"], options["batch"], with_masks=True)

    def pasted(model: DenseModel) -> dict[str, Predictions]:
        found = model.predict(pair.batch)
        restore(found, pair.batch)  # timed, as torchvision's model pastes too
        return found

    return Work(
        f"{options['step']}: Mask R-CNN, ResNet-{options['depth']} FPN,"
        f" {options['batch']} x {as_text(options['size'])}, masks pasted",
        f"losses within {gap:.1e} (relative); boxes within {BOX_TOLERANCE} pixels, scores within"
        f" {SCORE_TOLERANCE}; pasted masks of an IoU of at least {overlap:.5f}",
        [*their_rows(pair, options), *our_rows(pair.ours, pair.batch, options, pasted)],
    )


def check_masks(pair: Pair) -> float:
    """Checks that the pasted masks of boxes that agree are equal; returns the least IoU.

    Raises:
        RuntimeError: They differ.
    """
    theirs, ours = predictions_of(pair)
    results = restore({"detection": ours}, pair.batch)
    overlaps = [
        _overlap(rows, result["detection"]) for rows, result in zip(theirs, results, strict=True)
    ]
    if min(overlaps) < MASK_IOU:
        raise RuntimeError(f"masks: expected the peer's, got an IoU of {min(overlaps):.4f}")
    return min(overlaps)


def _overlap(theirs: Any, ours: Any) -> float:
    """IoU of the pasted masks of one image, over the detections that both have."""
    boxes = theirs["boxes"].cpu().numpy()
    close = np.abs(boxes[:, None] - ours["boxes"]).max(2) <= BOX_TOLERANCE
    close &= (theirs["labels"].cpu().numpy()[:, None] - 1) == ours["labels"]
    rows = np.flatnonzero(close.any(1))
    masks: NDArray[np.bool_] = (theirs["masks"][rows, 0] > 0.5).cpu().numpy()
    size = (masks.shape[1], masks.shape[2])
    found = decode([ours["masks"][row] for row in close[rows].argmax(1)], size) > 0
    return float((masks & found).sum() / max(1, (masks | found).sum()))
