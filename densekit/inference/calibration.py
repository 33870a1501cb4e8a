"""The images on which the scales of 8-bit programs are measured, as the network sees them.

An inferer may cut an image into windows or slices. So the images go through the inferer
that will predict, and what it hands to the network is recorded.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from densekit.inference.engine import Pair, Seen, with_engine
from densekit.inference.frames import Frames
from densekit.model import DenseModel
from densekit.ops.padding import corner, pad_end
from densekit.types import Batch, Features, Predictions

if TYPE_CHECKING:
    from densekit.inference.inputs import Image

Calibration = Callable[[DenseModel], Iterable[Batch]]
"""Returns batches as an inferer takes them, not yet resized."""

IMAGES = 100
"""Images, as the network sees them, that scales are measured on."""
BYTES = 1 << 30
"""Limit of their memory; large volumes reach it first."""
WINDOWS = 8
"""Most windows or slices that are taken of one batch, evenly spaced."""


class CalibrationError(RuntimeError):
    """The images that scales are measured on are missing or cannot be read."""


def calibrate_on(images: Sequence[Image]) -> Calibration:
    """Measures scales on images, one per batch, in any form that `Predictor` takes."""

    def batches(model: DenseModel) -> Iterator[Batch]:
        frames = Frames(model)
        for index, image in enumerate(images):
            tensor, meta = frames.prepared(image, f"calibration[{index}]")
            size = torch.tensor([tensor.shape[1:]])
            yield {"image": tensor[None], "size": size, "meta": [meta]}

    return batches


def seen_later(
    model: DenseModel, inferer: Callable[..., Any], calibration: Calibration | None
) -> Seen | None:
    """Returns a function that calls `seen_by` for calibration images, None without any."""
    if calibration is None:
        return None
    return lambda: seen_by(model, inferer, calibration(model))


def seen_by(model: DenseModel, inferer: Callable[..., Any], batches: Iterable[Batch]) -> list[Pair]:
    """Returns what the network sees while an inferer predicts batches.

    Args:
        model: In eval mode.
        inferer: How a batch is predicted.
        batches: See `Calibration`.

    Raises:
        CalibrationError: There is no image, or one cannot be read.
    """
    recorder = _Recorder(model)
    recording = with_engine(model, recorder)
    pairs: list[Pair] = []
    try:
        for batch in batches:
            resized = model.resized(batch)
            recorder.pairs.clear()
            whole = getattr(inferer, "whole_image", False)
            if whole and resized["image"].ndim - 2 == model.spatial_dims:  # not of slices
                recorder.record(resized)
            else:
                inferer(recording, resized)
            pairs += _evenly(recorder.pairs)
            if sum(len(image) for image, _ in pairs) >= IMAGES or _bytes(pairs) >= BYTES:
                break
    except (ValueError, TypeError, OSError) as error:
        raise CalibrationError(f"precision=int8: {error}") from error
    if not pairs:
        raise CalibrationError("precision=int8: expected images to measure scales on, got none")
    return pairs


def _evenly(pairs: Sequence[Pair]) -> list[Pair]:
    rows = np.linspace(0, len(pairs) - 1, min(len(pairs), WINDOWS)).round().astype(int)
    return [pairs[row] for row in rows]


def _bytes(pairs: Iterable[Pair]) -> int:
    return sum(image.nbytes for image, _ in pairs)


class _Recorder:
    """An engine that keeps what it is given, and predicts nothing: zeros of the right shapes."""

    name, precision = "recorder", "fp32"

    def __init__(self, model: DenseModel) -> None:
        self.model = model
        self.pairs: list[Pair] = []
        self._nothing: dict[torch.Size, dict[str, Predictions]] = {}

    def record(self, batch: Batch) -> None:
        self.pairs.append((batch["image"].cpu().clone(), batch["size"].cpu()))

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        self.record(batch)
        image = batch["image"]
        if image.shape not in self._nothing:
            found = type(self.model).predict(self.model, batch)
            self._nothing[image.shape] = {
                head: {key: torch.zeros_like(value) for key, value in of_head.items()}
                for head, of_head in found.items()
            }
        nothing = self._nothing[image.shape]
        return {
            head: {key: value.clone() for key, value in nothing[head].items()}
            for head in (nothing if heads is None else heads)
        }


def fitted(
    model: DenseModel, pairs: Iterable[Pair], shape: Sequence[int]
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Crops or pads images to the shape of a program, and groups them to its batches.

    Args:
        model: Its unit is that of the result.
        pairs: What the network sees.
        shape: B and S of the program; the last batch is filled up with the first images.
    """
    count, *sides = shape
    images, sizes = [], []
    for image, size in pairs:
        for one, real in zip(model.in_unit(image.cpu()).float(), size, strict=True):
            inside = one[corner(sides)]
            more = [side - own for side, own in zip(sides, inside.shape[1:], strict=True)]
            images.append(pad_end(inside, more))
            sizes.append(torch.minimum(real, torch.tensor(sides)))
    rows = [
        [(first + i) % len(images) for i in range(count)] for first in range(0, len(images), count)
    ]
    return [
        (
            torch.stack([images[i] for i in row]).numpy(),
            torch.stack([sizes[i] for i in row]).numpy(),
        )
        for row in rows
    ]
