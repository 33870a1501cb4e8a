"""Compares an exported file with its model."""

from __future__ import annotations

import numpy as np

from densekit.inference.export.base import (
    Example,
    PredictionsByName,
    Program,
    as_program,
)
from densekit.model import DenseModel

TOLERANCE = 1e-4


def check_on_noise(model: DenseModel, program: Program, example: Example) -> None:
    """Checks that a file and its model answer noise alike.

    Args:
        model: On the CPU, in evaluation mode.
        program: The opened file.
        example: The shapes it was exported for.

    Raises:
        RuntimeError: An output differs.
    """
    image, size = (tensor.numpy() for tensor in example.noise(model))
    expected, found = as_program(PredictionsByName(model))(image, size), program(image, size)
    for name, value in expected.items():
        if not np.allclose(found[name], value, rtol=TOLERANCE, atol=TOLERANCE):
            off = float(np.abs(found[name].astype(float) - value.astype(float)).max())
            raise RuntimeError(
                f"export: expected the outputs of the model, got {name} off by up to {off:.2g}"
            )
