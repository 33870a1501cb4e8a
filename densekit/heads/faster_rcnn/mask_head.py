"""The mask branch: the mask of each region for one class, and its loss.

He et al., "Mask R-CNN", 2017, section 3. The predictor has a mask of every class, but only
one of a region is ever looked at. So the weights of that class are gathered per region, and only
its mask is computed.

Shape letters: B images, N sampled slots, T target slots, R regions, K classes, C channels, o pooled
bins, m = 2 o bins of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.faster_rcnn.regions import PooledLevels, RegionConvs, Sampled, pool_regions
from densekit.heads.faster_rcnn.rules import PoolRule
from densekit.ops.dist import global_count
from densekit.ops.mask_targets import targets_from_frames, targets_from_planes
from densekit.ops.roi import PyramidTable
from densekit.types import Batch, FeatureSpec


class MaskHead(nn.Module):
    """RoIAlign, convolutions, a deconvolution that doubles the sides, and the predictor.

    Args:
        specs: Specs of the pooled levels, finest first, named p<number>.
        num_classes: K, without background.
        convs: Channels of each 3x3 convolution; those of the last are the deconvolution's too.
        norm: Makes a norm layer from a number of channels, for the convolutions.
        pool: See `PoolRule`; dense planes of masks are pooled with the same `aligned`.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        convs: Sequence[int] = (256, 256, 256, 256),
        norm: type[nn.Module] | None = None,
        pool: PoolRule = PoolRule(output=14),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.num_classes, self.pool, self.pooled = num_classes, pool, PooledLevels.of(specs)
        channels = [next(iter(specs.values())).channels, *convs]
        self.convs = RegionConvs(channels, norm)
        self.upsample = nn.ConvTranspose2d(channels[-1], channels[-1], 2, stride=2)
        self.logits = nn.Conv2d(channels[-1], num_classes, 1)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.logits.weight, std=0.001)  # detectron2's; torchvision starts far off
        for layer in (self.upsample, self.logits):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def bins(self) -> int:
        """Bins per side of a mask, m."""
        return 2 * self.pool.output

    def forward(
        self,
        table: PyramidTable,
        levels: Sequence[Tensor],
        boxes: Tensor,
        image: Tensor,
        label: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Predicts the mask of each region for one class.

        Args:
            table: Cells of all levels the detector reads; the pooled ones come first.
            levels: The pooled levels.
            boxes: (R, 4).
            image: (R,) int64.
            label: (R,) int64 of 0..K-1.
            valid: (R,) bool, the regions that enter a batch norm's statistics in training; all by
                default.

        Returns:
            Logits (R, m, m).
        """
        bins, place = pool_regions(table, levels, boxes, image, self.pooled, self.pool)
        x = self.convs(bins if place is None else bins[place], valid)  # (R, o, o, C)
        x = self._upsampled(x)  # (R, o, o, 2, 2, C)
        weight = F.embedding(label, self.logits.weight.flatten(1))  # (R, C)
        assert self.logits.bias is not None
        logits: Tensor = torch.bmm(x.flatten(1, 4), weight[..., None].to(x.dtype))  # (R, m m, 1)
        logits = logits.view(x.shape[:5]) + self.logits.bias[label].view(-1, 1, 1, 1, 1)
        logits = logits.transpose(2, 3)  # (R, o, 2, o, 2)
        return logits.reshape(-1, self.bins, self.bins)

    def _upsampled(self, x: Tensor) -> Tensor:
        """Applies the deconvolution and a ReLU to (R, o, o, C).

        Its windows do not overlap, so it is a 1x1 convolution to the four places of each bin: they
        need not be brought in order before the predictor has made one number of each.

        Returns:
            (R, o, o, 2, 2, C), row and column within the bin before the channels.
        """
        layer = self.upsample
        assert layer.bias is not None
        weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]  # (4 C, C, 1, 1)
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, layer.bias.repeat(4)).relu()
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:3], 2, 2, -1)

    def loss(
        self,
        table: PyramidTable,
        levels: Sequence[Tensor],
        sampled: Sampled,
        batch: Batch,
        rows: Tensor,
    ) -> Tensor:
        """Returns the mean binary cross entropy over the known bins of positive regions.

        Args:
            table: See `forward`.
            levels: Likewise.
            sampled: The sampled regions.
            batch: Its boxes and `object_masks`; `instance_masks` is read instead if it is there.
            rows: (R,) int64, flattened slots that hold every positive one.
        """
        slots = sampled.target.shape[1]
        image, slot = rows.div(slots, rounding_mode="floor"), rows % slots
        positive = sampled.valid & (sampled.target < self.num_classes)
        counts = positive[image, slot]  # (R,)
        boxes = torch.where(counts[:, None], sampled.boxes[image, slot], 0.0)
        label = torch.where(counts, sampled.target[image, slot], 0)
        with torch.no_grad():
            row = image * batch["boxes"].shape[1] + sampled.matched[image, slot]
            target, known = self._targets(batch, row, boxes)
            known = known & counts[:, None, None]
            count = global_count(known.sum())
        logits = self(table, levels, boxes, image, label, counts)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        entropy = F.binary_cross_entropy_with_logits(
            logits, target.to(logits.dtype), reduction="none"
        )
        return (entropy * known).sum() / count

    def _targets(self, batch: Batch, row: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (R, m, m) of regions and where they are known; `row` counts all target slots."""
        if "instance_masks" in batch:
            planes = batch["instance_masks"].flatten(0, 1)
            return targets_from_planes(planes, row, boxes, self.bins, self.pool.aligned)
        own = batch["boxes"].flatten(0, 1)[row]
        return targets_from_frames(batch["object_masks"].flatten(0, 1)[row], own, boxes, self.bins)
