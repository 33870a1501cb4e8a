"""Types shared by all of densekit: levels, samples, batches, predictions.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image, T target
slots of a batch (at least 1), K classes, M bins per side of an object's mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

IGNORE_INDEX = 255
"""Mask value of pixels that losses and metrics ignore (void, padding)."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""One value per channel, RGB, in the unit of 8-bit images."""


@dataclass(frozen=True)
class FeatureSpec:
    """The shape of a feature level: its channel count and its stride along each axis."""

    channels: int
    stride: tuple[int, ...]

    @property
    def spatial_dims(self) -> int:
        """1 for series, 2 for 2-D images, 3 for volumes."""
        return len(self.stride)


Specs = Mapping[str, FeatureSpec]
Features = dict[str, Tensor]
"""Level name to tensor (B, channels, *S / stride): c0..c5 of the backbone, p2..p7 of the neck."""

Predictions = dict[str, Tensor]
"""Static shapes in the network's frame; boxes (B, N, 4), scores, labels and valid (B, N).

`masks` (B, N, m, m) are the probabilities of each object's pixels in the frame of its own box.
"""

Decision = float | Sequence[float]
"""Probability or score from which something predicted counts: one for all classes, or one each."""

Result = dict[str, Any]
"""Final result of one image and one head, in the image's own frame: NumPy arrays."""


class RunLengths(TypedDict):
    """A binary mask as COCO stores it: `size` [height, width] and the compressed `counts`."""

    size: list[int]
    counts: bytes


def chosen_objects(result: Result, chosen: np.ndarray) -> Result:
    """The objects of a result whose entry of `chosen` (N,) is true; every value has N rows."""
    kept = np.asarray(chosen, dtype=np.bool_)
    return {
        key: value[kept] if isinstance(value, np.ndarray) else list(compress(value, kept.tolist()))
        for key, value in result.items()
    }


PIXELS = "pixel_probabilities"
"""Key of a mask's `densekit.inference.pixel_probabilities.PixelProbabilities` in its result."""


def without_pixels(results: Sequence[Mapping[str, Result]]) -> list[dict[str, Result]]:
    """The results of images without their pixels' probabilities, which hold the batch's logits."""
    return [
        {head: {k: v for k, v in one.items() if k != PIXELS} for head, one in result.items()}
        for result in results
    ]


@dataclass(frozen=True)
class TargetSpec:
    """How collate stacks a plug-in's target.

    Attributes:
        fill: Value of the padding.
        ragged: Whether to pad the first axis to the batch's target slots T, or the last D axes to
            the batch's image size.
    """

    fill: float
    ragged: bool


class Truth(TypedDict, total=False):
    """The original annotation of one image in its own frame, the only input of metrics.

    Attributes:
        image_id: The data set's own id.
        size: The D sides of the original frame.
        boxes: (N, 4) xyxy; labels, area, crowd and difficult have N rows too.
        masks: N masks of the objects, those of crowds too; empty for one without an outline.
        negative_labels: (A,) int64 labels that the image was searched for and does not show (LVIS).
        not_exhaustive_labels: (A,) int64 labels of which it may show more than is annotated.
        mask: (*S) or multi-label (K, *S) uint8; 255 is ignored.
        category: () class of the image, or multi-label (K,) of 0 and 1.
        spacing: Distance of neighbouring samples along each axis, in millimetres if known.
        group: Images of one group (a patient, a video) are alike: intervals draw them together.
        identity: Identity (person or object) that the image shows.
        template: Images of one template are compared as one; each image is its own by default.
        media: Images of one medium of a template (frames of one video) count as one.
        gallery: Whether the image is in the gallery or a probe; missing if it is both.
        pairs: (P, 3) int64, the comparisons of the image's template: the other template, 1 if both
            are of one identity, and the fold.
    """

    image_id: int
    size: tuple[int, ...]
    boxes: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    masks: list[RunLengths]
    negative_labels: np.ndarray
    not_exhaustive_labels: np.ndarray
    mask: np.ndarray
    category: np.ndarray
    spacing: tuple[float, ...]
    group: str
    identity: int
    template: int
    media: int
    gallery: bool
    pairs: np.ndarray


class Meta(TypedDict, total=False):
    """Where an image came from.

    Attributes:
        path: The image file, or a name if there is none.
        image_id: The data set's own id.
        original_size: Size before any resizing, in the frame of `Truth` and of results.
        axes: How a volume's axes were permuted and flipped from that frame, see
            `densekit.data.medical.axes`; None or missing if they were not.
    """

    path: str
    image_id: int
    original_size: tuple[int, ...]
    axes: tuple[tuple[int, bool], ...] | None


class Sample(TypedDict, total=False):
    """One image as a data set returns it, before collate (NumPy arrays, no padding).

    Attributes:
        image: (*S, C) uint8 or float32, channels last.
        boxes: (N, 4) float32 xyxy, absolute pixels, 0 = left edge of the first pixel.
        labels: (N,) int64 in 0..K-1.
        crowd: (N,) bool, regions that losses ignore.
        instance_masks: (N, *S) uint8: 0, 1, or 255 where it is not known.
        mask: (*S) or (K, *S) uint8.
        category: () int64 class of the image, or (K,) float32: multi-label, or soft targets.
        identity: () int64 identity of the image.
        index: Position in the data set; part of the key of every random choice for this sample.
        meta: See `Meta`.
        truth: See `Truth`; evaluation data only.
        extra: Targets of plug-ins, by name.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    instance_masks: np.ndarray
    mask: np.ndarray
    category: np.ndarray
    identity: np.ndarray
    index: int
    meta: Meta
    truth: Truth
    extra: dict[str, np.ndarray]


class Batch(TypedDict, total=False):
    """Padded images and targets of static shape; see `check_batch` for the rules.

    Attributes:
        image: (B, C, *S) uint8 or float32, zero beyond `size`.
        size: (B, D) int64, the size of each image without its padding.
        sample_valid: (B,) bool, false for samples that a distributed sampler repeats.
        key: (B,) int64, the random key of each sample: a hash of seed, step and index.
        boxes: (B, T, 4) float32; boxes_valid (B, T) bool is false for padding.
        labels: (B, T) int64.
        crowd: (B, T) bool.
        object_masks: (B, T, M, M) uint8: 0, 1, or 255 where it is not known, in the frame of the
            object's box: bin (i, j) is its pixel at height (i + 0.5) / M, width (j + 0.5) / M.
        instance_masks: (B, T, *S) uint8, the same as planes, for comparison with other libraries;
            no loader makes them, and a head that finds them reads them instead.
        mask: (B, *S) uint8, or (B, K, *S) multi-label; 255 beyond `size`.
        category: (B,) int64; (B, K) float32 if multi-label, or soft targets whose rows sum to 1.
        identity: (B,) int64.
        meta: One `Meta` per image.
        truth: One `Truth` per image; evaluation data only.
        extra: Targets of plug-ins, stacked by their `TargetSpec`.
    """

    image: Tensor
    size: Tensor
    sample_valid: Tensor
    key: Tensor
    boxes: Tensor
    boxes_valid: Tensor
    labels: Tensor
    crowd: Tensor
    object_masks: Tensor
    instance_masks: Tensor
    mask: Tensor
    category: Tensor
    identity: Tensor
    meta: list[Meta]
    truth: list[Truth]
    extra: dict[str, Tensor]


_LAYOUTS = {
    "image": {"BCS": "uint8 float32"},
    "size": {"BD": "int64"},
    "sample_valid": {"B": "bool"},
    "key": {"B": "int64"},
    "boxes_valid": {"BT": "bool"},
    "boxes": {"BT4": "float32"},
    "labels": {"BT": "int64"},
    "crowd": {"BT": "bool"},
    "object_masks": {"BTMM": "uint8"},
    "instance_masks": {"BTS": "uint8"},
    "mask": {"BS": "uint8", "BKS": "uint8"},
    "category": {"B": "int64", "BK": "float32"},
    "identity": {"B": "int64"},
}
"""Key to shape letters (see the top of the file) to accepted dtypes."""
MASKS = ("object_masks", "instance_masks")


def check_batch(batch: Batch) -> None:
    """Checks that a batch follows the rules of `Batch`; for tests and debug runs.

    Raises:
        ValueError: A rule is broken; the message names the first such key.
    """
    targets = any(key in batch for key in ("boxes", "labels", "crowd", *MASKS))
    needed = ["image", "size", *(["boxes_valid"] if targets else [])]
    if missing := [key for key in needed if key not in batch]:
        raise ValueError(f"batch: expected {', '.join(missing)} too, got {sorted(batch)}")
    sides = tuple(batch["image"].shape[2:])
    known = {"B": (len(batch["image"]),), "D": (len(sides),), "S": sides, "4": (4,)}
    if targets:
        known["T"] = tuple(max(1, slots) for slots in batch["boxes_valid"].shape[1:2])
    parts: dict[str, Any] = {**batch.get("extra", {}), **batch}
    for key, layouts in _LAYOUTS.items():
        if key in parts:
            _check_layout(key, parts[key], layouts, known)
    for key in ("meta", "truth", *batch.get("extra", {})):
        if key in parts and len(parts[key]) != len(batch["image"]):
            raise ValueError(f"{key}: expected {known['B'][0]} rows, got {len(parts[key])}")
    for key, rows, good, accepted in _value_rules(batch):
        if not good.all():
            raise ValueError(f"{key}: expected {accepted}, got {rows[~good][0].tolist()}")


def _check_layout(
    key: str, value: Tensor, layouts: Mapping[str, str], known: Mapping[str, tuple[int, ...]]
) -> None:
    found = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    accepted = []
    for letters, dtypes in layouts.items():
        shape: list[int] = []
        for letter in letters:  # an unknown letter accepts any length
            shape += known.get(letter, value.shape[len(shape) : len(shape) + 1] or (0,))
        accepted += [f"{tuple(shape)} {dtype}" for dtype in dtypes.split()]
    if found not in accepted:
        raise ValueError(f"{key}: expected {' or '.join(accepted)}, got {found}")


def _value_rules(batch: Batch) -> Iterator[tuple[str, Tensor, Tensor, str]]:
    """Yields key, rows (N, ...), which rows are valid (N,), and what is expected of them."""
    size, sides = batch["size"], batch["image"].shape[2:]
    within = (size >= 1) & (size <= size.new_tensor(sides))
    yield "size", size, within.all(1), f"1 to {tuple(sides)}, the sides of the image"
    fills = {"image": 0, "mask": IGNORE_INDEX}
    for key, pixels in ((key, value) for key, value in batch.items() if key in fills):
        for image, lengths in zip(pixels, size.tolist(), strict=True):  # type: ignore[call-overload]
            for axis, length in enumerate(lengths, -len(lengths)):
                beyond = image.narrow(axis, length, image.shape[axis] - length).flatten()
                yield key, beyond, beyond == fills[key], f"{fills[key]} beyond the size"
    for key in ("category", "identity"):
        if key in batch:
            value: Tensor = batch[key]  # type: ignore[literal-required]
            yield key, value, (value >= 0).view(len(value), -1).all(1), "at least 0"
    if "labels" in batch:
        labels = batch["labels"][batch["boxes_valid"]]
        yield "labels", labels, labels >= 0, "at least 0"
    if "boxes" in batch:
        boxes = batch["boxes"][batch["boxes_valid"]]  # (N, 4)
        limit = size.flip(1).repeat(1, 2)[batch["boxes_valid"].nonzero()[:, 0]]
        inside = (boxes >= 0) & (boxes <= limit + 1e-3)  # tolerance for the rounding of resizing
        yield "boxes", boxes, inside.all(1), "a box inside the image"
        yield "boxes", boxes, (boxes[:, :2] < boxes[:, 2:]).all(1), "x1 < x2 and y1 < y2"
