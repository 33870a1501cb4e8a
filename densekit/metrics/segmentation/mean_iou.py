"""IoU of classes, in both of the conventions that are called mIoU.

Shape letters: N images, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.analyses import Analysis, Table
from densekit.metrics.class_tables import cell, confusion_matrix, distribution
from densekit.metrics.means import Values, column_means, mean, ratio
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.segmentation.mask_pair import (
    MaskPair,
    joint_counts,
    mask_pair,
    of_joint,
    overlaps,
)
from densekit.types import Result, Truth


class MeanIoU(MaskMetric):
    """Intersection over union of every class, the background among them.

    `mIoU`, `IoU/NAME`: pixels are pooled over the data set, as Pascal VOC and Cityscapes do.
    `mIoU_per_image`: the mean over images of the mean over the classes of the image.
    `accuracy`: share of the pixels that are right (multi-label: of the answers).
    `mean_accuracy`: mean over classes of the share found of their pixels.
    `frequency_weighted_IoU`: IoU weighted by the pixels that classes have in truth.
    `mIoU_foreground`, where class 0 is the background: `mIoU` without it.

    A class that is neither in truth nor in prediction is NaN and left out of a mean, one that is
    only predicted counts with 0: over the data set for `mIoU`, in the image for `mIoU_per_image`,
    which leaves out an image without any class. `mIoU_per_image_left_out` counts the classes of
    images that are left out. Pixels of value 255 are not counted.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        **kwargs: Of `torchmetrics.Metric`.
    """

    kept = ("rows", "confused")
    columns = 4
    confused: list[Tensor]

    def states(self, result: Result, truth: Truth) -> dict[str, Tensor]:
        """The row of one image, and which classes were taken for which: cell and count."""
        pair = mask_pair(result, truth, len(self.names), multilabel=self.multilabel)
        if not pair.is_exclusive:
            nothing = torch.zeros(0, dtype=torch.float64)
            return {"rows": self.numbered(truth, overlaps(pair)), "confused": nothing}
        table = joint_counts(pair)
        cells = np.flatnonzero(table)
        entries = np.stack((cells, table.reshape(-1)[cells]), axis=1).astype(np.float64)
        return {
            "rows": self.numbered(truth, of_joint(table)),
            "confused": torch.from_numpy(entries.reshape(-1)),
        }

    def measure(self, pair: MaskPair) -> Values:
        """(K, 4), see `overlaps`."""
        return overlaps(pair)

    def aggregate(self, values: Values) -> dict[str, float]:
        """The numbers named above; see `MaskMetric.aggregate`."""
        both, predicted, true, counted = np.moveaxis(values.sum(0), -1, 0)  # (K,) each
        iou, of_image = ratio(both, predicted + true - both), _iou(values)  # (K,), (N, K)
        metrics = {
            "mIoU": mean(iou),
            "mIoU_per_image": mean(column_means(of_image.T)),
            "mIoU_per_image_left_out": float(np.isnan(of_image).sum()),
            "accuracy": self._accuracy(both, predicted, true, counted),
            "mean_accuracy": mean(ratio(both, true)),
            "frequency_weighted_IoU": float(ratio(np.nansum(true * iou), true.sum())),
        }
        if self.background:
            metrics["mIoU_foreground"] = mean(iou[1:])
        return metrics | self.per_class("IoU", iou)

    def case_metrics(self, values: Values) -> dict[str, float]:
        """`mIoU`, `accuracy` and `IoU/NAME` of one image."""
        iou = _iou(values)
        accuracy = self._accuracy(*values.T)
        return {"mIoU": mean(iou), "accuracy": accuracy} | self.per_class("IoU", iou)

    def analyses(self) -> list[Analysis]:
        """Confusion matrix of exclusive classes, classes, distribution over images."""
        values = self._values(self.computed()[1])
        found: list[Analysis] = [self._classes(values)]
        of_images = {"all classes": column_means(_iou(values).T)}
        found += distribution(of_images, "mIoU", "images")
        if self.multilabel or len(self.names) == 1:
            return found
        return [confusion_matrix(self.names, self._confusion(), "pixels"), *found]

    def _confusion(self) -> NDArray[np.float64]:
        """(K, K) pixels by true class (row) and predicted class (column)."""
        cells, counts = self.computed_rows()["confused"].reshape(-1, 2).T
        size = len(self.names)
        table = np.bincount(cells.astype(np.int64), counts, size * size)
        return table.astype(np.float64).reshape(size, size)

    def _classes(self, values: Values) -> Table:
        both, predicted, true, counted = np.moveaxis(values.sum(0), -1, 0)
        columns = (
            (values[..., 2] > 0).sum(0),
            100 * ratio(true, counted),
            ratio(both, predicted + true - both),
            column_means(_iou(values)),
            ratio(both, predicted),
            ratio(both, true),
        )
        rows = [
            (name, int(images), *map(cell, numbers))
            for name, images, *numbers in zip(self.names, *columns, strict=True)
        ]
        head = ("class", "images", "% of pixels", "IoU", "IoU per image", "precision", "recall")
        return Table("Classes", head, rows, "IoU over all pixels, and the mean over images.")

    def _accuracy(
        self,
        both: NDArray[np.float64],
        predicted: NDArray[np.float64],
        true: NDArray[np.float64],
        counted: NDArray[np.float64],
    ) -> float:
        """Of (K,) numbers of pixels."""
        if self.multilabel or len(self.names) == 1:
            right = counted - predicted - true + 2 * both
            return float(ratio(right.sum(), counted.sum()))
        return float(ratio(both.sum(), true.sum()))


def _iou(values: Values) -> Values:
    """(..., 4) numbers of pixels to (...) IoU, NaN where the class is not there."""
    both, predicted, true = np.moveaxis(values, -1, 0)[:3]
    return ratio(both, predicted + true - both)
