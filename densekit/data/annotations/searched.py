"""Which classes an image was searched for, as LVIS says it. N images, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densekit.data.annotations.packed import PackedBytes, Searched

NEGATIVE, NOT_EXHAUSTIVE = "neg_category_ids", "not_exhaustive_category_ids"


def read_searched(
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    ids: Sequence[int],
    path: Path,
) -> Searched | None:
    """Reads what the records of LVIS add to those of COCO; None if they add nothing.

    Args:
        images: The images of the file.
        categories: Its categories.
        ids: The id of each label's category; of others nothing is kept.
        path: The file, for errors.

    Raises:
        ValueError: An image or a category lacks what others have.
    """
    if not any(NEGATIVE in record for record in images):
        return None
    label = {category: position for position, category in enumerate(ids)}
    lists = [
        [_labels(record, key, label, path) for record in images]
        for key in (NEGATIVE, NOT_EXHAUSTIVE)
    ]
    known = {record["id"]: record.get("frequency") for record in categories}
    for category in ids:
        if known[category] not in ("r", "c", "f"):
            raise ValueError(
                f"{path}: category {category}: frequency: expected r, c or f, got"
                f" {known[category]!r}"
            )
    frequency = [str(known[category]) for category in ids]
    return Searched(PackedBytes(lists[0]), PackedBytes(lists[1]), frequency)


def _labels(record: Mapping[str, Any], key: str, label: Mapping[int, int], path: Path) -> bytes:
    ids = record.get(key)
    if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
        raise ValueError(
            f"{path}: image {record['id']}: {key}: expected a list of category ids, got"
            f" {ids!r:.100}"
        )
    return np.array([label[one] for one in ids if one in label], dtype=np.int64).tobytes()
