"""How far the surfaces of truth and prediction lie apart, in millimetres.

Shape letters: N cases, K classes, L foreground classes, D spatial dimensions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densekit._names import check_keys
from densekit.metrics.analyses import Analysis, Table
from densekit.metrics.class_tables import cell
from densekit.metrics.means import Values, column_means, mean
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.segmentation.mask_pair import Mask, MaskPair
from densekit.metrics.segmentation.surfaces import border, crop, nearest, points

ROUNDING = 1e-6
"""Files keep spacings in float32: one step of .8 mm must still lie within a tolerance of .8 mm."""

logger = logging.getLogger(__name__)


class SurfaceDistances(MaskMetric):
    """Hausdorff distance, average distance and surface Dice of every class but the background.

    Per case, then the mean over cases (`METRIC/NAME`), then over classes (`METRIC`):

    `HD95`: the 95th percentile of the distances of each surface to the other, the larger of both.
    `ASSD`: the mean of the distances of both surfaces together.
    `NSD`: the share of both surfaces that lies within the tolerance of the other (surface Dice,
    Nikolov et al. 2018, section 4.2, with border pixels in place of surface elements).

    A surface is the pixels of the structure that have a neighbour (4 in images, 6 in volumes)
    outside of it or at the frame of the image. Distances use the spacing of the annotation; without
    one they are in pixels, which is logged once.

    A structure that was missed completely, or invented, is never perfect: HD95 and ASSD are the
    diagonal of the image, NSD is 0, and `missed/NAME` and `invented/NAME` count the cases. A case
    without the class in truth and in prediction is NaN, left out of the means and counted in
    `surface_empty/NAME`. Pixels of value 255 belong to no structure.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        tolerance: Of NSD, in millimetres: one, or one a structure, by name.
        percentile: Of the Hausdorff distance, in (0, 100]; it names the metric, 100 is `HD100`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better = None  # distances fall, NSD rises
    columns = 5
    foreground_only = True

    def __init__(
        self,
        names: Sequence[str],
        *,
        background: bool = False,
        multilabel: bool = False,
        tolerance: float | Mapping[str, float] = 1.0,
        percentile: float = 95.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, background=background, multilabel=multilabel, **kwargs)
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile: expected a number in (0, 100], got {percentile}")
        self.tolerance = tolerance
        self.tolerances = _tolerances(tolerance, [self.names[label] for label in self.labels])
        self.percentile = percentile
        self._warned = False

    def measure(self, pair: MaskPair) -> Values:
        """(L, 5): Hausdorff distance, ASSD, NSD; whether the class is in truth, in prediction."""
        spacing = pair.spacing or self._without_spacing(pair)
        diagonal = math.hypot(*np.multiply(pair.size, spacing))
        rows: list[tuple[float, ...]] = []
        for label, tolerance in zip(self.labels, self.tolerances, strict=True):
            truth, predicted = crop(*pair.of(label))
            there = (truth.any(), predicted.any())
            if all(there):
                rows.append((*self._compare(truth, predicted, spacing, tolerance), 1, 1))
            elif any(there):
                rows.append((diagonal, diagonal, 0, *map(float, there)))
            else:
                rows.append((np.nan, np.nan, np.nan, 0, 0))
        return np.array(rows, dtype=np.float64)

    def aggregate(self, values: Values) -> dict[str, float]:
        """The numbers named above; see `MaskMetric.aggregate`."""
        means = {name: column_means(values[..., c]) for c, name in enumerate(self._names())}
        metrics = {name: mean(value) for name, value in means.items()}
        for name, value in means.items():
            metrics |= self.per_class(name, value)
        for name, cases in _cases(values).items():
            metrics |= self.per_class(name, cases.sum(0))
        return metrics

    def case_metrics(self, values: Values) -> dict[str, float]:
        """`HD95/NAME`, `ASSD/NAME`, `NSD/NAME`, and 1 in `missed/NAME` or `invented/NAME`."""
        metrics: dict[str, float] = {}
        for c, name in enumerate(self._names()):
            metrics |= self.per_class(name, values[:, c])
        cases = _cases(values)
        return metrics | {
            key: value
            for name in ("missed", "invented")
            for key, value in self.per_class(name, cases[name]).items()
        }

    def analyses(self) -> list[Analysis]:
        """Structures: the usual and the worst case of each distance."""
        values = self._values(self.computed()[1])
        cases = _cases(values)
        rows = []
        for place, label in enumerate(self.labels):
            there = values[~np.isnan(values[:, place, 0]), place, :3]
            empty = np.full(3, np.nan)
            usual, worst = (
                (np.median(there, axis=0), (*there[:, :2].max(0), there[:, 2].min()))
                if len(there)
                else (empty, empty)
            )
            pairs = [cell(float(one)) for two in zip(usual, worst, strict=True) for one in two]
            counts = [int(cases[kind][:, place].sum()) for kind in ("missed", "invented")]
            rows.append((self.names[label], len(there), *pairs, *counts))
        head = [f"{name}, {which}" for name in self._names() for which in ("median", "worst")]
        columns = ("structure", "cases", *head, "missed", "invented")
        return [Table("Distances of surfaces", columns, rows, "In millimetres, but NSD.")]

    def _names(self) -> tuple[str, str, str]:
        return f"HD{self.percentile:g}", "ASSD", "NSD"

    def _compare(
        self, truth: Mask, predicted: Mask, spacing: Sequence[float], tolerance: float
    ) -> tuple[float, float, float]:
        """Hausdorff distance, ASSD and NSD of two masks that are not empty."""
        ours, theirs = (points(border(m, beyond=False), spacing) for m in (predicted, truth))
        there, back = nearest(ours, theirs), nearest(theirs, ours)
        both = np.concatenate((there, back))
        hausdorff = max(np.percentile(d, self.percentile) for d in (there, back))
        within = both <= tolerance * (1 + ROUNDING)
        return float(hausdorff), float(both.mean()), float(within.mean())

    def _without_spacing(self, pair: MaskPair) -> tuple[float, ...]:
        if not self._warned:
            logger.warning(
                "SurfaceDistances: image %s has no spacing: distances are in pixels, and so is "
                "the tolerance, for every image without one",
                pair.image_id,
            )
            self._warned = True
        return (1.0,) * len(pair.size)


def _tolerances(given: float | Mapping[str, float], names: Sequence[str]) -> list[float]:
    """The tolerance of each structure.

    Raises:
        ValueError: One is negative, missing, or of no structure.
    """
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    check_keys("tolerance", by_name, names)
    for name in names:
        value = by_name.get(name)
        if value is None or not 0 <= value < math.inf:
            raise ValueError(f"tolerance: expected at least 0 mm, got {value} for {name!r}")
    return [float(by_name[name]) for name in names]


def _cases(values: Values) -> dict[str, Values]:
    """(..., 5) numbers to (...) of 0 and 1 for each kind of case that is set apart."""
    true, predicted = values[..., 3], values[..., 4]
    return {
        "missed": true * (1 - predicted),
        "invented": predicted * (1 - true),
        "surface_empty": (1 - true) * (1 - predicted),
    }
