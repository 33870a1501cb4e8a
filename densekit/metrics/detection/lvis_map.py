"""LVIS average precision of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.detection.box_metric import BoxMetric
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.coco_map import POINTS
from densekit.metrics.detection.coco_matching import match, ranked
from densekit.metrics.detection.coco_protocol import shapes_of
from densekit.metrics.detection.lvis_protocol import (
    FREQUENCIES,
    Federation,
    measure_lvis,
    summarize_lvis,
)
from densekit.metrics.detection.resampled_ap import average_precision
from densekit.metrics.means import column_means
from densekit.metrics.protocols import Draws
from densekit.metrics.rows import Rows, id_bits, ids_of
from densekit.types import Result, Truth

COLUMNS = 3  # image (bits), label, kind
NEGATIVE, NOT_EXHAUSTIVE = 0, 1


class LvisMap(BoxMetric):
    """AP where not every image was searched for every class, equal to lvis-api.

    The keys are those of `summarize_lvis`: AP, AP50, AP75, APr, APc, APf, the AP of sizes, AR300,
    the AR of sizes and `AP/NAME`. What an image was searched for is
    `negative_labels` and `not_exhaustive_labels` of its `Truth`; images without them were searched
    for no other class than those annotated, and these exhaustively.

    Args:
        names: Class names, one a label 0..K-1.
        frequency: "r", "c" or "f" of each class: rare, common, frequent. LVIS's annotations say it.
        max_detections: Maximum number of detections per image, of all classes together.
        min_precision: See `BoxMetric`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    kept = (*BoxMetric.kept, "searched")
    searched: list[Tensor]

    def __init__(
        self,
        names: Sequence[str],
        frequency: Sequence[str] = (),
        *,
        max_detections: int = 300,
        min_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, min_precision, **kwargs)
        wrong = set(frequency) - set(FREQUENCIES)
        if wrong or len(frequency) != len(self.names):
            got = f"{len(frequency)}" + (f", among them {sorted(wrong)[0]!r}" if wrong else "")
            raise ValueError(
                f"frequency: expected one of {', '.join(FREQUENCIES)} for each of"
                f" {len(self.names)} classes, as in annotations of LVIS, got {got}"
            )
        if max_detections < 1:
            raise ValueError(f"max_detections: expected at least 1, got {max_detections}")
        self.frequency = list(frequency)
        self.max_detections = max_detections
        nothing = np.zeros((0, len(self.names)), dtype=np.bool_)
        self._asked = nothing, nothing

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images, see `BoxMetric.update`."""
        searched = [self._searched_rows(one) for one in truth]
        super().update(results, truth)
        self.keep(searched=searched)

    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> dict[str, float]:
        """The numbers named above."""
        self._asked = self._matrices(ids, rows)
        return dict(super().from_rows(ids, rows))

    def aggregate(
        self, num_images: int, detections: Detections, truth: Annotated
    ) -> dict[str, float]:
        """The numbers named above; see `BoxMetric.aggregate`."""
        negative, not_exhaustive = (
            [np.flatnonzero(row).tolist() for row in matrix] for matrix in self._asked
        )
        tables = measure_lvis(
            Federation(negative, not_exhaustive, self.frequency),
            shapes_of(truth, truth.area),
            shapes_of(detections),
            detections.scores,
            max_detections=self.max_detections,
        )
        return summarize_lvis(tables, self.names, self.frequency)

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """AP, AP50, AP75, those of rare, common and frequent classes, and `AP/NAME` of every draw.

        See `HasResamples`.
        """
        detections, truth = self.computed()
        truth = replace(truth, crowd=self.ignored(truth))
        matches = match(detections, truth, max_detections=self.max_detections)
        unjudged = self.unjudged(detections)
        classes = (
            ranked(matches, detections, truth, label, unjudged) for label in range(len(self.names))
        )
        aps = np.stack([average_precision(one, draws, POINTS) for one in classes])  # (K, T, R)
        groups = np.array(self.frequency)
        averaged = {"AP": aps, "AP50": aps[:, :1], "AP75": aps[:, 5:6]}
        averaged |= {f"AP{group}": aps[groups == group] for group in FREQUENCIES}
        averaged |= {f"AP/{name}": aps[k] for k, name in enumerate(self.names)}
        return {n: column_means(v.reshape(-1, len(draws))) for n, v in averaged.items()}

    def computed(self) -> tuple[Detections, Annotated]:
        """Without the detections of classes that an image was not searched for, and the excess."""
        detections, truth = super().computed()
        negative, _ = self._asked
        judged = negative.copy()
        judged[truth.image, truth.labels] = True
        # As in lvis-api: the limit of an image holds before classes are left out.
        order = np.lexsort((-detections.scores, detections.image))
        image = detections.image[order]
        rank = np.arange(len(image)) - np.searchsorted(image, image)
        kept = np.sort(order[rank < self.max_detections])
        detections = detections.of(kept)
        return detections.of(judged[detections.image, detections.labels]), truth

    def ignored(self, truth: Annotated) -> NDArray[np.bool_]:
        """None: LVIS has no crowd regions."""
        return np.zeros_like(truth.crowd)

    def unjudged(self, detections: Detections) -> NDArray[np.bool_]:
        """Those of classes that are not annotated exhaustively."""
        _, not_exhaustive = self._asked
        unjudged: NDArray[np.bool_] = not_exhaustive[detections.image, detections.labels]
        return unjudged

    def _searched_rows(self, truth: Truth) -> Tensor:
        """(A, 3), see `COLUMNS`."""
        parts = []
        for kind, key in ((NEGATIVE, "negative_labels"), (NOT_EXHAUSTIVE, "not_exhaustive_labels")):
            labels = torch.as_tensor(truth.get(key, []), dtype=torch.float64).reshape(-1)
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.names):
                raise ValueError(
                    f"the annotation of image {truth['image_id']}: expected {key} of 0 to"
                    f" {len(self.names) - 1}, got {labels.tolist()}"
                )
            image = id_bits([truth["image_id"]]).expand_as(labels)
            parts.append(torch.stack((image, labels, torch.full_like(labels, kind)), dim=1))
        return torch.cat(parts)

    def _matrices(
        self, ids: NDArray[np.int64], rows: Rows
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N, K) which labels are negative in which image, and which not exhaustive."""
        table = rows["searched"].reshape(-1, COLUMNS)
        image = np.searchsorted(ids, ids_of(table[:, 0]))
        shape = (2, len(ids), len(self.names))
        matrices = np.zeros(shape, dtype=np.bool_)
        try:
            matrices[table[:, 2].astype(np.int64), image, table[:, 1].astype(np.int64)] = True
        except IndexError as error:  # of a damaged evaluation
            raise ValueError(
                f"searched: expected rows of its images and classes: {error}"
            ) from None
        return matrices[NEGATIVE], matrices[NOT_EXHAUSTIVE]
