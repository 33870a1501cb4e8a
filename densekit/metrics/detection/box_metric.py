"""What box metrics share: the rows they keep of every image, and their way through processes.

Rows (`densekit.metrics.rows`) are sorted by image before anything is computed, so the number of
processes cannot change a metric.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.analyses import Analysis, Suspect
from densekit.metrics.detection.analyses import CONFIDENT, detection_analyses
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.confusion import confusion
from densekit.metrics.detection.outcomes import IOU, Outcomes, match_outcomes
from densekit.metrics.detection.suspects import detection_suspects
from densekit.metrics.means import ratio
from densekit.metrics.rows import RowMetric, Rows, check_names, id_bits, ids_of, paired
from densekit.metrics.thresholds import (
    check_precision,
    measured_thresholds,
    threshold_of_classes,
)
from densekit.types import Result, Truth

DETECTION_COLUMNS = 7  # image (bits), label, score, x1, y1, x2, y2
TRUTH_COLUMNS = 9  # image (bits), label, area, x1, y1, x2, y2, crowd, difficult

logger = logging.getLogger(__name__)


class BoxMetric(RowMetric):
    """Base of metrics over boxes; a sub-class aggregates in `aggregate`.

    Args:
        names: Class names, one a label 0..K-1; they name the per-class metrics.
        min_precision: Precision, 0..1, for which `facts` measures thresholds; None for the best F1.
        **kwargs: Of `torchmetrics.Metric`.

    Attributes:
        max_detections: Maximum number of detections per class and image that are explained.
        shape: What of an object is compared.
    """

    max_detections: int
    shape: ClassVar[str] = "box"
    kept: ClassVar[tuple[str, ...]] = ("images", "detections", "truth")
    higher_is_better = True
    images: list[Tensor]
    detections: list[Tensor]
    truth: list[Tensor]

    def __init__(self, names: Sequence[str], min_precision: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = check_names(names)
        check_precision(min_precision, f"{type(self).__name__}.min_precision")
        self.min_precision = min_precision
        self._outcomes: tuple[Any, Outcomes] | None = None

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images; call it on every process, with empty lists where there is none.

        Args:
            results: One an image, in its original frame: boxes (N, 4) xyxy, scores (N,), labels
                (N,) in 0..K-1.
            truth: The annotation of each: image_id, boxes (M, 4), labels (M,); area, crowd and
                difficult (M,) where known (else the box's area, False, False).

        Raises:
            ValueError: If the lists differ in length, an entry has another shape, a label is not a
                class, a box ends before it begins, or a box or a score is not finite.
        """
        self.keep(
            detections=[self._detection_rows(r, t) for r, t in paired(results, truth)],
            images=[id_bits([t["image_id"] for t in truth])],
            truth=[self._truth_rows(t) for t in truth],
        )

    def images_in(self, rows: Rows) -> NDArray[np.int64]:
        """(N,) id of every image."""
        return ids_of(rows["images"])

    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> Mapping[str, float]:
        """`aggregate` of the sorted rows.

        Raises:
            ValueError: A row is of no image or no class, as in a damaged evaluation.
        """
        for state, columns in (("detections", DETECTION_COLUMNS), ("truth", TRUTH_COLUMNS)):
            self._check_stored(state, rows[state].reshape(-1, columns), ids)
        annotated = self._annotated(ids, rows)
        if annotated.labels.size == 0:
            reason = f"none of {len(ids)} images has an annotated box" if ids.size else "no images"
            logger.warning("%s is nan: %s", type(self).__name__, reason)
        return self.aggregate(len(ids), self._detections(ids, rows), annotated)

    def computed(self) -> tuple[Detections, Annotated]:
        """What was detected and annotated in the images of all processes, as last computed.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        ids, rows = self.image_ids(), self.computed_rows()
        return self._detections(ids, rows), self._annotated(ids, rows)

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self._outcomes = None

    def outcomes(self) -> Outcomes:
        """What became of every detection at an IoU of 0.5, as last computed."""
        if self._outcomes is None or self._outcomes[0] is not self._measured:
            detections, truth = self.computed()
            truth = replace(truth, crowd=self.ignored(truth))
            ids = self.image_ids()
            unjudged = self.unjudged(detections)
            found = match_outcomes(
                self.names, ids, detections, truth, self.max_detections, unjudged
            )
            self._outcomes = self._measured, found
        return self._outcomes[1]

    def ignored(self, truth: Annotated) -> NDArray[np.bool_]:
        """(M,) which annotated boxes need not be found; what is in them counts neither way."""
        return truth.crowd

    def unjudged(self, detections: Detections) -> NDArray[np.bool_]:
        """(D,) which detections count only if they are right."""
        return np.zeros(len(detections.labels), dtype=np.bool_)

    def facts(self) -> dict[str, Any]:
        """`best_thresholds`, see `densekit.metrics.thresholds.measured_thresholds`."""
        return measured_thresholds(
            dict(self.outcomes().scored()), f"IoU {IOU:g}", self.min_precision
        )

    def analyses(self) -> list[Analysis]:
        """Error types, tables, curves, confusion and calibration; see `HasAnalyses`."""
        return detection_analyses(self.outcomes(), self.facts())

    def suspects(self) -> list[Suspect]:
        """Boxes that are probably annotated wrong, or not at all; see `HasSuspects`."""
        return detection_suspects(self.outcomes(), self._thresholds())

    def confusion(self) -> NDArray[np.int64]:
        """(K + 1, K + 1) objects, the background last, of the detections of `cases`."""
        return confusion(self.outcomes(), self._confident())

    def cases(self) -> list[dict[str, float]]:
        """A row per image, by ascending `image_id`, as last computed.

        `F1`, `found`, `missed` and `false` at an IoU of 0.5, of the detections from the threshold
        of their class on (`facts`; 0.5 if none was measured); crowd regions and what lies in them
        do not count. F1 is NaN with nothing to find and nothing found.
        """
        outcomes, confident = self.outcomes(), self._confident()
        image, count = outcomes.detections.image, len(outcomes.image_ids)
        objects = np.bincount(outcomes.truth.image[outcomes.is_object], minlength=count)
        found = np.bincount(image[outcomes.right & confident], minlength=count)
        wrong = outcomes.counts & ~outcomes.right & confident
        false = np.bincount(image[wrong], minlength=count)
        f1 = ratio(2 * found, objects + found + false)
        columns = zip(outcomes.image_ids, f1, found, objects - found, false, strict=True)
        names = ("F1", "found", "missed", "false")
        return [
            {"image_id": int(image_id), **dict(zip(names, map(float, row), strict=True))}
            for image_id, *row in columns
        ]

    def _thresholds(self) -> NDArray[np.float64]:
        return threshold_of_classes(self.facts(), self.names, CONFIDENT)

    def _confident(self) -> NDArray[np.bool_]:
        detections = self.outcomes().detections
        return detections.scores >= self._thresholds()[detections.labels]

    @abstractmethod
    def aggregate(
        self, num_images: int, detections: Detections, truth: Annotated
    ) -> Mapping[str, float]:
        """Measures; every key must be there whatever the rows, with NaN for what has no value."""

    def _detections(self, ids: NDArray[np.int64], rows: Rows) -> Detections:
        image, values = _sorted(rows["detections"].reshape(-1, DETECTION_COLUMNS), ids)
        labels = values[:, 0].astype(np.int64)
        return Detections(image, labels, scores=values[:, 1], boxes=values[:, 2:6])

    def _annotated(self, ids: NDArray[np.int64], rows: Rows) -> Annotated:
        image, values = _sorted(rows["truth"].reshape(-1, TRUTH_COLUMNS), ids)
        return Annotated(
            image=image,
            labels=values[:, 0].astype(np.int64),
            area=values[:, 1],
            boxes=values[:, 2:6],
            crowd=values[:, 6] > 0,
            difficult=values[:, 7] > 0,
        )

    def _detection_rows(self, result: Result, truth: Truth) -> Tensor:
        where = f"a detection in image {truth['image_id']}"
        boxes = _boxes(result["boxes"], where)
        labels, scores = (_column(result, key, len(boxes), where) for key in ("labels", "scores"))
        image_id = id_bits([truth["image_id"]]).expand_as(labels)
        rows = torch.cat((torch.stack((image_id, labels, scores), dim=1), boxes), dim=1)
        self._check(rows, boxes, where)
        return rows

    def _truth_rows(self, truth: Truth) -> Tensor:
        where = f"the annotation of image {truth['image_id']}"
        boxes = _boxes(truth["boxes"], where)
        labels = _column(truth, "labels", len(boxes), where)
        known: dict[str, Tensor] = {
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "crowd": torch.zeros_like(labels),
            "difficult": torch.zeros_like(labels),
        }
        known |= {key: _column(truth, key, len(boxes), where) for key in known if key in truth}
        image_id = id_bits([truth["image_id"]]).expand_as(labels)
        flags = torch.stack((known["crowd"], known["difficult"]), dim=1)
        rows = torch.cat((torch.stack((image_id, labels, known["area"]), 1), boxes, flags), dim=1)
        self._check(rows, boxes, where)
        return rows

    def _check_stored(self, state: str, rows: NDArray[np.float64], ids: NDArray[np.int64]) -> None:
        """Refuses rows that no update has kept."""
        labels = rows[:, 1]
        is_class = (labels >= 0) & (labels < len(self.names)) & (labels == np.floor(labels))
        known = np.isin(ids_of(rows[:, 0]), ids)
        if not (is_class.all() and known.all() and np.isfinite(rows[:, 1:]).all()):
            raise ValueError(f"{state}: expected finite rows of its images and classes")

    def _check(self, rows: Tensor, boxes: Tensor, where: str) -> None:
        if not bool(torch.isfinite(rows[:, 1:]).all()):
            raise ValueError(
                f"{where}: expected finite boxes, scores and areas, got NaN or an infinite value"
            )
        inverted = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
        if bool(inverted.any()):
            box = boxes[inverted][0].tolist()
            raise ValueError(f"{where}: expected boxes with x1 <= x2 and y1 <= y2, got {box}")
        labels = rows[:, 1]
        if bool((broken := labels != labels.round()).any()):
            got = float(labels[broken][0])
            raise ValueError(f"{where}: expected labels that are whole numbers, got {got:g}")
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.names):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"{where}: expected labels of 0 to {len(self.names) - 1} ({len(self.names)} class"
                f" names), got {int(wrong)}"
            )


def _boxes(values: Any, where: str) -> Tensor:
    """(N, 4) float64; no box may be of any shape."""
    boxes = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if boxes.numel() and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise ValueError(f"{where}: expected boxes of shape (N, 4), got {tuple(boxes.shape)}")
    return boxes.reshape(-1, 4)


def _column(entry: Mapping[str, Any], key: str, count: int, where: str) -> Tensor:
    """(N,) float64."""
    values = torch.as_tensor(entry[key], dtype=torch.float64, device="cpu")
    if values.numel() != count or values.ndim != 1:
        raise ValueError(
            f"{where}: expected {key} of shape ({count},), one a box, got {tuple(values.shape)}"
        )
    return values


def _sorted(
    rows: NDArray[np.float64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Place of each row's image among the ids, ascending, and what the rows say of it.

    Within an image the order of its update stays, as it decides ties.
    """
    image = np.searchsorted(ids, ids_of(rows[:, 0]))
    order = np.argsort(image, kind="stable")
    return image[order], rows[order, 1:]
