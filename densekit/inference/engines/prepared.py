"""A model as engines run it: batch norms folded, weights in the layout of the fastest kernels."""

from __future__ import annotations

import torch

from densekit.inference.fold import folded
from densekit.model import DenseModel

CHANNELS_LAST: dict[int, torch.memory_format] = {
    2: torch.channels_last,
    3: torch.channels_last_3d,
}


@torch.inference_mode(False)  # parameters made in inference mode could not be changed
def prepared(model: DenseModel) -> DenseModel:
    """Returns a copy with the same predictions up to rounding, see `folded`."""
    copied = folded(model)
    layout = CHANNELS_LAST.get(model.spatial_dims)
    return copied if layout is None else copied.to(memory_format=layout)
