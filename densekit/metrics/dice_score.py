"""Dice coefficient of structures, case by case and over all cases together.

Shape letters: N cases, K classes, L foreground classes.
"""

from __future__ import annotations

import numpy as np

from densekit.metrics.mask_metric import MaskMetric
from densekit.metrics.mask_pair import MaskPair, overlaps
from densekit.metrics.means import Values, column_means, mean, ratio


class DiceScore(MaskMetric):
    """2 |truth and prediction| / (|truth| + |prediction|) of every class but the background.

    `dice/NAME`: mean over cases. `dice`: mean of these over classes.
    `dice_pooled`, `dice_pooled/NAME`: from the pixels of all cases together.
    `dice_empty/NAME`: how many cases have the class neither in truth nor in prediction.

    Such a case says nothing: it is NaN and left out of the mean (a data set of them alone is NaN).
    A structure that was missed completely, and one that was invented, counts with 0. Pixels of
    value 255 are not counted.

    Args:
        names: Class names, one a label 0..K-1.
        background: Whether class 0 is the background.
        multilabel: Whether the K classes are independent or exclusive.
        **kwargs: Of `torchmetrics.Metric`.
    """

    columns = 3
    foreground_only = True

    def measure(self, pair: MaskPair) -> Values:
        """(L, 3): pixels in truth and prediction, in the prediction, in the truth."""
        return overlaps(pair)[list(self.labels), :3]

    def aggregate(self, values: Values) -> dict[str, float]:
        """The numbers named above; see `MaskMetric.aggregate`."""
        per_class = column_means(_dice(values))
        pooled = _dice(values.sum(0))
        empty = (values[..., 1] + values[..., 2] == 0).sum(0)
        return {
            "dice": mean(per_class),
            "dice_pooled": mean(pooled),
            **self.per_class("dice", per_class),
            **self.per_class("dice_pooled", pooled),
            **self.per_class("dice_empty", empty),
        }

    def case_metrics(self, values: Values) -> dict[str, float]:
        """`dice` and `dice/NAME` of one case."""
        dice = _dice(values)
        return {"dice": mean(dice), **self.per_class("dice", dice)}


def _dice(values: Values) -> Values:
    """(..., 3) numbers of pixels to (...)."""
    both, predicted, true = np.moveaxis(values, -1, 0)
    return ratio(2 * both, predicted + true)
