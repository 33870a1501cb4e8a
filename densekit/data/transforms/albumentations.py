"""Augmentation by albumentations, which is imported only when a transform is built.

H, W the size of the image, N its boxes.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit._names import check_keys, unknown
from densekit.data.transforms.geometry import clip_boxes, is_spatial, select_boxes
from densekit.data.transforms.layers import layered
from densekit.types import IGNORE_INDEX, Sample


class Augment:
    """Transforms of albumentations, selected by name.

        steps:
          HorizontalFlip: {p: 0.5}
          RandomSizedBBoxSafeCrop: {height: 480, width: 640, p: 0.3}
          OneOf: {p: 0.5, transforms: {Blur: {blur_limit: 5}, GaussNoise: {}}}

    They run in the order of the mapping; as it is a mapping, the command line can change a single
    step or argument. Masks, labels, crowd flags and the rows of plug-ins follow their boxes. Pixels
    that a transform fills in (a rotated corner) are ignored in masks. Colour transforms expect
    8-bit images, or floats in 0..1.

    Args:
        steps: Name of an albumentations class to its arguments; those of OneOf, SomeOf and
            Sequential have a nested mapping `transforms`.
        min_visible: Drop boxes of which a smaller share of the area stays in the image.
        min_side: Drop boxes with a shorter side, in pixels, after the transforms.

    Raises:
        ValueError: For a name or an argument that albumentations does not know, with the nearest.
    """

    def __init__(
        self,
        steps: Mapping[str, Mapping[str, Any] | None],
        *,
        min_visible: float = 0.1,
        min_side: float = 1.0,
    ) -> None:
        import albumentations

        self.min_side = min_side
        self._pipeline = albumentations.Compose(
            [_build(name, arguments, "Augment.steps") for name, arguments in steps.items()],
            bbox_params=albumentations.BboxParams(
                "pascal_voc", label_fields=["row"], min_visibility=min_visible
            ),
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The augmented sample; all randomness comes from the generator."""
        # Not `set_random_seed`: it seeds every step alike, so that steps of equal probability would
        # always happen together.
        self._pipeline.set_random_state(rng, random.Random(int(rng.integers(2**32))))
        if sample["image"].ndim != 3:
            raise ValueError(
                f"Augment: expected an image of height and width, got {sample['image'].shape[:-1]};"
                " VolumeAugment takes series and volumes"
            )
        size = sample["image"].shape[:2]
        boxes = clip_boxes(sample.get("boxes", np.zeros((0, 4))).astype(np.float64), size)
        given: dict[str, Any] = {"image": sample["image"], "bboxes": boxes}
        given["row"] = np.arange(len(boxes), dtype=np.float64)
        layers = layered(sample["instance_masks"]) if "instance_masks" in sample else None
        numbered = sample if layers is None else {**sample, "instance_masks": layers.maps}
        maps = _collect_maps(numbered, size)
        planes = [plane for map_ in maps.values() for plane in map_.reshape(-1, *size)]
        if planes:
            given["masks"] = planes
        changed = self._pipeline(**given)
        out = _with_maps(sample, changed["image"], changed.get("masks"), maps)
        if layers is not None:
            out["instance_masks"] = layers.planes(out["instance_masks"])
        if "boxes" not in sample:
            return out
        new = np.asarray(changed["bboxes"], dtype=np.float64).reshape(-1, 4)
        rows = np.asarray(changed["row"], dtype=np.intp)
        return self._with_boxes(out, new, rows)

    def _with_boxes(self, sample: Sample, boxes: NDArray[Any], rows: NDArray[Any]) -> Sample:
        """Sets the transformed boxes, without those that became too small."""
        boxes = clip_boxes(boxes.astype(np.float32), sample["image"].shape[:2])
        short = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        # Boxes that were thin from the start are kept; only those that a transform shrank go.
        before = sample["boxes"][rows]
        short_before = (before[:, 2:] - before[:, :2]).min(axis=1, initial=np.inf)
        keep = (short >= np.minimum(self.min_side, 0.5 * short_before)) & (short > 0)
        out = select_boxes(sample, rows[keep])
        out["boxes"] = boxes[keep]
        return out


def _build(name: str, arguments: Mapping[str, Any] | None, key: str) -> Any:
    """Builds one transform after checking its arguments (albumentations 2.0 only warns)."""
    import albumentations

    known = _transform_names()
    if name not in known:
        raise ValueError(unknown(f"{key} (albumentations)", name, known))
    cls = getattr(albumentations, name)
    values = dict(arguments or {})
    parameters = inspect.signature(cls.__init__).parameters
    accepted = [p for p in parameters if p != "self"]
    check_keys(f"{key}.{name}", values, accepted)
    if isinstance(values.get("transforms"), Mapping):
        inner = f"{key}.{name}.transforms"
        values["transforms"] = [_build(n, a, inner) for n, a in values["transforms"].items()]
    if "fill_mask" in accepted:
        values.setdefault("fill_mask", IGNORE_INDEX)
    if (interpolation := parameters.get("mask_interpolation")) is not None:
        _keep_labels(interpolation, values, f"{key}.{name}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}.{name}: expected valid arguments, got: {error}") from error


def _keep_labels(argument: inspect.Parameter, values: dict[str, Any], key: str) -> None:
    """Sets nearest interpolation of masks; raises if the arguments would mix classes."""
    # Plain INTER_NEAREST shifts a mask against its image by up to half a pixel.
    exact = "NEAREST_EXACT" in str(argument.annotation)
    chosen = values.setdefault(
        "mask_interpolation", cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_NEAREST
    )
    mixed = chosen not in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)
    if mixed or values.get("area_for_downscale") == "image_mask":
        raise ValueError(
            f"{key}: expected nearest interpolation of masks, whose labels must not be mixed, got"
            f" mask_interpolation {chosen}, area_for_downscale {values.get('area_for_downscale')};"
            " omit mask_interpolation, and set area_for_downscale to null or image"
        )


def _transform_names() -> list[str]:
    """Names of the classes that `steps` may contain."""
    import albumentations

    kinds = (albumentations.BasicTransform, albumentations.BaseCompose)
    members = inspect.getmembers(albumentations, inspect.isclass)
    return [name for name, cls in members if issubclass(cls, kinds)]


def _collect_maps(sample: Sample, size: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Every target with a value per pixel, by a path-like name."""
    maps: dict[str, NDArray[Any]] = {}
    if "instance_masks" in sample:
        maps["instance_masks"] = sample["instance_masks"]
    if "mask" in sample:
        maps["mask"] = sample["mask"]
    for name, target in sample.get("extra", {}).items():
        if is_spatial(target, size):
            maps[f"extra/{name}"] = target
    return maps


def _with_maps(
    sample: Sample,
    image: NDArray[Any],
    planes: Any,
    maps: dict[str, NDArray[Any]],
) -> Sample:
    """Assigns the transformed planes to the targets that they came from."""
    out = sample.copy()
    out["image"] = np.ascontiguousarray(image)
    size = out["image"].shape[:2]
    if "extra" in sample:
        out["extra"] = dict(sample["extra"])
    start = 0
    for key, before in maps.items():
        count = int(np.prod(before.shape[:-2]))
        part = planes[start : start + count] if planes is not None else np.zeros((0, *size))
        after = np.asarray(part, dtype=before.dtype).reshape(*before.shape[:-2], *size)
        start += count
        if key.startswith("extra/"):
            out["extra"][key.removeprefix("extra/")] = after
        else:
            out[key] = after  # type: ignore[literal-required]
    return out
