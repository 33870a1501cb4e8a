"""Predicts volumes with a 2-D network, slice by slice, with or without the neighbouring slices.

Shape letters: B volumes, C channels of a volume, K classes, (D, H, W) the sides of a volume with
D along the axis that is sliced, N slices per forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densekit.inference.inferer import Inferer, logits_of
from densekit.inference.wrapping import WrappingInferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


class Slices(WrappingInferer):
    """Predicts every slice of a volume and stacks their logits into a volume.

    Args:
        inferer: How a batch of slices is predicted, `WholeImage` by default.
        axis: Axis of the volume (z, y, x) that is sliced.
        neighbours: Slices on each side that the network sees as additional channels; at the ends of
            the volume the last slice is repeated.
        batch_size: Slices per forward pass.
    """

    def __init__(
        self,
        inferer: Inferer | None = None,
        axis: int = 0,
        neighbours: int = 0,
        batch_size: int = 8,
    ) -> None:
        super().__init__(inferer)
        self.axis = axis
        self.neighbours = neighbours
        self.batch_size = batch_size

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Logits (B, K, *S) of volumes (B, C, *S), zero beyond `size`; 2-D batches pass through."""
        if batch["image"].ndim - 2 == model.spatial_dims:
            return self.inferer.predict(model, batch, features)
        volumes = batch["image"].movedim(2 + self.axis, 2)  # (B, C, D, H, W)
        sizes = batch["size"].tolist()
        out: dict[str, Predictions] = {}
        for i, size in enumerate(sizes):
            depth = size.pop(self.axis)
            for start in range(0, depth, self.batch_size):
                span = slice(start, min(start + self.batch_size, depth))
                part = self._slices(model, volumes[i], span, depth, size)
                predicted = self.inferer.predict(model, part)
                for head, (key, logits) in logits_of(predicted, "Slices").items():
                    if head not in out:
                        sides = (len(volumes), logits.shape[1], *volumes.shape[2:])
                        out[head] = {key: volumes.new_zeros(sides, dtype=torch.float32)}
                    inside = logits[:, :, : size[0], : size[1]].movedim(0, 1)  # (K, N, h, w)
                    out[head][key][i, :, span, : size[0], : size[1]] = inside
        return {
            head: {key: value.movedim(2, 2 + self.axis) for key, value in of_head.items()}
            for head, of_head in out.items()
        }

    def _slices(
        self, model: DenseModel, volume: Tensor, span: slice, depth: int, size: list[int]
    ) -> Batch:
        """A batch of N slices from one volume (C, D, H, W), without the volume's padding."""
        centres = torch.arange(span.start, span.stop)
        offsets = torch.arange(-self.neighbours, self.neighbours + 1)
        rows = (centres[:, None] + offsets).clamp(0, depth - 1)  # (N, 2 n + 1)
        inside = volume[:, :, : size[0], : size[1]]
        stacked = inside[:, rows.to(volume.device)]  # (C, N, 2 n + 1, h, w)
        image = stacked.permute(1, 2, 0, 3, 4).flatten(1, 2)  # channels of a slice stay together
        device = model.mean.device
        return {
            "image": image.to(device),
            "size": torch.tensor([size] * len(rows), device=device),
        }


def sliced(inferer: Inferer, info: Mapping[str, Any]) -> Slices:
    """Wraps `inferer` in the `Slices` that a model's info declares, `{"axis", "neighbours"}`."""
    rule = info["slices"]
    return Slices(inferer, int(rule.get("axis", 0)), int(rule.get("neighbours", 0)))
