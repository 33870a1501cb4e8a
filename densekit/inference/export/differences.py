"""What two results of one image differ in: boxes and masks, classes of pixels, embeddings.

Shape letters: N boxes, K classes, E values of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import Result, RunLengths

CONFIDENT = 0.5
"""Lowest score of the boxes of either that are looked for in the other."""
SAME_MASK = 0.8
"""IoU from which on the masks of one object are the same: a pixel more is much of a small one."""


@dataclass(frozen=True)
class Limits:
    """How far an export may be from its model.

    Attributes:
        points: Change of a metric, in points: hundredths of its range 0 to 1, or of the model's
            value if that is larger than 1.
        pixels: Change of a coordinate of a box, in pixels of the network's input.
        moved: Percentage of confident boxes without a box of their class within `pixels`, and of
            the masks of the others that overlap by less than `SAME_MASK`.
        mask: Percentage of pixels of another class.
        value: Change of a probability or of any other output, in percent of the largest of its
            image; 1 - cosine of an embedding, in percent.
    """

    points: float
    pixels: float
    moved: float
    mask: float
    value: float


LIMITS = {
    "fp32": Limits(points=0.05, pixels=1, moved=0.2, mask=0.05, value=0.1),
    "bf16": Limits(points=0.2, pixels=8, moved=2, mask=1, value=5),
    "fp16": Limits(points=0.2, pixels=4, moved=1, mask=0.5, value=2),
    "int8": Limits(points=0.5, pixels=16, moved=5, mask=3, value=10),
}
"""By precision. Rounding moves near ties: a box of bfloat16 may be its own neighbour's."""


@dataclass(frozen=True)
class Measured:
    """One difference between a file and its model.

    Attributes:
        name: What was measured, `HEAD/NAME`.
        unit: Unit of the difference.
        difference: How far apart the two are.
        limit: The largest accepted difference.
        compared: Number of things that were compared; 0 proves nothing.
        values: Of a metric: the model's value and the file's.
    """

    name: str
    unit: str
    difference: float
    limit: float
    compared: int
    values: tuple[float, float] | None = None

    @property
    def head(self) -> str:
        """The head that it belongs to."""
        return self.name.partition("/")[0]

    def __str__(self) -> str:
        if not self.compared:
            return f"{self.name}: nothing to compare"
        if self.values is None:
            of = f"of {self.compared:,}"
            return f"{self.name}: {self.difference:.3g} {self.unit} {of}, at most {self.limit:g}"
        own, other = self.values
        return (
            f"{self.name}: {own:.4f} of the model, {other:.4f} of the file,"
            f" {self.difference:.2g} {self.unit} apart, at most {self.limit:g}"
        )

    @property
    def is_within(self) -> bool:
        """Whether the difference is accepted; NaN is not, unless nothing was compared."""
        return self.compared == 0 or self.difference <= self.limit


@dataclass
class Differences:
    """Adds up the differences of one head over images.

    Args:
        limits: Of the precision.
    """

    limits: Limits
    boxes: int = 0
    moved: int = 0
    pixels: int = 0
    changed: int = 0
    images: int = 0
    furthest: float = 0.0
    masks: int = 0
    reshaped: int = 0
    largest: dict[str, float] = field(default_factory=dict)

    def update(self, expected: Result, found: Result, zoom: float) -> None:
        """Adds one image.

        Args:
            expected: The model's result.
            found: The file's.
            zoom: Pixels of the network's input per pixel of the image.
        """
        self.images += 1
        if "boxes" in expected:
            self._look_for(expected, found, zoom)
            self._look_for(found, expected, zoom)  # a box that the model does not have
        elif "mask" in expected:
            self.pixels += expected["mask"].size
            self.changed += int((expected["mask"] != found["mask"]).sum())
        else:
            self._values(expected, found)

    def measured(self, head: str) -> list[Measured]:
        """Returns the differences of all images, named after the head."""
        limits, boxes, pixels = self.limits, self.boxes, self.pixels
        rows: list[tuple[str, str, float, float, int]] = []
        if boxes or not (pixels or self.largest):
            share = 100 * self.moved / max(1, boxes)
            within = f"boxes moved by more than {limits.pixels:g} pixels"
            rows.append((within, "%", share, limits.moved, boxes))
            found = boxes - self.moved
            rows.append(
                ("largest move of the others", "pixels", self.furthest, limits.pixels, found)
            )
        if self.masks:
            share = 100 * self.reshaped / self.masks
            rows.append(("masks of another shape", "%", share, limits.moved, self.masks))
        if pixels:
            share = 100 * self.changed / pixels
            rows.append(("pixels of another class", "%", share, limits.mask, pixels))
        rows += [(key, "%", off, limits.value, self.images) for key, off in self.largest.items()]
        return [Measured(f"{head}/{row[0]}", *row[1:]) for row in rows]

    def _look_for(self, wanted: Result, there: Result, zoom: float) -> None:
        """Looks for each confident box among the boxes of the other result."""
        for n in np.flatnonzero(wanted["scores"] >= CONFIDENT).tolist():
            own = np.flatnonzero(there["labels"] == wanted["labels"][n])
            moves = np.abs(there["boxes"][own] - wanted["boxes"][n]).max(1) * zoom
            nearest = float(moves.min(initial=np.inf))
            self.boxes += 1
            if nearest > self.limits.pixels:
                self.moved += 1
                continue
            self.furthest = max(self.furthest, nearest)
            if "masks" in wanted:
                other = there["masks"][own[moves.argmin()]]
                self.masks += 1
                self.reshaped += mask_iou(wanted["masks"][n], other) < SAME_MASK

    def _values(self, expected: Result, found: Result) -> None:
        for key, value in expected.items():
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or key == "scores":
                continue
            off = _turn(value, found[key]) if key == "embedding" else _relative(value, found[key])
            before = self.largest.get(key, 0.0)
            self.largest[key] = off if np.isnan(off) else max(before, off)


def mask_iou(one: RunLengths, other: RunLengths) -> float:
    """IoU of two masks, 1 if neither has a pixel."""
    from pycocotools import mask as coco_mask

    if not coco_mask.area(one) + coco_mask.area(other):
        return 1.0
    return float(coco_mask.iou([one], [other], [0])[0, 0])


def of_metrics(
    expected: Mapping[str, float],
    found: Mapping[str, float],
    main: Mapping[str, str],
    limits: Limits,
    images: int,
) -> list[Measured]:
    """Compares the metrics by which heads are judged.

    Args:
        expected: The model's, `HEAD/METRIC` to value.
        found: The file's.
        main: Head to the name of its main metric; others are left out.
        limits: Of the precision.
        images: Number of images they were measured on.

    Returns:
        One row per head; a metric that is NaN or 0 for both compares nothing.
    """
    rows = []
    for head, name in main.items():
        key = f"{head}/{name}"
        if key not in expected:
            continue
        one, other = expected[key], found[key]
        same = one == other or (np.isnan(one) and np.isnan(other))
        empty = same and (np.isnan(one) or one == 0)
        off = 0.0 if same else 100 * abs(one - other) / max(1.0, abs(one))
        rows.append(
            Measured(key, "points", off, limits.points, 0 if empty else images, (one, other))
        )
    return rows


def _turn(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """1 - cosine of two embeddings (E,), in percent."""
    one, other = expected.astype(float), found.astype(float)
    return float(100 * (1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))


def _relative(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest change in percent of the largest value."""
    if expected.shape != found.shape:
        return float("nan")
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    return float(100 * np.abs(expected - found).max(initial=0) / scale)
