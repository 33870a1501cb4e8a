"""Refuses, drops or clips invalid boxes, and counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.annotations.findings import Findings

ROUNDING = 1.0
"""Pixels by which a box may exceed its image before that counts as a defect; clipped either way."""

THINNEST = 2.0**-20
"""Smallest side of a box, relative to the image's longer side, that survives in float32."""


def sanitise(
    boxes: NDArray[Any], sizes: NDArray[Any], where: Callable[[int], str], findings: Findings
) -> NDArray[Any]:
    """Decides which boxes to keep and adds the defects to `findings`.

    Args:
        boxes: (M, 4) xyxy as annotated.
        sizes: (M, 2) height and width of each box's image.
        where: Names the image and annotation of a row, for messages.
        findings: Receives every inverted, empty, outside or clipped box.

    Returns:
        (M,) bool. Boxes that partly overlap their image are kept as annotated, as the evaluators of
        COCO and VOC do; `clip_boxes` clips them for training.

    Raises:
        ValueError: If a coordinate is not finite, or at any defect in strict mode.
    """
    broken = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if len(broken):
        row = int(broken[0])
        raise ValueError(
            f"{findings.source}: {where(row)}: expected a box of finite coordinates, got"
            f" {boxes[row].tolist()}"
        )
    limit = sizes[:, ::-1].astype(np.float64)  # (M, 2) width, height
    low, high = boxes[:, :2], boxes[:, 2:]
    empty = (high <= low).any(axis=1)
    outside = ~empty & ((high <= 0) | (low >= limit)).any(axis=1)
    sides = np.minimum(high, limit) - np.maximum(low, 0)
    thin = (sides <= THINNEST * limit.max(axis=1, keepdims=True)).any(axis=1) & ~empty & ~outside
    overhanging = ((low < -ROUNDING) | (high > limit + ROUNDING)).any(axis=1)
    kinds = {
        "box inverted or without area, dropped": empty,
        "box outside its image, dropped": outside,
        "box too thin for float32, dropped": thin,
        "box clipped to its image": overhanging & ~empty & ~outside & ~thin,
    }
    for kind, hit in kinds.items():
        for row in np.flatnonzero(hit).tolist():
            findings.add(kind, f"{where(row)}: {boxes[row].round(2).tolist()}")
    kept: NDArray[Any] = ~(empty | outside | thin)
    return kept
