"""Panoptic quality: how well segments are found, and how well they cover the true ones.

Shape letters: N images, K classes, G true and P predicted segments of an image, H and W its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Table
from densekit.metrics.class_tables import cell, distribution
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values, mean, ratio
from densekit.metrics.rows import check_names
from densekit.ops.run_lengths import decode
from densekit.types import Result, Truth

COLUMNS = 4
"""Of a class in an image: sum of the IoU of matches, matches, false and missed segments."""


class Segments(NamedTuple):
    """A map of segments.

    Attributes:
        numbers: (H, W) number of the segment of each pixel from 1 on, 0 where there is none.
        labels: (S,) class of each segment.
        crowd: (S,) whether it is a region with objects that are not told apart.
    """

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


class PanopticQuality(ImageMetric):
    """PQ, and its factors SQ and RQ, as COCO's panopticapi computes them.

    A predicted and a true segment of one class match if their IoU exceeds 0.5. Of a class, SQ is
    the mean IoU of its matches, RQ the F1 of its segments, and PQ their product. `PQ`, `SQ` and
    `RQ` are means over classes that occur in truth or prediction, `PQ_things` and so on over those
    of things or stuff; `PQ/NAME` is that of a class. Pixels without a true segment do not count as
    part of a predicted one, and a segment that lies mostly there, or in a crowd of its class, is
    not false.
    Paper: Panoptic Segmentation, section 4.

    Results hold `panoptic` and `segments`, see `densekit.heads.Panoptic`. The annotation holds
    `masks`, `labels` and `crowd` of the things, which lie in front of the stuff in `mask`.

    Args:
        names: K class names, those of the things first.
        num_things: Number of classes that are things.
        stuff: Value in `mask` of each class of stuff; other values are no segment.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: The numbers of names and values do not fit.
    """

    def __init__(
        self, names: Sequence[str], num_things: int, stuff: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)
        self.num_things, self.stuff = num_things, list(stuff)
        if num_things + len(self.stuff) != len(self.names):
            raise ValueError(
                f"stuff: expected {len(self.names) - num_things} values, one for each of"
                f" {self.names[num_things:]}, got {self.stuff}"
            )

    @property
    def width(self) -> int:
        """4 K."""
        return COLUMNS * len(self.names)

    def row(self, result: Result, truth: Truth) -> Values:
        """(K, 4) numbers of one image."""
        true, predicted = self._true(truth), self._predicted(result, truth)
        return quality_counts(true, predicted, len(self.names))

    def aggregate_rows(self, table: Values) -> Mapping[str, float]:
        """The numbers named above."""
        of_class = _qualities(self._values(table).sum(0))  # (K, 3)
        metrics = {}
        parts = {"": slice(None), "_things": slice(self.num_things)}
        parts["_stuff"] = slice(self.num_things, None)
        for end, classes in parts.items():
            for name, values in zip(("PQ", "SQ", "RQ"), of_class[classes].T, strict=True):
                metrics[name + end] = mean(values)
        per_class = zip(self.names, of_class[:, 0], strict=True)
        return metrics | {f"PQ/{name}": float(value) for name, value in per_class}

    def cases(self) -> list[dict[str, Any]]:
        """PQ, SQ and RQ of each image, the means over its classes, by ascending `image_id`."""
        ids, table = self.computed()
        return [
            {"image_id": int(i)}
            | {name: mean(v) for name, v in zip(("PQ", "SQ", "RQ"), of_image.T, strict=True)}
            for i, of_image in zip(ids, _qualities(self._values(table)), strict=True)
        ]

    def analyses(self) -> list[Analysis]:
        """Classes, and the distribution over images."""
        values = self._values(self.computed()[1])
        counts, of_class = values.sum(0), _qualities(values.sum(0))
        head = ("class", "PQ", "SQ", "RQ", "matched", "false", "missed")
        rows = [
            (name, *map(cell, found), *map(int, numbers[1:]))
            for name, found, numbers in zip(self.names, of_class, counts, strict=True)
        ]
        about = "PQ = SQ RQ: mean IoU of the matched segments, and the F1 of segments."
        per_image = np.asarray([mean(image) for image in _qualities(values)[..., 0]])
        return [
            Table("Classes", head, rows, about),
            *distribution({"all classes": per_image}, "PQ", "images"),
        ]

    def _values(self, table: Values) -> Values:
        return table.reshape(len(table), len(self.names), COLUMNS)

    def _true(self, truth: Truth) -> Segments:
        """Stuff, crowds and then objects, each in front of what came before."""
        for key in ("masks", "mask"):
            if key not in truth:
                raise ValueError(
                    f"{key}: expected the outlines of objects and a mask, got an annotation of"
                    f" image {truth['image_id']} with {sorted(truth)}"
                )
        mask, crowd = truth["mask"], np.asarray(truth["crowd"], dtype=bool)
        number_of = np.zeros(256, dtype=np.int64)
        number_of[self.stuff] = np.arange(1, len(self.stuff) + 1)
        numbers = number_of[mask]
        for row in np.argsort(~crowd, kind="stable"):
            inside = decode([truth["masks"][row]], mask.shape)[0]
            numbers[inside > 0] = 1 + len(self.stuff) + row
        labels = np.concatenate([self.num_things + np.arange(len(self.stuff)), truth["labels"]])
        flags = np.concatenate([np.zeros(len(self.stuff), dtype=bool), crowd])
        return _compact(numbers, labels.astype(np.int64), flags)

    def _predicted(self, result: Result, truth: Truth) -> Segments:
        """The segments of a result; each has pixels, and every pixel's is listed."""
        panoptic, listed = result["panoptic"], result["segments"]
        if panoptic.shape != truth["mask"].shape:
            raise ValueError(
                f"panoptic: expected {truth['mask'].shape} as image {truth['image_id']}, got"
                f" {panoptic.shape}"
            )
        ids = np.asarray([0, *(segment["id"] for segment in listed)], dtype=np.int64)
        order = np.argsort(ids)
        there, numbers = np.unique(panoptic, return_inverse=True)
        wrong = [int(i) for i in np.setxor1d(there[there != 0], ids[1:])]
        if wrong or len(set(ids.tolist())) < len(ids):
            raise ValueError(
                f"segments: expected each id of `panoptic` once, got {ids[1:].tolist()} in image"
                f" {truth['image_id']}, where {wrong} differ"
            )
        place = order[np.searchsorted(ids[order], there)]
        labels = np.asarray([segment["label"] for segment in listed], dtype=np.int64)
        return Segments(
            place[numbers].reshape(panoptic.shape), labels, np.zeros(len(labels), dtype=bool)
        )


def quality_counts(true: Segments, predicted: Segments, num_classes: int) -> Values:
    """Matches the segments of an image.

    Returns:
        (K, 4) sum of the IoU of matches, matches, false segments and missed ones, of each class.
    """
    count, found = len(true.labels), len(predicted.labels)
    cells = true.numbers * (found + 1) + predicted.numbers
    joint = np.bincount(cells.reshape(-1), minlength=(count + 1) * (found + 1))
    joint = joint.reshape(count + 1, found + 1)  # pixels; row and column 0: no segment
    both, areas = joint[1:, 1:], joint.sum(0)[1:]  # (G, P), (P,)
    union = joint.sum(1)[1:, None] + areas - both - joint[0, 1:]
    same = true.labels[:, None] == predicted.labels
    iou = np.where(same & ~true.crowd[:, None], both / np.maximum(union, 1), 0.0)
    match = iou > 0.5  # at most one of a row or column
    missed = ~match.any(1) & ~true.crowd
    # COCO's evaluation knows one crowd of a class, the last one listed.
    last = true.crowd & ~_is_repeated(true.labels, true.crowd)
    excused = joint[0, 1:] + (both * (same & last[:, None])).sum(0)
    false = ~match.any(0) & (excused <= 0.5 * areas)
    of_true = [
        np.bincount(true.labels, weights, num_classes)
        for weights in ((iou * match).sum(1), match.any(1), missed)
    ]
    return np.stack(
        [of_true[0], of_true[1], np.bincount(predicted.labels, false, num_classes), of_true[2]], 1
    )


def _is_repeated(labels: NDArray[np.int64], crowd: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(G,) whether a later crowd has the same class."""
    later = np.triu(np.ones((len(labels), len(labels)), dtype=bool), 1)
    repeated: NDArray[np.bool_] = (later & (labels[:, None] == labels) & crowd).any(1)
    return repeated


def _compact(
    numbers: NDArray[np.int64], labels: NDArray[np.int64], crowd: NDArray[np.bool_]
) -> Segments:
    """Leaves out segments without a pixel."""
    there = np.bincount(numbers.reshape(-1), minlength=len(labels) + 1)[1:] > 0
    new = np.concatenate([[0], np.cumsum(there) * there])
    return Segments(new[numbers], labels[there], crowd[there])


def _qualities(values: Values) -> Values:
    """(..., 4) numbers of classes to (..., 3) PQ, SQ and RQ; NaN without any segment."""
    iou, matches, false, missed = np.moveaxis(values, -1, 0)
    segments = matches + 0.5 * (false + missed)
    seen = np.where(segments > 0, np.nan_to_num(ratio(iou, matches)), np.nan)
    return np.stack([ratio(iou, segments), seen, ratio(matches, segments)], -1)
