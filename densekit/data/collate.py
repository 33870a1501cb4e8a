"""Stacks samples of any size into one padded batch.

B images, C channels, S the D largest sides, N boxes of one image, T target slots, K classes, M bins
per side of an object's mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.object_masks import SIDE, object_masks
from densekit.ops.padding import corner
from densekit.types import IGNORE_INDEX, Batch, Sample, TargetSpec

FEWEST_SLOTS = 8


def target_slots(most: int) -> int:
    """T: the most boxes of an image, rounded up to 8, 16, 32, ..., so that shapes repeat."""
    return max(FEWEST_SLOTS, 1 << (most - 1).bit_length()) if most > 0 else FEWEST_SLOTS


def collate(
    samples: Sequence[Sample],
    *,
    training: bool,
    valid: Sequence[bool] | None = None,
    target_specs: Mapping[str, TargetSpec] | None = None,
) -> Batch:
    """Stacks samples into a batch; images are padded at the end of each axis.

    Args:
        samples: B samples with the same keys.
        training: Whether to leave out `truth`.
        valid: False for each sample that is a repeat; by default all are valid.
        target_specs: How to stack each entry of `extra`.

    Returns:
        The `Batch`; its `key` is the index of each sample in the data set.

    Raises:
        ValueError: If only some samples have a target, channels differ, or an entry of `extra` has
            no spec.
    """
    _check_same_keys(samples)
    sizes = [sample["image"].shape[:-1] for sample in samples]
    size = tuple(max(sides) for sides in zip(*sizes, strict=True))
    batch = Batch(
        image=_stack_images([sample["image"] for sample in samples], size),
        size=torch.tensor(sizes, dtype=torch.int64),
        sample_valid=torch.tensor([True] * len(samples) if valid is None else list(valid)),
        key=torch.tensor([sample["index"] for sample in samples], dtype=torch.int64),
        meta=[sample["meta"] for sample in samples],
    )
    first = samples[0]
    if not training and "truth" in first:
        batch["truth"] = [sample["truth"] for sample in samples]
    slots = target_slots(max((len(sample.get("boxes", ())) for sample in samples), default=0))
    if "boxes" in first:
        _add_boxes(batch, samples, slots)
    if "instance_masks" in first:
        masks = [object_masks(sample["instance_masks"], sample["boxes"]) for sample in samples]
        batch["object_masks"] = _pad(masks, (slots, SIDE, SIDE), IGNORE_INDEX)
    if "mask" in first:
        masks = [sample["mask"] for sample in samples]
        classes = first["mask"].shape[: first["mask"].ndim - len(size)]  # (K,) if multi-label
        batch["mask"] = _pad(masks, (*classes, *size), IGNORE_INDEX)
    if "category" in first:
        batch["category"] = _stack([sample["category"] for sample in samples])
    if "identity" in first:
        batch["identity"] = _stack([sample["identity"] for sample in samples])
    if "extra" in first:
        batch["extra"] = _extras(samples, slots, size, target_specs or {})
    return batch


def _add_boxes(batch: Batch, samples: Sequence[Sample], slots: int) -> None:
    batch["boxes"] = _pad([sample["boxes"] for sample in samples], (slots, 4), 0)
    batch["labels"] = _pad([sample["labels"] for sample in samples], (slots,), 0)
    batch["crowd"] = _pad([sample["crowd"] for sample in samples], (slots,), 0)
    counts = torch.tensor([len(sample["boxes"]) for sample in samples])
    batch["boxes_valid"] = torch.arange(slots) < counts[:, None]  # (B, T)


def _stack_images(images: Sequence[NDArray[Any]], size: tuple[int, ...]) -> Tensor:
    """(B, C, *S) in channels-last layout, zero beyond each image."""
    channels = {image.shape[-1] for image in images}
    dtypes = {image.dtype for image in images}
    if len(channels) > 1 or len(dtypes) > 1:
        raise ValueError(
            "batch: expected images of equal channels and dtype, got channels"
            f" {sorted(channels)}, dtypes {sorted(map(str, dtypes))}"
        )
    return _pad(images, (*size, channels.pop()), 0).movedim(-1, 1)


def _pad(arrays: Sequence[NDArray[Any]], shape: tuple[int, ...], fill: float) -> Tensor:
    """(B, *shape): each array padded with `fill` at the end of its axes."""
    stacked = np.full((len(arrays), *shape), fill, dtype=arrays[0].dtype)
    for target, array in zip(stacked, arrays, strict=True):
        target[corner(array.shape)] = array
    return torch.from_numpy(stacked)


def _stack(values: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(value) for value in values]))


def _extras(
    samples: Sequence[Sample],
    slots: int,
    size: tuple[int, ...],
    specs: Mapping[str, TargetSpec],
) -> dict[str, Tensor]:
    out = {}
    for name, target in samples[0]["extra"].items():
        if name not in specs:
            raise ValueError(
                f"target_specs: expected a TargetSpec for the extra target {name!r}, got"
                f" {sorted(specs) or 'none'}"
            )
        spec = specs[name]
        leading = target.shape[: target.ndim - len(size)]
        shape = (slots, *target.shape[1:]) if spec.ragged else (*leading, *size)
        out[name] = _pad([sample["extra"][name] for sample in samples], shape, spec.fill)
    return out


def _check_same_keys(samples: Sequence[Sample]) -> None:
    keys = set(samples[0])
    for sample in samples[1:]:
        if set(sample) != keys:
            different = sorted(keys ^ set(sample))
            path = sample["meta"].get("path", "?")
            raise ValueError(
                f"{path}: expected the targets of the other samples, got a difference in"
                f" {different}"
            )
