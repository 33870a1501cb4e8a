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
from densekit.metrics.protocols import Draws
from densekit.metrics.rows import RowMetric, Rows, id_bits, ids_of, paired
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

    def images_in(self, rows: Rows) -> NDArray[np.int64]:
        """(N,) id of every image."""
        return ids_of(rows["images"])

    def from_rows(self, ids: NDArray[np.int64], rows: Rows) -> Mapping[str, float]:
        """`aggregate` of the templates and the sorted pairs."""
        templates, pairs = self._compared(len(ids), rows)
        metrics = self.aggregate(templates, pairs)
        for name, value in metrics.items():
            if math.isnan(value):
                reason = self.reason(len(ids), pairs)
                logger.warning("%s: %s is nan: %s", type(self).__name__, name, reason)
                break
        return metrics

    def compared(self) -> tuple[Templates, Values]:
        """The templates and the (P, 4) pairs, as last computed; see `aggregate`.

        Raises:
            RuntimeError: Before `compute`, which gathers the rows.
        """
        return self._compared(len(self.image_ids()), self.computed_rows())

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

    def _compared(self, images: int, rows: Rows) -> tuple[Templates, Values]:
        """The templates, and the (P, 4) pairs in one order."""
        table, pairs = self._table(images, rows["rows"]), rows["pairs"].reshape(-1, PAIR_COLUMNS)
        return pooled(table[np.argsort(table[:, 0])]), pairs[np.lexsort(pairs.T)]

    def weights(self, draws: Draws) -> tuple[Templates, Values, NDArray[np.int64]]:
        """Templates and pairs as last computed, and (T,) the column of `draws` of each template.

        A template is drawn with its first image: groups are subjects, or the templates of one.
        """
        rows = self.computed_rows()
        templates, pairs = self._compared(len(self.image_ids()), rows)
        table = self._table(len(self.image_ids()), rows["rows"])
        first = np.full(len(templates.ids), draws.shape[1])
        column = np.searchsorted(self.image_ids(), table[:, 0])
        np.minimum.at(first, np.searchsorted(templates.ids, table[:, 1]), column)
        return templates, pairs, first

    def _table(self, images: int, values: Values) -> Values:
        """(N, 5 + E); a process that saw nothing does not know E by itself."""
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
