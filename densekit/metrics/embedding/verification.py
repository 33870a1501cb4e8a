"""Verification: do two templates show the same?

Shape letters: T templates, E the size of an embedding, P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Suspect
from densekit.metrics.embedding.embedding_metric import EmbeddingMetric, Templates, rounded
from densekit.metrics.embedding.roc import (
    area,
    at_false_accept_rate,
    equal_error_rate,
    fold_accuracies,
    roc,
)
from densekit.metrics.embedding.verification_analyses import Comparisons, explained, suspicious
from densekit.metrics.embedding.weighted_roc import PairWeights, blocks, weighted_rates
from densekit.metrics.means import Values
from densekit.metrics.protocols import Draws

CHUNK = 1 << 16
"""Pairs whose embeddings are held at once."""


class Verification(EmbeddingMetric):
    """Cosine similarity of listed pairs against the truth.

    `accuracy`, `accuracy_std`: mean and standard deviation over folds, each at the threshold that
    is best for the others (the protocol of LFW).
    `eer`, `auc`: equal error rate, area under the ROC curve.
    `tar_at_1e-2`: true accept rate at a false accept rate of at most 0.01, `threshold_at_1e-2` the
    similarity from which a pair is accepted.

    A rate that would accept less than one impostor is not measurable: NaN.

    Args:
        false_accept_rates: Where true accept rates are measured, each above 0 and below 1.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: A rate is out of its range.
    """

    def __init__(self, false_accept_rates: Sequence[float] = (1e-2, 1e-3), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        wrong = [rate for rate in false_accept_rates if not 0 < rate < 1]
        if wrong:
            raise ValueError(
                f"Verification.false_accept_rates: expected rates between 0 and 1, got {wrong[0]}"
            )
        self.false_accept_rates = list(false_accept_rates)
        self._thresholds: dict[str, float] = {}

    def aggregate(self, templates: Templates, pairs: Values) -> dict[str, float]:
        """The numbers named above; see `EmbeddingMetric.aggregate`."""
        scores, same = similarities(templates, pairs), pairs[:, 2] > 0
        metrics = self._aggregate(scores, same, pairs[:, 3].astype(np.int64))
        prefix = "threshold_at_"
        self._thresholds = {
            name.removeprefix(prefix): value
            for name, value in metrics.items()
            if name.startswith(prefix) and math.isfinite(value)
        }
        return metrics

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """EER, AUC and true accept rates of every draw of subjects; see `HasResamples`.

        A pair counts as often as its subject was drawn, or by the product of two; the threshold of
        each draw is its own.
        """
        templates, pairs, column = self.weights(draws)
        scores, same = similarities(templates, pairs), pairs[:, 2] > 0
        left, right = column[np.searchsorted(templates.ids, pairs[:, :2])].T
        group = np.unique(draws, axis=1, return_inverse=True)[1].reshape(-1)
        compared = PairWeights(scores, same, left, right, group)
        parts = [
            weighted_rates(compared, part, self.false_accept_rates)
            for part in blocks(compared, draws)
        ]
        eer, auc, tar = (np.concatenate(found, axis=-1) for found in zip(*parts, strict=True))
        rates = [f"tar_at_{rate_name(rate)}" for rate in self.false_accept_rates]
        return {"eer": eer, "auc": auc} | dict(zip(rates, tar, strict=True))

    def analyses(self) -> list[Analysis]:
        """ROC, DET, similarities, thresholds, and calibration of what logistic regression makes."""
        return explained(self._comparisons(), self.false_accept_rates)

    def suspects(self) -> list[Suspect]:
        """Comparisons of one identity that are very unlike, and of two that are very alike."""
        return suspicious(self._comparisons())

    def facts(self) -> dict[str, Any]:
        """What predictions need of the last `compute`: false accept rate to threshold."""
        return {"thresholds": self._thresholds}

    def _comparisons(self) -> Comparisons:
        """The list, as last computed; a template is named by its first image."""
        rows = self.computed_rows()
        templates, pairs = self._compared(len(self.image_ids()), rows)
        table = self._table(len(self.image_ids()), rows["rows"])
        first = np.full(len(templates.ids), np.inf)
        np.minimum.at(first, np.searchsorted(templates.ids, table[:, 1]), table[:, 0])
        images = first[np.searchsorted(templates.ids, pairs[:, :2])].astype(np.int64)
        scores, fold = similarities(templates, pairs), pairs[:, 3].astype(np.int64)
        return Comparisons(scores, pairs[:, 2] > 0, fold, images)

    def reason(self, images: int, pairs: Values) -> str:
        """Why a metric is NaN."""
        if not len(pairs):
            return super().reason(images, pairs)
        impostors = int((pairs[:, 2] == 0).sum())
        return (
            f"{len(pairs) - impostors} pairs of one identity, {impostors} of two, in"
            f" {len(np.unique(pairs[:, 3]))} folds"
        )

    def _aggregate(
        self, scores: Values, same: NDArray[np.bool_], fold: NDArray[np.int64]
    ) -> dict[str, float]:
        measurable = bool(same.any() and not same.all())
        several = measurable and len(np.unique(fold)) > 1
        accuracies = fold_accuracies(scores, same, fold) if several else np.array([math.nan])
        curve = roc(scores, same) if measurable else None
        metrics = {
            "accuracy": float(accuracies.mean()),
            "accuracy_std": float(accuracies.std()),
            "eer": equal_error_rate(curve) if curve else math.nan,
            "auc": area(curve) if curve else math.nan,
        }
        for rate in self.false_accept_rates:
            name = f"at_{rate_name(rate)}"
            tar, threshold = at_false_accept_rate(curve, rate) if curve else (math.nan, math.nan)
            metrics |= {f"tar_{name}": tar, f"threshold_{name}": threshold}
        return metrics


def similarities(templates: Templates, pairs: Values) -> Values:
    """(P,) cosines of pairs.

    Raises:
        ValueError: A pair names a template that was not seen.
    """
    place = np.searchsorted(templates.ids, pairs[:, :2])
    known = np.append(templates.ids, np.nan)[place] == pairs[:, :2]
    if not known.all():
        missing = pairs[:, :2][~known]
        raise ValueError(
            f"Verification: expected pairs of images or templates that were seen, got"
            f" {int(missing[0])} ({len(missing)} not seen); evaluate the whole split"
            " (trainer.limit_*_batches=1.0)"
        )
    left, right = place.T if len(place) else (place[:, 0], place[:, 1])
    parts = [
        np.einsum(
            "pe,pe->p",
            templates.embedding[left[start : start + CHUNK]],
            templates.embedding[right[start : start + CHUNK]],
        )
        for start in range(0, len(pairs), CHUNK)
    ]
    return rounded(np.concatenate([np.zeros(0), *parts]))


def rate_name(rate: float) -> str:
    """A rate as it stands in the name of a metric: 0.01 is `1e-2`."""
    digits, exponent = f"{rate:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def known_thresholds(head: Mapping[str, Any]) -> dict[float, float]:
    """False accept rate to threshold, of `info["heads"][HEAD]` of a model.

    Raises:
        ValueError: The entry is not of this kind.
    """
    found = head.get("thresholds", {})
    try:
        return {float(name): float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"info: thresholds: expected rates mapped to numbers, got {found}"
        ) from error
