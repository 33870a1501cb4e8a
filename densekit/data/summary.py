"""What a data set holds, in one line before the training."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from densekit._names import counted
from densekit.data.classification.dataset import CategoryDataset
from densekit.data.detection.dataset import BoxDataset
from densekit.data.subset import Subset

MOST = 8
"""Classes that are named; of more, the commonest."""


def summary(dataset: Any) -> str:
    """Images, objects, classes and what was dropped or mended.

    Args:
        dataset: A data set or a part of one.
    """
    parts = [counted(len(dataset), "image")]
    names = [str(name) for name in dataset.describe().get("names") or ()]
    whole = dataset.data if isinstance(dataset, Subset) else dataset
    if isinstance(whole, BoxDataset):
        images = dataset.positions if isinstance(dataset, Subset) else np.arange(len(whole))
        data = whole.annotations
        of_image = np.repeat(np.arange(len(whole)), np.diff(data.offsets))
        counts = Counter(data.labels[np.isin(of_image, images)].tolist())
        parts.append(counted(counts.total(), "object"))
        named = [(names[label], count) for label, count in counts.most_common()]
        parts.append(_classes(len(names), [f"{name} {count}" for name, count in named]))
        mended = [f"{count} x {kind}" for kind, count in whole.findings.counts.items()]
        parts.append(f"found: {', '.join(mended)}" if mended else "nothing dropped")
    elif isinstance(whole, CategoryDataset) and whole.categories.ndim == 1:
        own = whole.categories[dataset.positions] if dataset is not whole else whole.categories
        counts = Counter(own.tolist())
        parts.append(_classes(len(names), [f"{names[c]} {n}" for c, n in counts.most_common()]))
    elif names:
        parts.append(_classes(len(names), names))
    return ", ".join(parts)


def _classes(count: int, named: list[str]) -> str:
    more = ", ..." * (len(named) > MOST)
    return f"{counted(count, 'class', 'classes')} ({', '.join(named[:MOST])}{more})"
