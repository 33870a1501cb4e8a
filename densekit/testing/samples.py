"""Synthetic samples with every kind of target, and variants: none, many, ignored, other sizes.

N boxes of an image, C channels, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from densekit.inference.pixel_probabilities import PixelProbabilities
from densekit.ops.run_lengths import encode
from densekit.types import IGNORE_INDEX, PIXELS, Result, Sample, TargetSpec, Truth

TargetSpecs = Mapping[str, TargetSpec]
BOX_KEYS = ("boxes", "labels", "crowd", "instance_masks")
TRUTH_ROWS = ("boxes", "labels", "crowd", "masks")
BACKGROUND = 40
"""Values below are background noise, values above are objects."""
PREDICTED = (2, 1, 3, 0, 2, 3)
ANNOTATED = (2, 2, 1, 1, 1, 0)
"""Boxes per image of `synthetic_results`. The means of these numbers, of their differences and of
the absolute differences change when the first two images are counted twice."""


def synthetic_info(num_classes: int) -> dict[str, Any]:
    """Returns the declarations of a data set of `num_classes` classes about a head's targets."""
    return {
        "names": [f"class {number}" for number in range(num_classes)],
        "ids": list(range(num_classes)),
        "num_classes": num_classes,
        "frequency": ["rcf"[number % 3] for number in range(num_classes)],
    }


def synthetic_samples(
    num_classes: int,
    *,
    spatial_dims: int = 2,
    multilabel: bool = False,
    count: int = 4,
    side: int = 64,
) -> list[Sample]:
    """Makes images of boxes whose brightness encodes their class, with every kind of target.

    Args:
        num_classes: K.
        spatial_dims: D; box targets exist in 2-D only.
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
    if "instance_masks" in truth:
        truth["masks"] = encode(truth.pop("instance_masks"))
    return cast(Sample, {"image": image, "index": index, "meta": meta, "truth": truth, **targets})


def _corner(inside: Sequence[slice], end: str) -> list[int]:
    """x, y of a corner of (y, x) slices."""
    return [getattr(part, end) for part in inside[::-1]]


def without_objects(sample: Sample, specs: TargetSpecs) -> Sample:
    """Returns the sample without boxes, with a mask of zeros and empty custom targets."""
    return _changed(
        sample,
        specs,
        rows=lambda value: value[:0],
        pixels=np.zeros_like,
        extra=lambda value, spec: value[:0] if spec.ragged else np.full_like(value, spec.fill),
    )


def with_objects(sample: Sample, specs: TargetSpecs, count: int) -> Sample:
    """Returns the sample with its boxes and custom rows repeated cyclically to `count` of each."""

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
    """Returns the sample with crowd boxes only and every pixel of the mask ignored."""
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
    """Returns the sample with an unannotated margin at the right and the bottom."""
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
    """Returns the sample with `channels` channels, cycling through those it has."""
    image = sample["image"]
    return {**sample, "image": image[..., np.arange(channels) % image.shape[-1]]}


def _changed(sample: Sample, specs: TargetSpecs, *, rows: Any, pixels: Any, extra: Any) -> Sample:
    """Applies one function per kind of target to a sample; `truth` is unchanged."""
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
    """Makes results and ground truth of synthetic images, for every kind of metric.

    Boxes are slightly off and some missing, repeated or without an object; masks are wrong in a
    corner, one image is misclassified, and pairs of images are listed for verification.
    """
    rng = np.random.default_rng(0)
    samples = synthetic_samples(num_classes, count=count, side=32)
    results: list[Result] = []
    for index, sample in enumerate(samples):
        rows = np.arange(PREDICTED[index % len(PREDICTED)]) % len(sample["labels"])
        mask, scores = sample["mask"].copy(), rng.uniform(0.5, 1, len(rows))
        mask[: index + 1, : index + 1] = 0
        logits = 3 * torch.eye(num_classes)[torch.from_numpy(mask).long()].movedim(-1, 0)
        predicted = (int(sample["category"]) + (index == 0)) % num_classes
        probabilities = np.eye(num_classes)[predicted] + rng.uniform(0.1, 0.5)
        results.append(
            {
                "boxes": sample["boxes"][rows]
                + rng.uniform(-1, 1, (len(rows), 1)).astype(np.float32),
                "scores": scores.astype(np.float32),
                "labels": sample["labels"][rows],
                "masks": encode(sample["instance_masks"][rows]),
                "mask": mask,
                PIXELS: PixelProbabilities(logits, mask.shape, multilabel=False),
                "probabilities": (probabilities / probabilities.sum()).astype(np.float32),
                "embedding": np.eye(num_classes, 8)[int(sample["identity"])]
                + rng.normal(0, 0.1, 8),
            }
        )
    return results, [_synthetic_truth(samples, index) for index in range(count)]


def _synthetic_truth(samples: Sequence[Sample], index: int) -> Truth:
    """An image's truth with some of its boxes, a spacing and its pairs with all later images."""
    others = range(index + 1, len(samples))
    identity = samples[index]["identity"]
    pairs = [(other, samples[other]["identity"] == identity, other % 2) for other in others]
    truth: dict[str, Any] = dict(samples[index]["truth"])
    kept = ANNOTATED[index % len(ANNOTATED)]
    boxes = {key: truth[key][:kept] for key in TRUTH_ROWS}
    rows = np.asarray(pairs, np.int64).reshape(-1, 3)
    return cast(Truth, {**truth, **boxes, "pairs": rows, "spacing": (1.0, 1.0)})
