"""The image that is explained, in the network's frame, and what predicts it.

Shape letters: N images, C channels, D spatial dimensions, S the D sizes of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import back, turned, turned_sides
from densekit.explain.target import Target
from densekit.inference.inferer import Inferer
from densekit.model import DenseModel
from densekit.ops.interpolation import resize_linear
from densekit.ops.resize import resized_size
from densekit.types import Batch, Meta, Predictions


def silent(passes: int) -> None:
    """Ignores progress."""


@dataclass(frozen=True)
class Subject:
    """One image in the network's frame, with the model that predicts it.

    Attributes:
        model: In eval mode; its `predict` may be that of an engine.
        head: Name of the head that is explained.
        image: (C, *S) float, without padding, in the unit of the model's mean and std.
        meta: Of the original image.
        inferer: How the model predicts an image.
        batch_size: Images per forward pass.
        advance: Called with the number of images after each forward pass.
    """

    model: DenseModel
    head: str
    image: Tensor
    meta: Meta
    inferer: Inferer
    batch_size: int = 4
    advance: Callable[[int], None] = silent

    @property
    def sides(self) -> tuple[int, ...]:
        """The D sizes of the image in the network's frame."""
        return tuple(self.image.shape[1:])

    @property
    def fill(self) -> Tensor:
        """(C, 1, ...) the mean of the training data: what the network sees as zero."""
        mean = self.model.mean[0].to(self.image)
        return mean.flip(0) if self.model.flip_channels else mean

    def with_model(self, model: DenseModel) -> Subject:
        """Returns the same image, predicted by another model."""
        return replace(self, model=model)

    def batch(self, images: Tensor) -> Batch:
        """Returns a batch of images (N, C, *S)."""
        size = torch.tensor([self.sides] * len(images), device=images.device)
        return {"image": images, "size": size, "meta": [self.meta] * len(images)}

    @torch.inference_mode()
    def predictions(self, images: Tensor) -> Predictions:
        """Predicts images (N, C, *S) with the inferer; one forward pass."""
        found = self.inferer.predict(self.model, self.batch(images.to(self.model.mean.device)))
        self.advance(len(images))
        return found[self.head]

    def scores(self, images: Iterable[Tensor], target: Target) -> NDArray[np.float64]:
        """Returns the scores (N,) of a target in images (C, *S), which are taken in batches."""
        found: list[Tensor] = []
        for part in batches(images, self.batch_size):
            found.append(target.score(self.predictions(torch.stack(part))).double().cpu())
        return torch.cat(found).numpy()

    def restored(self, values: Tensor) -> NDArray[np.float32]:
        """Returns a map (*S) in the frame of the original image; 0 where the network saw nothing.

        Args:
            values: (*S) in the network's frame.
        """
        rule = self.model.info.get("resize")
        if rule is not None and "crop" in rule:
            height, width = self.meta["original_size"]
            values = _uncropped(values, resized_size(height, width, rule))
        axes = self.meta.get("axes")
        sides = turned_sides(self.meta["original_size"], axes)
        whole = resize_linear(values[None, None].float().cpu(), sides)[0, 0].numpy()
        found: NDArray[np.float32] = turned(whole, back(axes))
        return found


def batches(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Yields lists of up to `size` items."""
    part = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _uncropped(values: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Puts a map back into the centre from which `densekit.ops.resize.centre_crop` took it."""
    whole = values.new_zeros(sides)
    starts = [round((side - length) / 2) for side, length in zip(sides, values.shape, strict=True)]
    ends = [start + length for start, length in zip(starts, values.shape, strict=True)]
    whole[tuple(map(slice, starts, ends))] = values
    return whole
