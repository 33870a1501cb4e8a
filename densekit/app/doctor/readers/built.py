"""Data sets that are built as they are: what their own members say of each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densekit.app.doctor.facts import Example, Item, Mask, Picture
from densekit.app.doctor.masks import MOST
from densekit.app.doctor.pictures import digest, of_array
from densekit.data.classification.dataset import CategoryDataset
from densekit.data.identification.dataset import IdentityImages
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.data.segmentation.classes import count_values
from densekit.types import Sample


def examples_of(dataset: Dataset) -> tuple[list[Example], dict[str, Any]]:
    """The images of a data set, and further arguments of `Part`.

    Images of categories and identities are listed with their files; of any other data set every
    sample is read.

    Args:
        dataset: A data set without wrappers.
    """
    described = dataset.describe()
    facts: dict[str, Any] = {
        "classes": list(described.get("names", ())),
        "ids": list(described.get("ids", ())),
        "channels": int(described.get("channels", 3)),
        "dtype": str(described.get("dtype", "uint8")),
    }
    places = range(len(dataset))
    if isinstance(dataset, IdentityImages):
        names = dataset.names
        labels = [(names[label],) for label in dataset.labels.tolist()]
        return _listed(dataset, labels), {**facts, "classes": names, "ids": (), "kind": "identity"}
    if isinstance(dataset, CategoryDataset):
        labels = [tuple(dataset.names[n] for n in dataset.labels_in(i)) for i in places]
        if all(dataset.path(index) is not None for index in places):
            return _listed(dataset, labels), {**facts, "kind": "category"}
    examples = [_sampled(dataset, i, facts["classes"]) for i in tracked(places, "reading samples")]
    kinds = {_kind(example) for example in examples}
    masks = (
        {"values": _values(described.get("targets", {}).get("mask", described))}
        if any(e.masks for e in examples)
        else {}
    )
    return examples, {**facts, **masks, "kind": kinds.pop() if len(kinds) == 1 else ""}


def _listed(dataset: Dataset, labels: Sequence[tuple[str, ...]]) -> list[Example]:
    return [
        Example(dataset.path(index) or Path(str(index)), index, labels=of)
        for index, of in enumerate(labels)
    ]


def _kind(example: Example) -> str:
    if example.items is not None:
        return "boxes"
    return "mask" if example.masks else "category" if example.labels else ""


def _values(described: dict[str, Any]) -> dict[int, str]:
    """Values of the masks of samples: classes, or 0 and 1 for a single class; 255 is void."""
    names = list(described.get("names", ()))
    if described.get("multilabel") or len(names) == 1:
        return {0: "", 1: names[-1] if names else "", 255: ""}
    first = {0: ""} if described.get("background") else {}
    return {**dict(enumerate(names)), **first, 255: ""}


def _sampled(dataset: Dataset, index: int, classes: Sequence[str]) -> Example:
    """What a sample holds; a broken one becomes an unreadable picture."""
    file = dataset.path(index) or Path(f"image {index}")
    try:
        sample = dataset[index]
    except Exception as error:  # the class of a plug-in raises whatever it meets
        picture = Picture(kind="broken", error=f"{type(error).__name__}: {error}")
        return Example(file, index, sampled=True, picture=picture)
    image = np.asarray(sample["image"])
    return Example(
        dataset.path(index) or Path(str(sample["meta"].get("path", index))),
        index,
        size=(image.shape[0], image.shape[1]) if image.ndim == 3 and "boxes" in sample else None,
        items=_items(sample, classes) if "boxes" in sample else None,
        labels=_labels(sample, classes),
        masks=_masks(sample) if image.ndim == 3 else (),
        picture=of_array(image) if image.ndim == 3 else None,
        sampled=True,
    )


def _items(sample: Sample, classes: Sequence[str]) -> tuple[Item, ...]:
    truth: Any = sample.get("truth", {})
    source = truth if "boxes" in truth else sample
    crowds = np.asarray(source.get("crowd", np.zeros(len(source["boxes"]), bool)))
    rows = zip(source["boxes"], source["labels"], crowds, strict=True)
    return tuple(
        Item(
            (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            classes[label] if 0 <= label < len(classes) else f"label {label}",
            f"object {place}",
            crowd=bool(crowd),
        )
        for place, (box, label, crowd) in enumerate(rows)
    )


def _labels(sample: Sample, classes: Sequence[str]) -> tuple[str, ...]:
    category = sample.get("category")
    if category is None:
        return ()
    labels = np.flatnonzero(category) if np.ndim(category) else [int(category)]
    return tuple(classes[int(label)] for label in labels)


def _masks(sample: Sample) -> tuple[Mask, ...]:
    if "mask" not in sample:
        return ()
    mask = np.asarray(sample["mask"])
    values = dict(list(count_values(mask).items())[:MOST])
    height, width = mask.shape[-2:]
    return (Mask("", False, "array", height, width, values, digest(mask)),)
