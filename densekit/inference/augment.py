"""Test-time augmentation: joins the predictions for mirrored and scaled copies of an image.

Shape letters: B images, C channels, K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from densekit.inference.inferer import Inferer, logits_of
from densekit.inference.merging import merged, seen_back
from densekit.inference.wrapping import WrappingInferer
from densekit.model import DenseModel
from densekit.ops.interpolation import resize_linear
from densekit.ops.padding import corner, largest_sides, stack_padded
from densekit.types import Batch, Features, Predictions


class TestTimeAugmentation(WrappingInferer):
    """Averages the *probabilities* of mirrored and scaled copies of each image.

    Softmax over exclusive classes, a sigmoid per class for multi-label and binary heads. The mean
    is turned back into logits, so that whatever follows works as without augmentation. Boxes are
    not averaged: the detections of all copies are suppressed together, and each keeps its mask.

    Args:
        inferer: How each copy is predicted, e.g. a `SlidingWindow`; the whole image by default.
        flips: Spatial axes to mirror (-1: left and right). Every combination is predicted: 2 passes
            for one axis, 4 for two, 8 for three.
        scales: Scale factors of the sides; include 1 to predict the unscaled image too.
        nms_iou: Detections of one class with a larger IoU are suppressed, 0..1.
        max_detections: Most detections per image.

    Raises:
        ValueError: An axis appears twice, there is no scale, a scale is not positive, or another
            argument is out of range.
    """

    __test__ = False  # the name would make pytest collect it

    def __init__(
        self,
        inferer: Inferer | None = None,
        flips: Sequence[int] = (-1,),
        scales: Sequence[float] = (1.0,),
        nms_iou: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        if len(set(flips)) != len(flips):
            raise ValueError(
                f"TestTimeAugmentation.flips: expected each axis once, got {list(flips)}"
            )
        if not scales or min(scales) <= 0:
            raise ValueError(
                f"TestTimeAugmentation.scales: expected factors above 0, got {list(scales)}"
            )
        if not 0 <= nms_iou <= 1:
            raise ValueError(f"TestTimeAugmentation.nms_iou: expected 0 to 1, got {nms_iou}")
        if max_detections < 1:
            raise ValueError(
                f"TestTimeAugmentation.max_detections: expected at least 1, got {max_detections}"
            )
        super().__init__(inferer)
        self.nms_iou, self.max_detections = nms_iou, max_detections
        self.axes = list(flips)
        self.flips = [
            axes for n in range(len(flips) + 1) for axes in itertools.combinations(flips, n)
        ]
        self.scales = list(scales)

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Logits of the mean probabilities, zero beyond `size`; or the detections of all copies."""
        _check_axes(self.axes, model.spatial_dims)
        sums: dict[str, Predictions] = {}
        views: dict[str, list[Predictions]] = {}
        for scale, flip in itertools.product(self.scales, self.flips):
            plain = scale == 1 and not flip
            changed = batch if plain else _changed(model, batch, scale, flip)
            predicted = self.inferer.predict(model, changed, features if plain else None)
            boxes = {head: found for head, found in predicted.items() if "boxes" in found}
            for head, seen in boxes.items():
                back = seen_back(seen, changed["size"], batch["size"], flip)
                views.setdefault(head, []).append(back)
            others = {head: found for head, found in predicted.items() if head not in boxes}
            for head, (key, logits) in logits_of(others, "TestTimeAugmentation").items():
                found = _unchanged(probabilities(key, logits), changed["size"], batch, flip)
                if head in sums:
                    sums[head][key] += found
                else:
                    sums[head] = {key: found}
        count = len(self.scales) * len(self.flips)
        means = {
            head: {key: to_logits(key, value.div_(count)) for key, value in of_head.items()}
            for head, of_head in sums.items()
        }
        detected = {h: merged(v, self.nms_iou, self.max_detections) for h, v in views.items()}
        return {**means, **detected}


def probabilities(key: str, logits: Tensor) -> Tensor:
    """(B, K, *S) in float32: softmax over the classes; sigmoid of multi-label and binary logits."""
    if key == "logits" and logits.shape[1] > 1:
        return logits.float().softmax(1)
    return logits.float().sigmoid()


def to_logits(key: str, mean: Tensor) -> Tensor:
    """Logits whose `probabilities` are `mean`, (B, K, *S) in 0..1."""
    mean = mean.clamp(min=torch.finfo(mean.dtype).tiny)
    if key == "logits" and mean.shape[1] > 1:
        return mean.log()
    return mean.logit(eps=torch.finfo(mean.dtype).eps)


def _check_axes(axes: Sequence[int], dims: int) -> None:
    within = all(-dims <= axis < dims for axis in axes)
    if not within or len({axis % dims for axis in axes}) < len(axes):
        raise ValueError(
            f"TestTimeAugmentation.flips: expected distinct axes within -{dims}..{dims - 1}, the"
            f" {dims} spatial axes of the images, got {list(axes)}"
        )


def mirrored(model: DenseModel, batch: Batch, axes: Sequence[int]) -> Batch:
    """The batch with every image, without its padding, mirrored along the given spatial axes."""
    return _changed(model, batch, 1.0, axes)


def _changed(model: DenseModel, batch: Batch, scale: float, flip: Sequence[int]) -> Batch:
    """The batch with every image, without its padding, scaled and mirrored."""
    images = model.in_unit(batch["image"])
    sizes, rows = [], []
    for image, size in zip(images, batch["size"].tolist(), strict=True):
        row = _resized(image[corner(size)], [max(1, round(side * scale)) for side in size])
        rows.append(_mirrored(row, flip))
        sizes.append(row.shape[1:])
    stacked = stack_padded(rows, largest_sides(sizes))
    return {"image": stacked, "size": batch["size"].new_tensor(sizes)}


def _unchanged(values: Tensor, sizes: Tensor, batch: Batch, flip: Sequence[int]) -> Tensor:
    """Undoes `_changed` on values: (B, K, *S) in the frame of the batch, zero beyond `size`."""
    out = values.new_zeros((*values.shape[:2], *batch["image"].shape[2:]))
    for target, row, size, original in zip(
        out, values, sizes.tolist(), batch["size"].tolist(), strict=True
    ):
        inside = _mirrored(row[corner(size)], flip)
        target[corner(original)] = _resized(inside, original)
    return out


def _mirrored(image: Tensor, flip: Sequence[int]) -> Tensor:
    dims = image.ndim - 1
    return image.flip([1 + axis % dims for axis in flip]) if flip else image


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(C, *S) interpolated linearly; unchanged where it already has that size."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return resize_linear(image[None].float(), size)[0]
