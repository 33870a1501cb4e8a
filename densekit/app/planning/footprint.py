"""Estimates the memory of a training step without running it.

The network runs on the meta device, where tensors have shapes but no data, and the tensors that
autograd keeps for backward are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from densekit.model import DenseModel

GIB = 2**30
BYTES_PER_PARAMETER = 16
"""Weight, gradient and the two moments of Adam, in float32."""
WORKSPACE = 1.25
"""Factor on the kept tensors for gradients of activations and buffers of convolutions."""


def training_memory(
    make: Callable[[], DenseModel], channels: int, patch: Sequence[int]
) -> tuple[float, float]:
    """Estimates the GiB in float32 of the model itself, and of each image of a batch.

    Args:
        make: Builds the model; called under the meta device.
        channels: Of the images.
        patch: Sides of the images.
    """
    with torch.device("meta"):
        model = make().train()
        image = torch.empty(1, channels, *patch)
        size = torch.empty(1, len(patch), dtype=torch.int64)
        kept = _kept_bytes(model, image, size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters * BYTES_PER_PARAMETER / GIB, WORKSPACE * kept / GIB


def _kept_bytes(model: nn.Module, image: Tensor, size: Tensor) -> int:
    """Total bytes of the tensors that one forward pass keeps for backward, each counted once."""
    own = {parameter.data_ptr() for parameter in model.parameters()} - {0}
    parameters = {id(parameter) for parameter in model.parameters()}
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in parameters and base.data_ptr() not in own:
            seen[id(base)] = base  # held, so that no other object gets its id
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(image, size)
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in seen.values())
