"""Samples with every kind of target, and what may befall them: none, many, ignored, other sizes.

N boxes of an image, C channels, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX, Result, Sample, TargetSpec, Truth

TargetSpecs = Mapping[str, TargetSpec]
BOX_KEYS = ("boxes", "labels", "crowd", "instance_masks")
BACKGROUND = 40
"""Values below it are background noise, those of objects lie above."""


def synthetic_info(num_classes: int) -> dict[str, Any]:
    """What a data set with so many classes says of a head's targets."""
    return {
        "names": [f"class {number}" for number in range(num_classes)],
        "ids": list(range(num_classes)),
        "num_classes": num_classes,
    }


def synthetic_samples(
    num_classes: int,
    *,
    spatial_dims: int = 2,
    multilabel: bool = False,
    count: int = 4,
    side: int = 64,
) -> list[Sample]:
    """Images of boxes whose brightness is their class, with every target the design names.

    Args:
        num_classes: K.
        spatial_dims: D; boxes are there in pictures only.
        multilabel: Whether masks are (K, *S) and categories (K,).
        count: Number of images.
        side: Length of each axis, at least 16.
    """
    rng = np.random.default_rng(0)
    return [
        _synthetic(rng, index, num_classes, spatial_dims, multilabel, side)
        for index in range(count)
    ]


def _synthetic(
    rng: np.random.Generator, index: int, num_classes: int, dims: int, multilabel: bool, side: int
) -> Sample:
    image = rng.integers(0, BACKGROUND, [side] * dims + [3], dtype=np.uint8)
    classes = np.zeros([side] * dims, np.uint8)
    present = np.zeros(num_classes, np.float32)
    boxes, labels, masks = [], [], []
    for number in range(2):
        label = (index + number) % num_classes
        low = rng.integers(1, side // 4, dims) + number * side // 2
        high = low + rng.integers(side // 4 - 2, side // 4 + 2, dims)
        inside = tuple(slice(*ends) for ends in zip(low, np.minimum(high, side - 1), strict=True))
        image[inside] = BACKGROUND + (label + 1) * (255 - BACKGROUND) // num_classes
        classes[inside] = label if num_classes > 1 and not multilabel else label + 1
        present[label] = 1
        boxes.append([edge for end in ("start", "stop") for edge in _corner(inside, end)])
        labels.append(label)
        masks.append(np.zeros(classes.shape, np.uint8))
        masks[-1][inside] = 1
    mask = np.stack([classes == k + 1 for k in range(num_classes)]) if multilabel else classes
    targets: dict[str, Any] = {
        "mask": mask.astype(np.uint8),
        "category": present if multilabel else np.int64(labels[0]),
        "identity": np.int64(index % num_classes),
    }
    if dims == 2:
        targets |= {
            "boxes": np.array(boxes, np.float32),
            "labels": np.array(labels, np.int64),
            "crowd": np.zeros(len(labels), bool),
            "instance_masks": np.stack(masks),
        }
    meta = {"path": f"image {index}", "image_id": index, "original_size": image.shape[:-1]}
    truth = {"image_id": index, "size": image.shape[:-1], **targets}
    return cast(Sample, {"image": image, "index": index, "meta": meta, "truth": truth, **targets})


def _corner(inside: Sequence[slice], end: str) -> list[int]:
    """x, y of a corner of (y, x) slices."""
    return [getattr(part, end) for part in inside[::-1]]


def without_objects(sample: Sample, specs: TargetSpecs) -> Sample:
    """The sample with no box, a mask of zeros, and nothing in the targets of plug-ins."""
    return _changed(
        sample,
        specs,
        rows=lambda value: value[:0],
        pixels=np.zeros_like,
        extra=lambda value, spec: value[:0] if spec.ragged else np.full_like(value, spec.fill),
    )


def with_objects(sample: Sample, specs: TargetSpecs, count: int) -> Sample:
    """The sample with its boxes, and the rows of plug-ins, repeated until there are so many."""

    def repeated(value: NDArray[Any]) -> NDArray[Any]:
        return value[np.arange(count) % len(value)] if len(value) else value

    return _changed(
        sample,
        specs,
        rows=repeated,
        pixels=np.copy,
        extra=lambda value, spec: repeated(value) if spec.ragged else value,
    )


def ignored(sample: Sample, specs: TargetSpecs) -> Sample:
    """The sample with crowds only and a mask of which nothing is counted."""
    changed = _changed(
        sample,
        specs,
        rows=np.copy,
        pixels=lambda value: np.full_like(value, IGNORE_INDEX),
        extra=lambda value, spec: np.full_like(value, spec.fill),
    )
    if "crowd" in changed:
        changed["crowd"] = np.ones_like(changed["crowd"])
    return changed


def enlarged(sample: Sample, specs: TargetSpecs, by: int) -> Sample:
    """The sample with a margin right and below of which nothing is known."""
    dims = sample["image"].ndim - 1

    def pad(value: NDArray[Any], fill: float, last: int = 0) -> NDArray[Any]:
        before = value.ndim - dims - last
        margins = [(0, 0)] * before + [(0, by)] * dims + [(0, 0)] * last
        return np.pad(value, margins, constant_values=fill)

    changed = _changed(
        sample,
        specs,
        rows=np.copy,
        pixels=lambda value: pad(value, IGNORE_INDEX),
        extra=lambda value, spec: value if spec.ragged else pad(value, spec.fill),
    )
    changed["image"] = pad(sample["image"], 0, last=1)
    if "instance_masks" in changed:
        changed["instance_masks"] = pad(sample["instance_masks"], 0)
    sides = changed["image"].shape[:-1]
    changed["meta"] = {**sample["meta"], "original_size": sides}
    return changed


def with_channels(sample: Sample, channels: int) -> Sample:
    """The sample with so many channels, taken in turn from those it has."""
    image = sample["image"]
    return {**sample, "image": image[..., np.arange(channels) % image.shape[-1]]}


def _changed(sample: Sample, specs: TargetSpecs, *, rows: Any, pixels: Any, extra: Any) -> Sample:
    """A sample with its kinds of target changed; the truth stays what it was."""
    changed: dict[str, Any] = dict(sample)
    for key in BOX_KEYS:
        if key in sample:
            changed[key] = rows(changed[key])
    if "mask" in sample:
        changed["mask"] = pixels(sample["mask"])
    if "extra" in sample:
        changed["extra"] = {
            name: extra(value, specs[name]) for name, value in sample["extra"].items()
        }
    return cast(Sample, changed)


def synthetic_results(num_classes: int, count: int = 6) -> tuple[list[Result], list[Truth]]:
    """Results of made-up pictures and their truth, in which every kind of metric finds its own.

    Boxes are a little off, masks wrong in a corner, one picture is taken for another class, and
    pairs of pictures are listed for verification.
    """
    rng = np.random.default_rng(0)
    samples = synthetic_samples(num_classes, count=count, side=32)
    results: list[Result] = []
    for index, sample in enumerate(samples):
        mask, scores = sample["mask"].copy(), rng.uniform(0.5, 1, len(sample["labels"]))
        mask[: index + 1, : index + 1] = 0
        predicted = (int(sample["category"]) + (index == 0)) % num_classes
        probabilities = np.eye(num_classes)[predicted] + rng.uniform(0.1, 0.5)
        results.append(
            {
                "boxes": sample["boxes"] + rng.uniform(-1, 1, (len(scores), 1)).astype(np.float32),
                "scores": scores.astype(np.float32),
                "labels": sample["labels"],
                "mask": mask,
                "probabilities": (probabilities / probabilities.sum()).astype(np.float32),
                "embedding": np.eye(num_classes, 8)[int(sample["identity"])]
                + rng.normal(0, 0.1, 8),
            }
        )
    return results, [_with_pairs(samples, index) for index in range(count)]


def _with_pairs(samples: Sequence[Sample], index: int) -> Truth:
    """The truth of an image of known spacing, compared with all that follow, in two folds."""
    others = range(index + 1, len(samples))
    identity = samples[index]["identity"]
    pairs = [(other, samples[other]["identity"] == identity, other % 2) for other in others]
    rows = np.asarray(pairs, np.int64).reshape(-1, 3)
    return cast(Truth, {**samples[index]["truth"], "pairs": rows, "spacing": (1.0, 1.0)})
