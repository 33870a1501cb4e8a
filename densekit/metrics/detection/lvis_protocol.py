"""LVIS's protocol: average precision where not every image was searched for every class.

Gupta et al. 2019, "LVIS: A dataset for large vocabulary instance segmentation", section 3. hotcoco
does the matching; its tables equal those of lvis-api bit for bit.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import LVISeval
from numpy.typing import NDArray

from densekit.metrics.detection.coco_protocol import (
    CocoTables,
    Shapes,
    data_sets,
    measured_mean,
    summarize,
    tables_of,
)

FREQUENCIES = ("r", "c", "f")
"""Rare, common and frequent: classes in fewer than 10, fewer than 100, and more training images."""


@dataclass(frozen=True)
class Federation:
    """What was searched for.

    Attributes:
        negative: N lists of the labels that an image was found not to show.
        not_exhaustive: N lists of the labels of which an image may show more than is annotated.
        frequency: K of `FREQUENCIES`.
    """

    negative: Sequence[Sequence[int]]
    not_exhaustive: Sequence[Sequence[int]]
    frequency: Sequence[str]


def measure_lvis(
    federation: Federation,
    truth: Shapes,
    detections: Shapes,
    scores: NDArray[np.float64],
    *,
    max_detections: int = 300,
) -> CocoTables:
    """Matches detections to ground truth by LVIS's protocol.

    A detection of a class that is neither annotated in its image nor negative there does not count;
    nor does one that finds nothing, of a class that is not annotated exhaustively. There are no
    crowd regions.

    Args:
        federation: What was searched for.
        truth: The annotated objects.
        detections: The detected objects, with masks where `truth` has them.
        scores: Of the detected objects.
        max_detections: Maximum number of detections per image, of all classes together.
    """
    if max_detections < 1:
        raise ValueError(f"max_detections: expected at least 1, got {max_detections}")
    pairs = zip(federation.negative, federation.not_exhaustive, strict=True)
    images = [
        {
            "id": image,
            "neg_category_ids": list(negative),
            "not_exhaustive_category_ids": list(not_exhaustive),
        }
        for image, (negative, not_exhaustive) in enumerate(pairs)
    ]
    categories = [
        {"id": label, "name": str(label), "frequency": frequency}
        for label, frequency in enumerate(federation.frequency)
    ]
    none = np.zeros(len(truth.image), dtype=np.bool_)
    annotated, found = data_sets(images, categories, truth, none, detections, scores)
    found = found.cap_detections_per_image(max_detections)
    evaluator = LVISeval(annotated, found, "bbox" if truth.masks is None else "segm")
    return tables_of(evaluator, (max_detections,))


def summarize_lvis(
    tables: CocoTables, names: Sequence[str], frequency: Sequence[str]
) -> dict[str, float]:
    """Averages the tables into LVIS's numbers.

    Args:
        tables: What `measure_lvis` returned.
        names: One a class, in the order of axis K.
        frequency: Likewise, of `FREQUENCIES`.

    Returns:
        Those of `coco_protocol.summarize` with one AR, and after AP75 `APr`, `APc` and `APf`: the
        AP of rare, common and frequent classes.
    """
    values = summarize(tables, names)
    groups = np.asarray(frequency)
    of_group = {
        f"AP{group}": measured_mean(tables.precision[:, :, groups == group, 0, -1])
        for group in FREQUENCIES
    }
    first = {name: values[name] for name in ("AP", "AP50", "AP75")}
    return first | of_group | values
