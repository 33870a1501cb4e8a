"""Calibration of masks, and the probability from which a pixel should count as a class.

Shape letters: N images, K classes, M bins, F fine bins, R draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Suspect
from densekit.metrics.image_metric import ImageMetric
from densekit.metrics.means import Values, column_means, mean, ratio
from densekit.metrics.protocols import Draws
from densekit.metrics.reliability import calibration_error, reliability
from densekit.metrics.rows import check_names
from densekit.metrics.score_curves import over_scores, precision_recall
from densekit.metrics.segmentation.mask_pair import MaskPair, mask_pair
from densekit.metrics.segmentation.pixel_bins import Pixels, class_counts, top_label_counts
from densekit.metrics.segmentation.suspects import (
    COLUMNS,
    confidence_where_wrong,
    disagreement,
    suspects_of,
)
from densekit.metrics.thresholds import Scored, check_precision, measured_thresholds
from densekit.types import IGNORE_INDEX, PIXELS, Result, Truth

FINE = 5
"""Bins of thresholds per bin of calibration."""


class MaskCalibration(ImageMetric):
    """Whether pixels that are 80 % sure are right in 80 % of the cases, and the best thresholds.

    `ECE`: expected calibration error over the pixels of all images (Guo et al. 2017, equation 3).
    The confidence of exclusive classes is the largest probability; of independent ones, and of a
    binary mask, each class's own probability is compared with how often the class is there
    (`ECE/NAME`, and their mean), as torchmetrics and MONAI do.
    `ECE_per_image`: the mean over images of the error of each, as MONAI does.

    Of binary and multi-label masks it measures the thresholds of the best F1, which for pixels is
    the Dice coefficient over all images together; heads keep them (`best_thresholds`).

    Probabilities are those of the network at the original size: before clean-up, without ignored
    pixels. Results without them (an inferer that gives masks alone) leave every value NaN.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        num_bins: M; thresholds are told apart by a fifth of a bin.
        min_precision: Measure the lowest thresholds of this precision in place of the best F1.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: There is no bin, or the precision is none.
    """

    higher_is_better = False
    nothing = "no probabilities of their pixels"

    def __init__(
        self,
        names: Sequence[str],
        *,
        background: bool = False,
        multilabel: bool = False,
        num_bins: int = 20,
        min_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_bins < 1:
            raise ValueError(f"MaskCalibration.num_bins: expected at least 1, got {num_bins}")
        check_precision(min_precision, "MaskCalibration.min_precision")
        self.names = check_names(names)
        self.background, self.multilabel = background and len(self.names) > 1, multilabel
        self.num_bins, self.min_precision = num_bins, min_precision

    @property
    def independent(self) -> bool:
        """Whether each class is decided for by its own probability."""
        return self.multilabel or len(self.names) == 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lines of calibration, 3, and fine bins of an image's counts."""
        return (len(self.names) if self.independent else 1), 3, self.num_bins * FINE

    @property
    def width(self) -> int:
        """The counts, and what `disagreement` keeps."""
        return int(np.prod(self.shape)) + COLUMNS

    def row(self, result: Result, truth: Truth) -> Values:
        """The counts of one image, then its disagreement; 0 where there are no probabilities."""
        pixels: Pixels | None = result.get(PIXELS)
        if pixels is None:
            return np.zeros(self.width)
        pair = mask_pair(result, truth, len(self.names), multilabel=self.multilabel)
        counts, confidence = self._looked_through(pair, pixels)
        return np.concatenate([counts.reshape(-1), disagreement(pair, confidence, self.background)])

    def _looked_through(self, pair: MaskPair, pixels: Pixels) -> tuple[Values, NDArray[np.float16]]:
        """The counts, and (*S) `confidence_where_wrong`, in one pass over the probabilities."""
        counts, count = np.zeros(self.shape), self.shape[-1]
        wrong = (pair.truth != pair.predicted) & (pair.truth != IGNORE_INDEX)
        confidence = np.zeros(pair.size, dtype=np.float16)
        truth, wrong, written = (pixels.view(mask) for mask in (pair.truth, wrong, confidence))
        if not pair.multilabel:
            truth, wrong = truth[None], wrong[None]
        for rows, probabilities in pixels.parts():
            there = truth[:, rows]  # (1 or K, n, ...)
            if self.independent:
                values = probabilities.cpu().numpy()
                counts += class_counts(values, there, count)
                sure = np.where(there == 1, 1 - values, values)  # of the other answer
            else:
                best = probabilities.max(0)
                largest = best.values.cpu().numpy()[None]
                right = best.indices.cpu().numpy() == there
                counts += top_label_counts(largest, right, there != IGNORE_INDEX, count)
                sure = np.where(right, 0, largest)  # a clean-up may have removed what was right
            written[rows] = confidence_where_wrong(sure, wrong[:, rows])
        return counts, confidence

    def aggregate_rows(self, table: Values) -> dict[str, float]:
        """The numbers named above."""
        of_images = self._errors(self._counts(table))  # (N, lines)
        pooled = self._errors(self._counts(table.sum(0)))  # (lines,)
        metrics = {"ECE": mean(pooled), "ECE_per_image": mean(column_means(of_images.T))}
        return metrics | self._named(pooled)

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Every metric of every draw of images; see `HasResamples`."""
        table, weights = self.computed()[1], draws.astype(np.float64)
        pooled = self._errors(self._counts(weights @ table))  # (R, lines)
        of_images = column_means(self._errors(self._counts(table)).T)  # (N,)
        there = ~np.isnan(of_images)
        per_image = ratio(weights[:, there] @ of_images[there], weights[:, there].sum(1))
        found = {"ECE": column_means(pooled.T), "ECE_per_image": per_image}
        if self.independent:
            found |= {f"ECE/{name}": pooled[:, k] for k, name in enumerate(self.names)}
        return found

    def facts(self) -> dict[str, Any]:
        """`best_thresholds` of binary and multi-label masks, see `measured_thresholds`."""
        if not self.independent:
            return {}
        return measured_thresholds(self._scored(), "the level of pixels", self.min_precision)

    def analyses(self) -> list[Analysis]:
        """Reliability; precision, recall and F1 over the threshold where there is one."""
        counts = self._coarse(self._counts(self.computed()[1].sum(0)))
        names = self.names if self.independent else ["all classes"]
        found: list[Analysis] = [reliability(dict(zip(names, counts, strict=True)), "pixels")]
        if self.independent:
            scored = self._scored()
            found += [precision_recall(scored), over_scores(scored, "probability")]
        return found

    def suspects(self) -> list[Suspect]:
        """Images with a region of confident disagreement, the largest share first."""
        ids, table = self.computed()
        return suspects_of(ids, table[:, -COLUMNS:], self.names)

    def cases(self) -> list[dict[str, Any]]:
        """`ECE` of each image."""
        ids, table = self.computed()
        errors = column_means(self._errors(self._counts(table)).T)
        return [{"image_id": int(i), "ECE": float(e)} for i, e in zip(ids, errors, strict=True)]

    def _counts(self, table: Values) -> Values:
        """(..., lines, 3, F) of (..., W) rows."""
        return table[..., :-COLUMNS].reshape(*table.shape[:-1], *self.shape)

    def _coarse(self, counts: Values) -> Values:
        """(..., F) fine bins to (..., M)."""
        coarse: Values = counts.reshape(*counts.shape[:-1], self.num_bins, FINE).sum(-1)
        return coarse

    def _errors(self, counts: Values) -> Values:
        """(..., lines, 3, F) counts to (..., lines)."""
        return calibration_error(self._coarse(counts))

    def _named(self, pooled: Values) -> dict[str, float]:
        if not self.independent:
            return {}
        return {f"ECE/{name}": float(v) for name, v in zip(self.names, pooled, strict=True)}

    def _scored(self) -> dict[str, Scored]:
        """Pixels of each class, in bins, as last computed."""
        counts = self._counts(self.computed()[1].sum(0))
        middle = (np.arange(self.shape[-1]) + 0.5) / self.shape[-1]
        return {
            name: Scored(middle, true, int(true.sum()), number)
            for name, (number, true, _) in zip(self.names, counts, strict=True)
        }
