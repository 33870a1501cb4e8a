"""1:N identification: is the right one found in a gallery?

Shape letters: Q probes, M gallery entries, E the size of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Cell, Curves, Table
from densekit.metrics.embedding.embedding_metric import EmbeddingMetric, Templates, rounded
from densekit.metrics.means import Values, ratio
from densekit.metrics.protocols import Draws

CHUNK = 1 << 24
"""Similarities held at once: 128 MB."""
MAX_RANK = 50
"""Of the curve over ranks."""
FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
"""At which open-set identification is measured (ISO/IEC 19795-1)."""


class Identification(EmbeddingMetric):
    """Probes against a gallery of enrolled templates by cosine similarity, closed set.

    `rank_1`, `rank_5`: share of probes with a template of their identity among the so many most
    similar entries (cumulative match characteristic).
    `map`: mean over probes of the average precision of the ranked gallery.
    `without_mate`: number of probes whose identity is not in the gallery; they count nowhere else.

    Where the data do not say who is enrolled, every template looks for its identity among all
    others. Among equal scores entries of another identity come first.

    Args:
        ranks: Which ranks are reported, 1 or more.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: A rank is below 1.
    """

    def __init__(self, ranks: Sequence[int] = (1, 5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not ranks or min(ranks) < 1:
            raise ValueError(
                f"Identification.ranks: expected numbers of at least 1, got {list(ranks)}"
            )
        self.ranks = list(ranks)

    def aggregate(self, templates: Templates, pairs: Values) -> dict[str, float]:
        """The numbers named above; see `EmbeddingMetric.aggregate`."""
        first, precision, _ = searched(templates)
        mated = first > 0
        metrics = {
            f"rank_{rank}": float(np.mean(first[mated] <= rank)) if mated.any() else math.nan
            for rank in self.ranks
        }
        metrics["map"] = float(precision[mated].mean()) if mated.any() else math.nan
        metrics["without_mate"] = float(np.sum(~mated))
        return metrics

    def resampled(self, draws: Draws) -> dict[str, Values]:
        """Ranks and map of every draw of probes, against the whole gallery; see `HasResamples`."""
        templates, _, column = self.weights(draws)
        first, precision, _ = searched(templates)
        weights = draws.T[column[probes_of(templates)]] * (first > 0)[:, None]  # (Q, R)
        total = weights.sum(axis=0)
        metrics = {
            f"rank_{rank}": ratio((weights * (first <= rank)[:, None]).sum(axis=0), total)
            for rank in self.ranks
        }
        return metrics | {"map": ratio((weights * precision[:, None]).sum(axis=0), total)}

    def analyses(self) -> list[Analysis]:
        """The cumulative match characteristic; open-set rates where probes have no mate."""
        rows = self.computed_rows()
        first, _, score = searched(self._compared(len(self.image_ids()), rows)[0])
        mated = first[first > 0]
        if not len(mated):
            return []
        open_set = [_open_set(first, score)] if len(mated) < len(first) else []
        ranks = np.arange(1, MAX_RANK + 1, dtype=np.float64)
        found = np.searchsorted(np.sort(mated), ranks, side="right") / len(mated)
        title = "Cumulative match characteristic"
        curve = Curves(title, "rank", "share of probes found", {"probes": (ranks, found)})
        return [curve, *open_set]

    def reason(self, images: int, pairs: Values) -> str:
        """Why a metric is NaN."""
        return "no images" if not images else "no probe has its identity in the gallery"


def searched(templates: Templates) -> tuple[NDArray[np.int64], Values, Values]:
    """Looks for every probe in the gallery.

    Returns:
        (Q,) rank of the first entry of the own identity, 0 without one; average precision; and
        the largest similarity.

    Raises:
        ValueError: The identity of a template is not known.
    """
    if (templates.identity < 0).any():
        unnamed = templates.ids[templates.identity < 0]
        raise ValueError(
            f"Identification: template {int(unnamed[0])}: expected an identity, got none"
        )
    said, probes = bool((templates.gallery >= 0).any()), probes_of(templates)
    entries = np.flatnonzero(templates.gallery == 1) if said else probes
    rows = max(1, CHUNK // max(1, len(entries)))
    parts = [
        _searched(templates, probes[start : start + rows], entries, itself=not said)
        for start in range(0, len(probes), rows)
    ]
    firsts, precisions, scores = zip(*parts, strict=True) if parts else ((), (), ())
    return (
        np.concatenate([np.zeros(0, np.int64), *firsts]),
        np.concatenate([np.zeros(0), *precisions]),
        np.concatenate([np.zeros(0), *scores]),
    )


def probes_of(templates: Templates) -> NDArray[np.int64]:
    """(Q,) rows of the templates that are looked for: all of them where the data do not say."""
    said = (templates.gallery >= 0).any()
    return np.flatnonzero(templates.gallery == 0) if said else np.arange(len(templates.ids))


def _searched(
    templates: Templates, probes: NDArray[Any], entries: NDArray[Any], *, itself: bool
) -> tuple[NDArray[np.int64], Values, Values]:
    score = rounded(templates.embedding[probes] @ templates.embedding[entries].T)  # (Q, M)
    mate = templates.identity[probes][:, None] == templates.identity[entries]
    if itself:  # a template is no entry of its own gallery
        own = probes[:, None] == entries
        score, mate = np.where(own, -np.inf, score), mate & ~own
    order = np.lexsort((mate, -score), axis=1)
    hit = np.take_along_axis(mate, order, axis=1)
    found = hit.any(1)
    first = np.where(found, hit.argmax(1) + 1, 0)
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    average = (precision * hit).sum(1) / np.maximum(hit.sum(1), 1)
    return first, average, score.max(1, initial=-np.inf)


def _open_set(first: NDArray[np.int64], score: Values) -> Table:
    """How many probes are found while those without a mate are turned away."""
    strangers = np.sort(score[first == 0])[::-1]
    rows: list[tuple[Cell, ...]] = []
    for rate in FALSE_POSITIVE_RATES:
        allowed = int(rate * len(strangers) + 1e-9)
        if not allowed:
            rows.append((rate, None, None))
            continue
        threshold = float(strangers[allowed]) if allowed < len(strangers) else -1.0
        found = (first == 1) & (score > threshold)
        rows.append((rate, threshold, float(found[first > 0].mean())))
    return Table(
        "Open-set identification",
        ("false positive identification rate", "similarity", "true positive identification rate"),
        rows,
        f"{len(strangers)} probes have no mate in the gallery. A probe is answered if its most"
        " similar entry exceeds the similarity.",
    )
