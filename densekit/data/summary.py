"""Summarises a data set: counts for the record of a run, and the line shown before training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from densekit._names import counted
from densekit.data.classification.dataset import CategoryDataset
from densekit.data.detection.dataset import BoxDataset
from densekit.data.protocols import Dataset
from densekit.data.subset import unwrapped

MOST = 8
"""Most classes that are listed; the most frequent ones where there are counts."""


@dataclass(frozen=True)
class Counts:
    """What a data set holds.

    Attributes:
        images: Number of images.
        classes: Names of the classes, those that never occur too.
        objects: Objects by class, the most frequent first; empty if it has no boxes.
        categories: Images by class, likewise; empty if images have no single class.
        repaired: Defects of the annotation that were repaired or left out, by kind.
    """

    images: int
    classes: list[str]
    objects: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)


def counts_of(dataset: Dataset) -> Counts:
    """Counts images, objects and classes without reading an image.

    Args:
        dataset: A data set or a subset of one.
    """
    names = [str(name) for name in dataset.describe().get("names") or ()]
    whole, images = unwrapped(dataset)
    if isinstance(whole, BoxDataset):
        objects = whole.class_counts(images).most_common()
        named = {names[label]: count for label, count in objects}
        return Counts(len(dataset), names, objects=named, repaired=dict(whole.findings.counts))
    if isinstance(whole, CategoryDataset) and whole.categories.ndim == 1:
        found = Counter(whole.categories[images].tolist()).most_common()
        return Counts(len(dataset), names, categories={names[label]: n for label, n in found})
    return Counts(len(dataset), names)


def summary(dataset: Dataset) -> str:
    """One line of the number of images, objects and classes, and of repaired defects.

    Args:
        dataset: A data set or a subset of one.
    """
    found = counts_of(dataset)
    parts = [counted(found.images, "image")]
    if isinstance(unwrapped(dataset)[0], BoxDataset):
        defects = [f"{count} x {kind}" for kind, count in found.repaired.items()]
        parts.append(counted(sum(found.objects.values()), "object"))
        parts.append(_classes(len(found.classes), _with_counts(found.objects)))
        parts.append(f"found: {', '.join(defects)}" if defects else "nothing dropped")
    elif found.classes:
        named = _with_counts(found.categories) or found.classes
        parts.append(_classes(len(found.classes), named))
    return ", ".join(parts)


def _with_counts(counts: dict[str, int]) -> list[str]:
    return [f"{name} {count}" for name, count in counts.items()]


def _classes(count: int, named: list[str]) -> str:
    more = ", ..." * (len(named) > MOST)
    return f"{counted(count, 'class', 'classes')} ({', '.join(named[:MOST])}{more})"
