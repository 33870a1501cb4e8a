"""Estimates the memory of a training step from what its forward pass keeps for backward.

Segmenters run on the meta device, where tensors have shapes but no data; detectors, whose matching
depends on values, on one image without content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from densekit.model import DenseModel
from densekit.types import Batch

GIB = 2**30
BYTES_PER_PARAMETER = 16
"""Weight, gradient and the two moments of Adam, in float32."""
WORKSPACE = 1.25
"""Factor on the kept tensors for gradients of activations and buffers of convolutions."""
OBJECTS, MASK_SIDE = 16, 112
"""Objects of the image, and sides of their masks."""


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
        kept = _kept_bytes(model, lambda: model(image, size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters * BYTES_PER_PARAMETER / GIB, WORKSPACE * kept / GIB


def detector_memory(
    make: Callable[[], DenseModel], channels: int, size: Sequence[int]
) -> tuple[float, float]:
    """Estimates the GiB in float32 of a detector itself, and of each image of a batch.

    Matching and sampling depend on values, so that one image without content is really computed.

    Args:
        make: Builds the model.
        channels: Of the images.
        size: Height and width of the images.
    """
    model = make().train()
    padded = [side + -side % model.size_divisor for side in size]
    batch = Batch(
        image=torch.zeros(1, channels, *padded),
        size=torch.tensor([list(size)]),
        sample_valid=torch.ones(1, dtype=torch.bool),
        key=torch.zeros(1, dtype=torch.int64),
        boxes=torch.tensor([[0.0, 0.0, size[1] / 2, size[0] / 2]]).expand(1, OBJECTS, 4),
        labels=torch.zeros(1, OBJECTS, dtype=torch.int64),
        boxes_valid=torch.ones(1, OBJECTS, dtype=torch.bool),
        crowd=torch.zeros(1, OBJECTS, dtype=torch.bool),
        object_masks=torch.zeros(1, OBJECTS, MASK_SIDE, MASK_SIDE, dtype=torch.uint8),
    )
    kept = _kept_bytes(model, lambda: model.loss(batch, model.features(batch)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters * BYTES_PER_PARAMETER / GIB, WORKSPACE * kept / GIB


def _kept_bytes(model: nn.Module, run: Callable[[], object]) -> int:
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
        run()
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in seen.values())
