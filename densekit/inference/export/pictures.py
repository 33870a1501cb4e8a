"""Files that take a picture of any size: it is resized inside, as the model does.

The frame of the network is fixed, the picture is not. So the new sides are numbers of the program,
not shapes, and each axis is read at computed positions. All sides are computed in integers: a
runtime such as OpenVINO has neither float64 nor int64.

Shape letters: H, W, C a picture, h, w its sides after resizing, F, G the frame of the network,
K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from densekit.inference.inferer import LOGITS
from densekit.inference.restore import HALF, logits_of
from densekit.model import UINT8_MAX, DenseModel
from densekit.ops.resize import ResizeRule, resized_size
from densekit.types import Decision

SIDES = 1 << 14
"""Sides of pictures up to here are rounded exactly as in `densekit.ops.resize.resized_size`."""
BITS = 53
"""Of the fraction of a float64."""


def check_pictures(model: DenseModel, sides: tuple[int, ...], inferer: object) -> None:
    """Checks that a model takes whole pictures of 8 bits, and that its crop fits into the frame.

    Args:
        model: Its `info` is read.
        sides: F and G.
        inferer: That the model was validated with.

    Raises:
        ValueError: Names the key and what is exported instead.
    """
    info = model.info
    is_of_bytes = info.get("dtype", "uint8") == "uint8" and not info.get("intensity")
    if model.spatial_dims != 2 or info.get("slices") or not is_of_bytes:
        raise ValueError(
            "resize: expected a model of pictures of 8 bits, got one of other images; its file"
            " takes prepared images, resize=false"
        )
    if not getattr(inferer, "whole_image", False):
        raise ValueError(
            "resize: expected a model that sees pictures as a whole, got one that was validated"
            f" with {type(inferer).__name__}; resize=false exports what it sees of them"
        )
    crop = (info.get("resize") or {}).get("crop", 1)
    if min(sides) < crop:
        raise ValueError(f"size: expected sides of at least {crop}, the crop, got {list(sides)}")


class OnPictures(nn.Module):
    """Wraps a program of prepared images so that it takes a picture and answers in its pixels.

    Args:
        program: Takes `image` (1, C, F, G) and `size` (1, 2), returns predictions by `HEAD/KEY`.
        info: Of the model.
        sides: F and G.
        thresholds: Of heads with binary or multi-label masks, see `DenseModel.thresholds`.
    """

    def __init__(
        self,
        program: nn.Module,
        info: Mapping[str, Any],
        sides: tuple[int, ...],
        thresholds: Mapping[str, Decision] | None = None,
    ) -> None:
        super().__init__()
        self.thresholds = dict(thresholds or {})
        self.program = program
        self.rule: ResizeRule | None = info.get("resize")
        self.unit = float(info["full_scale"]) / UINT8_MAX
        self.sides = sides
        rule: Mapping[str, Any] = self.rule or {}
        for key in ("min_size", "max_size"):
            self.register_buffer(f"{key}_lost", _lost_shares(rule[key]) if key in rule else None)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Returns the predictions for one picture, without an axis of images.

        Args:
            picture: (H, W, C) uint8.

        Returns:
            By `HEAD/KEY`: boxes in pixels of the picture; `mask` (H, W) uint8 in place of logits,
            (K, H, W) if the classes are independent; all else as the program returns it.
        """
        here = torch.stack([_number(side) for side in picture.shape[:2]])  # (2,)
        image, size, whole = self._prepared(picture, here)
        found = {}
        for name, value in self.program(image, size[None]).items():
            head, _, key = name.partition("/")
            if key in LOGITS:
                at = self.thresholds.get(head, HALF)
                found[f"{head}/mask"] = _mask(value[0], size, picture, key != LOGITS[0], at)
            elif key == "boxes":
                found[name] = value[0] * (here / whole).flip(0).repeat(2)
            else:
                found[name] = value[0]
        return found

    def _prepared(self, picture: Tensor, here: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns `image` (1, C, F, G), its size (2,), and the sides (2,) before the crop."""
        whole = self._resized(here)
        rule, size, start = self.rule, whole, torch.zeros_like(whole)
        if rule is not None and "crop" in rule:
            size = whole.clamp(max=rule["crop"])
            start = ((whole - size) / 2).round()
        x = picture.permute(2, 0, 1)
        read = _smoothed if rule is not None and rule.get("antialias") else _interpolated
        for axis, side in enumerate(self.sides):
            place = torch.arange(side) + start[axis]
            x = read(x, axis + 1, place, here[axis], whole[axis])
        return x[None] * self.unit, size, whole

    def _resized(self, here: Tensor) -> Tensor:
        """The sides h, w after the rule, reduced further where they exceed the frame."""
        sides = here if self.rule is None else self._by_rule(self.rule, here)
        if "crop" in (self.rule or {}):
            return sides
        frame = torch.tensor(self.sides)
        by_height = sides[0] * frame[1] >= sides[1] * frame[0]
        most, side = (torch.where(by_height, one[0], one[1]) for one in (frame, sides))
        fitting = (sides * most // side).clamp(min=1)
        return torch.where(most < side, fitting, sides)

    def _by_rule(self, rule: ResizeRule, here: Tensor) -> Tensor:
        """`densekit.ops.resize.resized_size` in integers, its rounding in float64 included."""
        short, long = here.amin(0), here.amax(0)
        wanted, of, lost = _number(rule["min_size"]), short, self._lost("min_size", short)
        if "max_size" in rule:
            most = _number(rule["max_size"])
            is_long = wanted * long > most * short
            wanted, of = torch.where(is_long, most, wanted), torch.where(is_long, long, short)
            lost = torch.where(is_long, self._lost("max_size", long), lost)
        half = int(rule.get("rounded", False))
        above = 2 * here * wanted + half * of
        new = above // (2 * of)
        exact = new - 0.5 * half  # the product, if the next line is true
        is_whole = new * (2 * of) == above
        power = 2.0 ** torch.arange(-1, 24)
        power = torch.where(power < exact[:, None], power, 0).amax(1)
        return (new - (is_whole & (exact * lost > power)).long()).clamp(min=1)

    def _lost(self, key: str, side: Tensor) -> Tensor:
        table: Tensor = getattr(self, f"{key}_lost")
        return table[side.clamp(max=SIDES)]


def in_other_sizes(
    picture: NDArray[np.uint8], info: Mapping[str, Any], frame: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    """Yields a picture cut to parts and doubled, as far as the model's size of it fits the frame.

    Args:
        picture: (H, W, C).
        info: Of the model.
        frame: F and G.
    """
    height, width = picture.shape[:2]
    for above, below in ((1, 2), (2, 3), (6, 7), (2, 1)):
        sides = height * above // below, width * above // below
        one = picture.repeat(2, 0).repeat(2, 1) if above > below else picture
        rule = info.get("resize")
        new = sides if rule is None or min(sides) < 1 else resized_size(*sides, rule)
        new_sides = [min(side, (rule or {}).get("crop", side)) for side in new]
        if min(sides) > 0 and all(a <= b for a, b in zip(new_sides, frame, strict=True)):
            yield one[: sides[0], : sides[1]]


def as_pictures(
    batches: Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]], full_scale: float
) -> list[tuple[NDArray[np.uint8]]]:
    """Returns prepared images as pictures, whole grey levels, to measure the scales of int8 on.

    Args:
        batches: `image` (B, C, F, G) in the unit of the model, and `size` (B, 2).
        full_scale: See `DenseModel`.
    """
    return [
        (np.rint(one[:, :h, :w] * (UINT8_MAX / full_scale)).astype(np.uint8).transpose(1, 2, 0),)
        for image, size in batches
        for one, (h, w) in zip(image, size, strict=True)
    ]


def _number(value: int) -> Tensor:
    return torch.full((), value, dtype=torch.int64)


def _lost_shares(wanted: int) -> Tensor:
    """How far wanted / side is rounded down in float64, relative, in units of 2^-53.

    A product with it that would be whole is below by this share, and its floor is one less if that
    is more than half of what float64 can tell apart there: if it exceeds the power of two below.

    Args:
        wanted: Length of the side after resizing.

    Returns:
        (SIDES + 1,) float32 by side; 0 where the ratio is not rounded down.
    """
    shares = [
        max(Fraction(0), 1 - Fraction(wanted / side) * side / wanted) * 2**BITS
        for side in range(1, SIDES + 1)
    ]
    return torch.tensor([0.0, *map(float, shares)])


def _interpolated(x: Tensor, axis: int, place: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Interpolates one axis linearly, like `densekit.ops.interpolation.resize_linear`.

    Args:
        x: The maps; along the axis only the first `old` positions are read.
        axis: The axis.
        place: Where to read, positions of the new axis.
        old: Length of the axis.
        new: Its length after resizing.
    """
    at = ((place + 0.5) * (old.float() / new.float()) - 0.5).clamp(min=0)
    low = at.floor().long().minimum(old - 1)
    high = (low + 1).minimum(old - 1)
    share = (at - low).clamp(max=1).view(-1, *[1] * (x.ndim - 1 - axis))
    before, after = x.index_select(axis, low).float(), x.index_select(axis, high).float()
    return before + (after - before) * share


def _smoothed(x: Tensor, axis: int, place: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Reduces one axis by means weighted with a triangle, like PyTorch with `antialias`."""
    ratio = old.float() / new.float()
    distance = torch.arange(x.shape[axis]) + 0.5 - (place[:, None] + 0.5) * ratio
    weight = (1 - distance.abs() / ratio.clamp(min=1)).clamp(min=0)  # (new, old)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    return (x.float().movedim(axis, -1) @ weight.T).movedim(-1, axis)


def _mask(
    logits: Tensor, size: Tensor, picture: Tensor, multilabel: bool, threshold: Decision
) -> Tensor:
    """`densekit.inference.restore.restore_mask` of logits (K, F, G)."""
    for axis in range(2):
        side = picture.shape[axis]
        logits = _interpolated(logits, axis + 1, torch.arange(side), size[axis], _number(side))
    if multilabel or logits.shape[0] == 1:
        classes = (logits > logits_of(threshold, logits)).to(torch.uint8)
        return classes if multilabel else classes[0]
    return logits.argmax(0).to(torch.uint8)
