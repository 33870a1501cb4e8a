"""Rules for the entries of a sample, one function per kind.

N objects, C channels, K classes, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX, Meta, Sample, TargetSpec, Truth

TARGETS = ("boxes", "mask", "category", "identity", "extra")
OF_BOXES = {"labels": "int64", "crowd": "bool"}
SLACK = 1e-3
"""Pixels by which rounding may put a resized box outside its image."""


@dataclass(frozen=True)
class Vocabulary:
    """The declarations of a data set about its samples.

    Attributes:
        described: Its `describe()`.
        target_specs: How collate stacks its custom targets.
    """

    described: Mapping[str, Any]
    target_specs: Mapping[str, TargetSpec]

    def of(self, kind: str) -> dict[str, Any]:
        """Declarations about a kind of target: "boxes", "mask", "category" or "identity"."""
        return {**self.described, **self.described.get("targets", {}).get(kind, {})}


def check_keys(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks for known entries, complete meta, and a spec for every custom target."""
    unknown = sorted(set(sample) - set(Sample.__annotations__))
    assert not unknown, f"unknown entries {unknown}; custom targets belong under `extra`"
    for key in ("image", "index", "meta"):
        assert key in sample, f"{key!r} is missing from {sorted(sample)}"
    missing = sorted({"path", "image_id", "original_size"} - set(sample["meta"]))
    assert not missing, f"meta lacks {missing}"
    unknown = sorted(set(sample["meta"]) - set(Meta.__annotations__))
    assert not unknown, f"meta has {unknown}, expected only {sorted(Meta.__annotations__)}"
    unstacked = sorted(set(sample.get("extra", {})) - set(vocabulary.target_specs))
    assert not unstacked, f"extra has {unstacked}, which `target_specs` lacks"


def check_image(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks for (*S, C) uint8 or finite float32, with the declared channels and dtype."""
    image = sample["image"]
    dims = vocabulary.described.get("spatial_dims", 2)
    assert image.ndim == dims + 1, f"image has shape {image.shape}, not {dims} sides and channels"
    assert image.dtype in (np.uint8, np.float32), f"image is {image.dtype}, not uint8 or float32"
    channels, dtype = vocabulary.described["channels"], vocabulary.described.get("dtype", "uint8")
    found = image.shape[-1]
    assert found == channels, (
        f"image: expected {channels} channels, as describe() says, got {found}"
    )
    assert image.dtype == dtype, f"image: expected {dtype}, as describe() says, got {image.dtype}"
    assert min(image.shape) > 0, f"image is empty: {image.shape}"
    assert np.isfinite(image).all(), "image has NaN or infinite values"


def check_boxes(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks for (N, 4) float32 boxes with an area, in the image, with labels and crowd flags."""
    if "boxes" not in sample:
        alone = [key for key in (*OF_BOXES, "instance_masks") if key in sample]
        assert not alone, f"{alone} without boxes"
        return
    boxes = sample["boxes"]
    _check_array("boxes", boxes, "float32", (len(boxes), 4))
    for key, dtype in OF_BOXES.items():
        _check_array(key, sample.get(key), dtype, (len(boxes),))
    _check_box_values(boxes, sample["image"].shape[:-1], "boxes")
    _check_range("labels", sample["labels"], vocabulary.of("boxes")["num_classes"])
    if "instance_masks" in sample:
        masks, sides = sample["instance_masks"], sample["image"].shape[:-1]
        _check_array("instance_masks", masks, "uint8", (len(boxes), *sides))
        wrong = sorted(set(np.unique(masks).tolist()) - {0, 1, IGNORE_INDEX})
        assert not wrong, f"instance_masks has {wrong}, expected 0, 1 and {IGNORE_INDEX}"


def check_mask(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks for uint8 (*S), multi-label (K, *S), with the declared classes and 255."""
    if "mask" in sample:
        _check_mask_values(sample["mask"], sample["image"].shape[:-1], vocabulary.of("mask"))


def check_category(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks categories, () int64 in 0..K-1 or (K,) float32 in 0..1, and identities, () int64."""
    if "category" in sample:
        number, category = vocabulary.of("category")["num_classes"], np.asarray(sample["category"])
        if category.ndim:
            _check_array("category", category, "float32", (number,))
            within = (category >= 0) & (category <= 1)
            assert within.all(), f"category has {category[~within][0]}, expected 0 to 1"
        else:
            _check_array("category", category, "int64", ())
            _check_range("category", category, number)
    if "identity" in sample:
        identity = np.asarray(sample["identity"])
        _check_array("identity", identity, "int64", ())
        _check_range("identity", identity, vocabulary.of("identity")["num_identities"])


def check_truth(sample: Sample, vocabulary: Vocabulary) -> None:
    """Checks the annotation in the original frame, whose boxes may extend beyond the image."""
    assert "truth" in sample, "truth is missing, which metrics compare with"
    truth, meta = sample["truth"], sample["meta"]
    for key, expected in (("image_id", meta["image_id"]), ("size", tuple(meta["original_size"]))):
        found = truth.get(key)
        found = tuple(found) if key == "size" and found is not None else found  # type: ignore[arg-type]
        assert found == expected, f"truth.{key} is {found}, meta says {expected}"
    if "boxes" in truth:
        _check_corners(np.asarray(truth["boxes"]), "truth.boxes")
        _check_range("truth.labels", truth["labels"], vocabulary.of("boxes")["num_classes"])
    if "masks" in truth:
        _check_run_lengths(truth)
    elif "instance_masks" in sample:
        raise AssertionError("truth.masks is missing beside instance_masks")
    if "mask" in truth:
        _check_mask_values(truth["mask"], truth["size"], vocabulary.of("mask"))


RULES = (check_keys, check_image, check_boxes, check_mask, check_category)
"""Rules for samples of data sets and for samples that a transform returns."""


def _check_array(key: str, value: Any, dtype: str, shape: tuple[int, ...]) -> None:
    assert value is not None, f"{key!r} is missing"
    found = f"{np.shape(value)} {np.asarray(value).dtype}"
    assert found == f"{shape} {dtype}", f"{key} is {found}, not {shape} {dtype}"


def _check_box_values(boxes: NDArray[Any], sides: tuple[int, ...], key: str) -> None:
    limit = np.asarray([sides[1], sides[0]] * 2)
    for box in boxes:
        inside = np.isfinite(box).all() and (box >= -SLACK).all() and (box <= limit + SLACK).all()
        assert inside, f"{key} has {box.tolist()}, outside an image of {tuple(sides)}"
        assert (box[:2] < box[2:]).all(), f"{key} has {box.tolist()}, not x1 < x2 and y1 < y2"


def _check_corners(boxes: NDArray[Any], key: str) -> None:
    for box in boxes:
        ordered = np.isfinite(box).all() and (box[:2] <= box[2:]).all()
        assert ordered, f"{key} has {box.tolist()}, expected finite x1 <= x2 and y1 <= y2"


def _check_run_lengths(truth: Truth) -> None:
    masks, size = truth["masks"], list(truth["size"])
    found = f"truth.masks has {len(masks)} rows for {len(truth['boxes'])} boxes"
    assert len(masks) == len(truth["boxes"]), found
    for mask in masks:
        found = f"truth.masks has {str(mask):.80}, expected the size {size} and counts in bytes"
        assert (mask["size"], type(mask["counts"])) == (size, bytes), found


def _check_mask_values(
    mask: NDArray[Any], sides: tuple[int, ...], described: Mapping[str, Any]
) -> None:
    number, several = described["num_classes"], described.get("multilabel", False)
    _check_array("mask", mask, "uint8", (number, *sides) if several else tuple(sides))
    accepted = {*range(2 if several or number == 1 else number), IGNORE_INDEX}
    wrong = sorted(set(np.unique(mask).tolist()) - accepted)
    assert not wrong, f"mask has {wrong}, expected {_range(accepted)} and {IGNORE_INDEX}"


def _range(accepted: set[int]) -> str:
    return f"0 to {max(accepted - {IGNORE_INDEX})}"


def _check_range(key: str, values: Any, number: int) -> None:
    for value in _numbers(values):
        assert 0 <= value < number, f"{key} has {value}, expected 0 to {number - 1}"


def _numbers(values: Any) -> Iterator[int]:
    yield from (int(value) for value in np.ravel(values))
