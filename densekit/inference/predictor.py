"""Predictor: pictures in, results in each picture's own frame out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.images import ImageReader
from densekit.inference.whole_image import WholeImage
from densekit.model import DenseModel
from densekit.types import Batch, Result

Image = str | Path | NDArray[Any] | Tensor
Inferer = Callable[[DenseModel, Batch], list[dict[str, Result]]]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """Predicts pictures of any sizes; everything else the model knows of itself.

    Args:
        model_or_checkpoint: A model, or the path of a checkpoint.
        device: Where the network runs.
        precision: None for float32, "bf16" or "fp16" for autocast.
        trust: Packages whose classes a checkpoint's configuration may build, besides densekit's
            and installed plug-ins'.
        batch_size: Pictures a forward pass.
        inferer: How a batch is predicted; the whole picture at once by default.
    """

    def __init__(
        self,
        model_or_checkpoint: DenseModel | str | Path,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        trust: Sequence[str] = (),
        batch_size: int = 1,
        inferer: Inferer | None = None,
    ) -> None:
        if isinstance(model_or_checkpoint, str | Path):
            from densekit.artifact import model_from_artifact

            model_or_checkpoint = model_from_artifact(model_or_checkpoint, trust=trust)
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(
                f"precision: found {precision!r}, accepted are None and {sorted(PRECISIONS)}"
            )
        self.model = model_or_checkpoint.to(device).eval()
        self.device = torch.device(device)
        self.precision = precision
        self.batch_size = batch_size
        self.inferer = inferer or WholeImage()
        info = self.model.info
        self.read = ImageReader(self.model.mean.shape[1], info.get("dtype", "uint8"))

    @property
    def names(self) -> dict[str, list[str]]:
        """Class names of each head, as far as the model knows them."""
        heads = self.model.info.get("heads", {})
        return {name: list(head["names"]) for name, head in heads.items()}

    def __call__(self, images: Iterable[Image]) -> list[dict[str, Result]]:
        """Predicts all images.

        Args:
            images: Paths, (H, W, C) arrays or (C, H, W) tensors, uint8 or float in the unit of
                `model.info["full_scale"]`.

        Returns:
            One dict an image, head name to its result; detection has `boxes` (N, 4) float32 xyxy
            in pixels of that image, `scores` (N,), `labels` (N,) and, if the model knows its
            classes, `names`, a list of N.
        """
        return list(self.stream(images))

    def stream(self, images: Iterable[Image]) -> Iterator[dict[str, Result]]:
        """The same, one image after the other, holding one batch in memory."""
        todo = iter(images)
        while part := list(islice(todo, self.batch_size)):
            yield from self._predict([self._tensor(image) for image in part])

    def head(self, name: str) -> HeadPredictor:
        """A predictor of one head, whose results are flat."""
        if name not in self.model.heads:
            raise ValueError(f"head: found {name!r}, the model has {list(self.model.heads)}")
        return HeadPredictor(self, name)

    def _tensor(self, image: Image) -> Tensor:
        """(C, H, W), uint8 or float32."""
        if isinstance(image, str | Path):
            image = self.read(Path(image))
        if isinstance(image, np.ndarray):
            image = image[:, :, None] if image.ndim == 2 else image
            image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        channels = self.model.mean.shape[1]
        if image.ndim != 3 or image.shape[0] != channels:
            raise ValueError(
                f"image: found shape {tuple(image.shape)}, accepted are ({channels}, H, W) tensors"
                f" and (H, W, {channels}) arrays"
            )
        if image.dtype == torch.uint8:
            return image
        if not image.is_floating_point():
            raise TypeError(f"image: found {image.dtype}, accepted are uint8 and floats")
        return image

    @torch.inference_mode()
    def _predict(self, images: list[Tensor]) -> list[dict[str, Result]]:
        if len({image.dtype for image in images}) > 1:
            return [result for image in images for result in self._predict([image])]
        batch = self.model.resized(_stack(images, self.device))
        with self._autocast():
            results = self.inferer(self.model, batch)
        for result in results:
            for name, part in result.items():
                names = self.names.get(name)
                if names and "labels" in part:
                    part["names"] = [names[label] for label in part["labels"]]
        return results

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])


class HeadPredictor:
    """Predicts with one head of a `Predictor`.

    Args:
        predictor: Of the whole model.
        name: The head.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        self.predictor = predictor
        self.name = name

    @property
    def names(self) -> list[str]:
        """Class names of the head."""
        return self.predictor.names[self.name]

    def __call__(self, images: Iterable[Image]) -> list[Result]:
        """One flat dict an image; see `Predictor`."""
        return [result[self.name] for result in self.predictor(images)]


def _stack(images: list[Tensor], device: torch.device) -> Batch:
    """A batch of images padded with zeros at the bottom and right."""
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    padded = max(h for h, _ in sizes), max(w for _, w in sizes)
    stacked = images[0].new_zeros((len(images), images[0].shape[0], *padded))
    for row, image, (height, width) in zip(stacked, images, sizes, strict=True):
        row[:, :height, :width] = image
    return {
        "image": stacked.to(device),
        "size": torch.tensor(sizes, device=device),
        "meta": [{"original_size": size} for size in sizes],
    }
