"""What the formats share: the shapes of an export, the traced program, how a file is run.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from densekit.inference.export.pictures import OnPictures
from densekit.model import DenseModel
from densekit.types import Batch

Program = Callable[..., dict[str, NDArray[Any]]]
"""Runs an exported file: `image` (B, C, *S) and `size` (B, D), or `picture` (H, W, C), to arrays by
`HEAD/KEY`."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that are autocast."""
TRACED_PICTURE = (37, 53)
"""Height and width of the picture that a file is traced with; it takes any."""
MAX_BATCH = 1024
"""Most images per call of a file with a dynamic batch."""
INFO, CONFIG, SHAPES, PARITY = "info.json", "config.yaml", "shapes.json", "parity.json"
"""Texts in every file: the model's `info`, its configuration, the `Example`, the `Parity`."""


@dataclass(frozen=True)
class Example:
    """The shapes that a model is exported for.

    Attributes:
        sides: The D sizes of the images; smaller images are padded and passed with their `size`.
        batch: B.
        dynamic: Which of them may differ when the file is run: "batch", "size", both or none.
        resize: Whether the file takes a picture of any size and resizes it to fit into the sides,
            see `densekit.inference.export.pictures`; then B is 1.
    """

    sides: tuple[int, ...]
    batch: int = 1
    dynamic: tuple[str, ...] = ()
    resize: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs of the file."""
        return ("picture",) if self.resize else ("image", "size")

    def check(self, model: DenseModel) -> None:
        """Checks that the sides fit the model.

        Raises:
            ValueError: They are not one positive number per axis.
        """
        dims = model.spatial_dims
        if len(self.sides) != dims or min(self.sides) < 1:
            raise ValueError(
                f"size: expected {dims} sides of 1 or more, got {list(map(int, self.sides))}"
            )

    def noise(self, model: DenseModel, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Returns `image` and `size` of these shapes, the image uniform noise."""
        noise = torch.Generator().manual_seed(seed)
        shape = (self.batch, len(model.info["mean"]), *self.sides)
        image = torch.rand(shape, generator=noise) * model.full_scale
        return image, torch.tensor([list(self.sides)] * self.batch)


@dataclass(frozen=True)
class Format:
    """A format of files; each module of one holds it as `FORMAT`.

    Attributes:
        name: Value of `format=` on the command line.
        suffix: End of its file names.
        precisions: The precisions it can be exported in.
        dynamic: The dimensions that can be dynamic, see `Example`.
        export: Writes a model in evaluation mode into a file, in a precision other than int8; see
            `densekit.inference.export.int8.export_int8`.
        open: Loads a file, to be run.
        read_facts: Reads the texts stored in a file by name, without loading it; ValueError for a
            file of something else.
        write_facts: Stores texts in a file, beside those that it has.
        from_onnx: Makes a file of an ONNX file in 8 bits, for formats that have int8.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    dynamic: tuple[str, ...]
    export: Callable[[DenseModel, Example, Path, str], None]
    open: Callable[[Path], Program]
    read_facts: Callable[[Path], dict[str, str]]
    write_facts: Callable[[Path, Mapping[str, str]], None]
    from_onnx: Callable[[Path, Path], object] | None = None


class PredictionsByName(nn.Module):
    """Wraps a model so that its predictions are one flat dict, `HEAD/KEY` to tensor.

    Args:
        model: In evaluation mode.
        precision: "fp32", or "bf16" or "fp16" for autocast.
    """

    def __init__(self, model: DenseModel, precision: str = "fp32") -> None:
        super().__init__()
        self.model = model
        self.dtype = DTYPES.get(precision)

    def forward(self, image: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Returns the predictions of every head in the network's frame, floats as float32.

        Args:
            image: (B, C, *S) float32, in the unit of the model's mean and std, zero beyond `size`.
            size: (B, D) int64.
        """
        batch = Batch(image=image, size=size)
        if self.dtype is None:
            predictions = self.model.predict(batch)
        else:
            with torch.autocast("cpu", self.dtype):
                predictions = self.model.predict(batch)
        return {
            f"{head}/{key}": value.float() if value.is_floating_point() else value
            for head, named in predictions.items()
            for key, value in named.items()
        }


def heads_with_boxes(model: DenseModel) -> list[str]:
    """Returns the names of the heads that predict boxes, which not every format can hold."""
    return [name for name, head in model.heads.items() if "boxes" in head.target_keys]


def traced(
    model: DenseModel, example: Example, precision: str = "fp32"
) -> torch.export.ExportedProgram:
    """Traces a model and its post-processing with `torch.export`.

    Args:
        model: On the CPU, in evaluation mode.
        example: The shapes.
        precision: "fp32", or "bf16" or "fp16" for autocast.

    Raises:
        ValueError: The sides do not fit the model, or it cannot be traced with dynamic shapes.
    """
    from torch._dynamo.exc import UserError
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    example.check(model)
    module: nn.Module = PredictionsByName(model, precision)
    inputs: tuple[Tensor, ...] = example.noise(model)
    if example.resize:
        module = OnPictures(module, model.info, example.sides, model.thresholds)
        inputs = (torch.zeros((*TRACED_PICTURE, len(model.info["mean"])), dtype=torch.uint8),)
    elif "batch" in example.dynamic:  # a batch of one would become a constant
        inputs = tuple(value[:1].expand(2, *value.shape[1:]).contiguous() for value in inputs)
    with torch.no_grad():
        try:
            return torch.export.export(
                module, inputs, dynamic_shapes=_shapes(example), strict=False
            )
        except (UserError, GuardOnDataDependentSymNode) as error:
            if not example.dynamic:
                raise
            raise ValueError(
                f"dynamic: expected shapes that this model can be traced with, got"
                f" {list(example.dynamic)} ({_reason(error)}); leave one or both out; in a head of"
                " your own, x.shape[0] is dynamic, len(x) is not"
            ) from error


def _reason(error: Exception) -> str:
    """The first violated constraint, or the first line."""
    lines = str(error).strip().splitlines()
    violated = [line.strip(" -") for line in lines if line.startswith("  - ")]
    return (violated or lines)[0].partition(". ")[0]


def _shapes(example: Example) -> tuple[dict[int, Any], ...]:
    """The dynamic dimensions of each input."""
    if example.resize:
        return (dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC),)
    batch: dict[int, Any] = {}
    if "batch" in example.dynamic:
        batch[0] = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    sides: dict[int, Any] = {}
    if "size" in example.dynamic:
        axes = range(2, 2 + len(example.sides))
        sides = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    return {**batch, **sides}, batch


def as_program(run: Callable[..., Mapping[str, Tensor]]) -> Program:
    """Lets a function of tensors be called with arrays, of any layout in memory."""

    def call(*arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            found = run(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        return {name: value.numpy() for name, value in found.items()}

    return call
