"""What metrics over embeddings share: one row per image, and templates made of rows.

Shape letters: N images, T templates, E the size of an embedding, P pairs.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.means import Values
from densekit.metrics.rows import (
    RowMetric,
    as_tensors,
    gathered,
    id_bits,
    ids_of,
    paired,
    unique_ids,
)
from densekit.types import Result, Truth

HEADER = 5  # image, template, media, identity, gallery
PAIR_COLUMNS = 4  # first template, second template, same, fold
UNSAID = -1.0
EXACT = 1 << 53
"""Numbers of templates and media travel as float64, which is exact up to here."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Templates:
    """What is compared: T templates by ascending number, an image by itself being one too.

    Attributes:
        ids: (T,) their numbers.
        embedding: (T, E) float64 of length 1.
        identity: (T,) int64, -1 where nobody said.
        gallery: (T,) int64: 1 enrolled, 0 looked for, -1 where nobody said.
    """

    ids: Values
    embedding: Values
    identity: NDArray[np.int64]
    gallery: NDArray[np.int64]


class EmbeddingMetric(RowMetric):
    """Base of metrics over embeddings: it keeps each image's embedding once, compares at the end.

    Rows are sorted before anything is computed, so the number of processes cannot change a metric.
    They take 8 (E + 5) bytes an image in every process.

    Args:
        **kwargs: Of `torchmetrics.Metric`.
    """

    kept = ("images", "rows", "pairs")
    higher_is_better: bool | None = True
    images: list[Tensor]
    rows: list[Tensor]
    pairs: list[Tensor]

    def update(self, results: Sequence[Result], truth: Sequence[Truth]) -> None:
        """Takes in some images; call it on every process, with empty lists where there is none.

        Args:
            results: One an image: embedding (E,).
            truth: The annotation of each: image_id; identity, template, media, gallery and pairs
                where they are known.

        Raises:
            ValueError: The lists differ in length, or an embedding is not finite.
        """
        self.keep(
            rows=[_row(r, t) for r, t in paired(results, truth)],
            images=[id_bits([t["image_id"] for t in truth])],
            pairs=[_pair_rows(t) for t in truth],
        )

    def compute(self) -> dict[str, Tensor]:
        """All metrics, () float64 each; NaN, with the reason in the log, if there is no value."""
        images = ids_of(gathered(self.images, 1)[:, 0])
        unique_ids(images, type(self).__name__)
        table = self._table(len(images))
        table = table[np.argsort(table[:, 0])]
        pairs = gathered(self.pairs, PAIR_COLUMNS)
        pairs = pairs[np.lexsort(pairs.T)]
        metrics = self.aggregate(pooled(table), pairs)
        for name, value in metrics.items():
            if math.isnan(value):
                reason = self.reason(len(images), pairs)
                logger.warning("%s: %s is nan: %s", type(self).__name__, name, reason)
                break
        return as_tensors(metrics, self.device)

    @abstractmethod
    def aggregate(self, templates: Templates, pairs: Values) -> Mapping[str, float]:
        """Measures; every key must be there whatever was seen, with NaN for what has no value.

        Args:
            templates: Everything that was seen.
            pairs: (P, 4) first and second template, 1 if of one identity, fold; sorted.
        """

    def reason(self, images: int, pairs: Values) -> str:
        """Why a metric is NaN, for the log."""
        return "no images" if not images else "no comparison was listed"

    def _table(self, images: int) -> Values:
        """(N, 5 + E); a process that saw nothing does not know E by itself."""
        values = gathered(self.rows, 1)[:, 0]
        columns = len(values) // images if images else HEADER
        if len(values) != images * columns:
            raise ValueError(f"{type(self).__name__}: expected embeddings of one size, got several")
        return values.reshape(images, columns)


def pooled(table: Values) -> Templates:
    """Images to templates: the mean of the media, each the mean of its images, of length 1.

    Whitelam et al. 2017, "IARPA Janus Benchmark-B", as its users pool embeddings.

    Args:
        table: (N, 5 + E) image, template, media, identity, gallery and embedding.

    Raises:
        ValueError: A template has two identities, or is enrolled and looked for.
    """
    ids, place = np.unique(table[:, 1], return_inverse=True)
    identity, gallery = (_agreed(table, place, len(ids), c) for c in (3, 4))
    embedding = table[:, HEADER:]
    if len(ids) < len(table):
        media, of_media = np.unique(table[:, 1:3], axis=0, return_inverse=True)
        embedding = _means(embedding, of_media.reshape(-1), len(media))
        embedding = _means(embedding, np.searchsorted(ids, media[:, 0]), len(ids))
    elif len(ids):
        embedding = embedding[np.argsort(place)]
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    unit = np.divide(embedding, length, out=np.zeros_like(embedding), where=length > 0)
    return Templates(ids, unit, identity, gallery)


def rounded(scores: Values) -> Values:
    """Equal cosines are equal numbers, in whatever order their products were summed."""
    equal: Values = np.round(scores, 12)
    return equal


def _means(values: Values, place: NDArray[Any], count: int) -> Values:
    """(count, E) mean of the rows of each place."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, place, values)
    means: Values = sums / np.bincount(place, minlength=count)[:, None]
    return means


def _agreed(table: Values, place: NDArray[Any], count: int, column: int) -> NDArray[np.int64]:
    """(T,) the value that all images of a template have."""
    found = np.full(count, UNSAID)
    found[place] = table[:, column]
    odd = np.flatnonzero(found[place] != table[:, column])
    if odd.size:
        what = {3: "identity", 4: "role (gallery)"}[column]
        raise ValueError(
            f"template {int(table[odd[0], 1])}: expected images of one {what}, got several"
        )
    return found.astype(np.int64)


def _row(result: Result, truth: Truth) -> Tensor:
    image = truth["image_id"]
    embedding = torch.as_tensor(result["embedding"], dtype=torch.float64, device="cpu")
    if not bool(embedding.isfinite().all()):
        raise ValueError(
            f"image {image}: expected a finite embedding, got NaN or an infinite value"
        )
    about = (
        image,
        truth.get("template", image),
        truth.get("media", image),
        truth.get("identity", UNSAID),
        truth.get("gallery", UNSAID),
    )
    if max(abs(int(number)) for number in about) > EXACT:
        raise ValueError(f"image {image}: expected numbers up to 2^53, got {about}")
    return torch.cat([torch.tensor(about, dtype=torch.float64), embedding.reshape(-1)])


def _pair_rows(truth: Truth) -> Tensor:
    pairs = torch.as_tensor(truth.get("pairs", np.zeros((0, 3))), dtype=torch.float64)
    first = torch.full((len(pairs), 1), float(truth.get("template", truth["image_id"])))
    return torch.cat([first.to(torch.float64), pairs.reshape(-1, 3)], 1)
