"""PSPNet: means over grids of several sizes give every position the context of the scene.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.segmentation.aspp import conv_norm_relu, norm_of_pooled
from densekit.heads.segmentation.fcn import Classifier
from densekit.layers import CONV, Layers
from densekit.ops.interpolation import resize_linear
from densekit.types import FeatureSpec

SCALES = (1, 2, 3, 6)
"""Cells per axis of the grids (section 3.2 of the paper)."""
_MEAN_OVER_CELLS: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


class PyramidPooling(nn.Module):
    """Projected means over the cells of several grids, joined with the map by a 3x3 convolution.

    Args:
        make: Makes the layers.
        in_channels: Channels of the map.
        channels: Channels of each grid and of the output.
        scales: Cells per axis of the grids.
        align_corners: How the grids are interpolated to the map, see `Segmentation`.
    """

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        channels: int,
        scales: Sequence[int],
        *,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.scales, self.align_corners = tuple(scales), align_corners
        self.grids = nn.ModuleList(conv_norm_relu(make, in_channels, channels, 1) for _ in scales)
        width = in_channels + len(self.scales) * channels
        self.project = conv_norm_relu(make, width, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *s) to (B, channels, *s)."""
        maps = [x]
        for scale, layers in zip(self.scales, self.grids, strict=True):
            conv, norm, relu = layers.children()
            y = _MEAN_OVER_CELLS[x.ndim - 2](x, scale)  # (B, in_channels, scale, scale)
            y = relu(norm_of_pooled(norm, conv(y)))
            maps.append(resize_linear(y, x.shape[2:], align_corners=self.align_corners))
        joined: Tensor = self.project(torch.cat(maps, 1))
        return joined


class PSPNet(Classifier):
    """Pyramid scene parsing: pooling over several grids on c5, with an auxiliary FCN on c4.

    Meant for a backbone of output stride 8 (`backbone.output_stride=8`). It is the network of the
    paper and of mmsegmentation; smp's, which pools c3, is `SmpHead` (`head=smp_pspnet`).
    Paper: Pyramid Scene Parsing Network, section 3.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        channels: Channels of each grid and of the output; by default a quarter of the level's.
        scales: Cells per axis of the grids.
        settings: See `Classifier` and `Segmentation`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        channels: int | None = None,
        scales: Sequence[int] = SCALES,
        **settings: Any,
    ) -> None:
        super().__init__(specs, num_classes, **settings)
        deep = specs[self.level].channels
        width = channels or deep // 4
        self.classifier = nn.Sequential(
            PyramidPooling(self.make, deep, width, scales, align_corners=self.align_corners),
            nn.Dropout(0.1),
            CONV[self.make.spatial_dims](width, num_classes, 1),
        )
