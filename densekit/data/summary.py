"""Summarises a data set in one line, shown before training."""

from __future__ import annotations

from collections import Counter

from densekit._names import counted
from densekit.data.classification.dataset import CategoryDataset
from densekit.data.detection.dataset import BoxDataset
from densekit.data.protocols import Dataset
from densekit.data.subset import unwrapped

MOST = 8
"""Most classes that are listed; the most frequent ones where there are counts."""


def summary(dataset: Dataset) -> str:
    """One line of the number of images, objects and classes, and of repaired defects.

    Args:
        dataset: A data set or a subset of one.
    """
    parts = [counted(len(dataset), "image")]
    names = [str(name) for name in dataset.describe().get("names") or ()]
    whole, images = unwrapped(dataset)
    if isinstance(whole, BoxDataset):
        counts = whole.class_counts(images)
        parts.append(counted(counts.total(), "object"))
        named = [(names[label], count) for label, count in counts.most_common()]
        parts.append(_classes(len(names), [f"{name} {count}" for name, count in named]))
        defects = [f"{count} x {kind}" for kind, count in whole.findings.counts.items()]
        parts.append(f"found: {', '.join(defects)}" if defects else "nothing dropped")
    elif isinstance(whole, CategoryDataset) and whole.categories.ndim == 1:
        counts = Counter(whole.categories[images].tolist())
        parts.append(_classes(len(names), [f"{names[c]} {n}" for c, n in counts.most_common()]))
    elif names:
        parts.append(_classes(len(names), names))
    return ", ".join(parts)


def _classes(count: int, named: list[str]) -> str:
    more = ", ..." * (len(named) > MOST)
    return f"{counted(count, 'class', 'classes')} ({', '.join(named[:MOST])}{more})"
