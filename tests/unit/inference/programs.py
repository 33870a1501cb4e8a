"""Programs for tests of engines, which run the model instead of compiling it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densekit import DenseModel
from densekit.inference.engines.buckets import Shape


class Compiler:
    """Stands in for a compiler: its programs run the model, and refuse another shape."""

    def __init__(self, model: DenseModel, factor: float = 1.0) -> None:
        self.model, self.factor = model, factor
        self.shapes: list[Shape] = []

    def __call__(self, shape: Shape) -> Any:
        self.shapes.append(shape)

        def program(image: Tensor, size: Tensor) -> Mapping[str, Tensor]:
            assert (len(image), *image.shape[2:]) == shape
            assert image.dtype == torch.float32
            assert image.is_contiguous(), "a compiled kernel would read other pixels"
            assert size.is_contiguous()
            found = self.model.predict({"image": image, "size": size})
            return {
                f"{head}/{key}": value * self.factor if value.is_floating_point() else value
                for head, of_head in found.items()
                for key, value in of_head.items()
            }

        return program
