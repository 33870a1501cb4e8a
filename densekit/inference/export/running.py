"""Runs an exported file in the place of its model: batches of any size, padded to its shapes.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.inference.export.base import Example, Program
from densekit.inference.inferer import LOGITS
from densekit.inference.pasting import paste_masks
from densekit.model import DenseModel
from densekit.ops.padding import corner, largest_sides, pad_end
from densekit.types import Batch, Features, Predictions, Result


class FileEngine:
    """Answers like `DenseModel.predict`, from an opened file.

    Args:
        model: The model that the file was made from.
        program: The opened file.
        example: The shapes it was exported for.
        name: Of its format.
        precision: That it was exported in.
    """

    def __init__(
        self, model: DenseModel, program: Program, example: Example, name: str, precision: str
    ) -> None:
        self.model, self.program, self.example = model, program, example
        self.name, self.precision = name, precision

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns the predictions of each head, see `DenseModel.predict`; `features` are not used.

        Raises:
            ValueError: The images are larger than the file takes.
        """
        image = self.model.in_unit(batch["image"]).to(torch.float32)
        outputs = [self._run(*part) for part in self._parts(image, batch["size"])]
        joined = {key: _joined([part[key] for part in outputs]) for key in outputs[0]}
        found: dict[str, Predictions] = {}
        for name, value in joined.items():
            head, _, key = name.partition("/")
            found.setdefault(head, {})[key] = self._cut(value, image) if key in LOGITS else value
        return {name: found[name] for name in (found if heads is None else heads)}

    def _parts(self, image: Tensor, size: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
        """The padded inputs of each call, and how many of their images are real."""
        image = self._padded(image)
        step = len(image) if "batch" in self.example.dynamic else self.example.batch
        for first in range(0, len(image), step):
            rows = [min(first + i, len(image) - 1) for i in range(step)]
            yield image[rows], size[rows], min(step, len(image) - first)

    def _padded(self, image: Tensor) -> Tensor:
        if "size" in self.example.dynamic:
            return image
        sides, most = image.shape[2:], self.example.sides
        if any(side > limit for side, limit in zip(sides, most, strict=True)):
            raise ValueError(
                f"size: expected sides that every image fits into after its resizing, got"
                f" {list(most)} for one of {list(sides)}; set a larger size=, or dynamic=[size]"
            )
        return pad_end(image, [limit - side for side, limit in zip(sides, most, strict=True)])

    def _run(self, image: Tensor, size: Tensor, count: int) -> dict[str, Tensor]:
        found = self.program(image.contiguous().numpy(), size.contiguous().numpy())
        return {name: torch.from_numpy(value)[:count] for name, value in found.items()}

    def _cut(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of the images' own sides, padded as the model pads them."""
        divisor = self.model.size_divisor
        return logits[corner([side + -side % divisor for side in image.shape[2:]])]


class PictureFile:
    """Runs a file that takes pictures of any size, and returns results as a predictor does.

    Args:
        program: The opened file, see `densekit.inference.export.pictures`.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    def __call__(self, picture: NDArray[np.uint8]) -> dict[str, Result]:
        """Returns the result of each head for a picture (H, W, C)."""
        found: dict[str, Result] = {}
        for name, value in self.program(np.ascontiguousarray(picture)).items():
            head, _, key = name.partition("/")
            found.setdefault(head, {})[key] = value
        height, width = picture.shape[:2]
        return {head: _valid(result, (height, width)) for head, result in found.items()}


def _valid(result: Result, size: tuple[int, int]) -> Result:
    """Drops rows of boxes that are padding, and pastes the masks of the others."""
    if "valid" not in result:
        return result
    kept = {key: result[key][result["valid"]] for key in ("boxes", "scores", "labels")}
    if "masks" in result:
        kept["masks"] = paste_masks(result["masks"][result["valid"]], kept["boxes"], size)
    return kept


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Joins the outputs of several calls to one batch.

    An eager detector returns as many rows as its images need: missing ones become zeros, which are
    not valid.
    """
    most = largest_sides([part.shape[1:] for part in parts])
    return torch.cat(
        [
            pad_end(part, [side - own for side, own in zip(most, part.shape[1:], strict=True)])
            for part in parts
        ]
    )
