"""Rows that metrics keep of every image, and their way through processes.

Rows are flat float64 tensors: torchmetrics gathers those of any length, also of a process that saw
nothing, and ids, coordinates and counts below 2^53 stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


def check_names(names: Sequence[str]) -> list[str]:
    """Refuses class names that could not be keys: per-class figures are named by them."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(f"class names must differ, found more than once: {', '.join(repeated)}")
    return list(names)


def row_device(device: torch.device) -> torch.device:
    """Where the rows of a metric on `device` lie: Apple's GPU has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def flat(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Tensors of any shape to one of () float64 values, empty without any."""
    nothing = torch.zeros(0, dtype=torch.float64)
    return torch.cat([row.reshape(-1) for row in rows] or [nothing]).to(device)


def gathered(state: list[Tensor] | Tensor, columns: int) -> NDArray[np.float64]:
    """A state, gathered or not, updated or not, as (N, columns)."""
    values = dim_zero_cat(state) if len(state) else torch.zeros(0, dtype=torch.float64)
    array: NDArray[np.float64] = values.reshape(-1, columns).cpu().numpy()
    return array


def unique_ids(images: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """The ascending ids of the images.

    Args:
        images: (N,) id of each image that the metric was given.
        metric: Its name, for the error.

    Raises:
        ValueError: An image was given more than once.
    """
    ids, first = np.unique(images, return_index=True)
    if len(ids) < len(images):
        repeated = np.delete(images, first)
        raise ValueError(
            f"{metric} was given image {int(repeated[0])} more than once "
            f"({len(repeated)} repeats): image ids must differ, and what a distributed sampler "
            "repeats must be left out (sample_valid)"
        )
    return ids


def as_tensors(figures: Mapping[str, float], device: torch.device) -> dict[str, Tensor]:
    """Figures as () tensors on the metric's device."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return {
        name: torch.tensor(value, dtype=dtype, device=device) for name, value in figures.items()
    }
