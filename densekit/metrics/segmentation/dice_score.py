"""Dice coefficient of structures, case by case and over all cases together.

Shape letters: N cases, K classes, L foreground classes.
"""

from __future__ import annotations

import numpy as np

from densekit.metrics.analyses import Analysis, Cell, Table
from densekit.metrics.class_tables import cell, distribution
from densekit.metrics.means import Values, column_means, mean, ratio
from densekit.metrics.segmentation.mask_metric import MaskMetric
from densekit.metrics.segmentation.mask_pair import MaskPair, overlaps

MOST_DRAWN = 4
"""Most structures with a histogram each."""
GROUPS = 3
"""Of cases by size."""


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

    def analyses(self) -> list[Analysis]:
        """Structures, Dice by their size, distribution over cases."""
        values = self._values(self.computed()[1])
        dice = _dice(values)  # (N, L)
        named = {self.names[label]: dice[:, place] for place, label in enumerate(self.labels)}
        shown = named if len(named) <= MOST_DRAWN else {"all structures": column_means(dice.T)}
        by_size = [
            row
            for place, name in enumerate(named)
            for row in _by_size(name, values[:, place, 2], dice[:, place])
        ]
        return [
            self._structures(values, dice),
            Table(
                "Dice by size of the structure",
                ("structure", "pixels", "cases", "Dice"),
                by_size,
                "Annotated cases in three groups of equal number, by their pixels or voxels.",
            ),
            *distribution(shown, "Dice", "cases"),
        ]

    def _structures(self, values: Values, dice: Values) -> Table:
        both, predicted, true = np.moveaxis(values, -1, 0)  # (N, L) each
        rows = []
        for place, label in enumerate(self.labels):
            there = dice[~np.isnan(dice[:, place]), place]
            numbers = np.percentile(there, (50, 0)) if len(there) else (np.nan, np.nan)
            of_all = values[:, place].sum(0)
            missed, invented = (
                int(((here[:, place] > 0) & (other[:, place] == 0)).sum())
                for here, other in ((true, predicted), (predicted, true))
            )
            precision, recall = ratio(both[:, place].sum(), of_all[1:])
            measured = (mean(there), *numbers, _dice(of_all), precision, recall)
            cells = (cell(float(number)) for number in measured)
            rows.append((self.names[label], len(there), *cells, missed, invented))
        head = ("structure", "cases", "Dice", "median", "worst", "pooled", "precision", "recall")
        return Table("Structures", (*head, "missed", "invented"), rows)


def _dice(values: Values) -> Values:
    """(..., 3) numbers of pixels to (...)."""
    both, predicted, true = np.moveaxis(values, -1, 0)
    return ratio(2 * both, predicted + true)


def _by_size(name: str, pixels: Values, dice: Values) -> list[tuple[Cell, ...]]:
    """Rows of a table: the cases with a structure in groups of equal number."""
    order = np.argsort(pixels, kind="stable")
    annotated = order[pixels[order] > 0]
    rows: list[tuple[Cell, ...]] = []
    for group in np.array_split(annotated, GROUPS):
        if len(group):
            sizes = f"{pixels[group[0]]:,.0f} to {pixels[group[-1]]:,.0f}"
            rows.append((name, sizes, len(group), cell(mean(dice[group]))))
    return rows
