"""U-Net: a decoder that upsamples the coarsest level step by step, with skip connections.

Shape letters: B images, C channels, K classes, S the D sizes of the image or of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads.segmentation.base import Segmentation, Supervised
from densekit.layers import CONV, FixedUpsampledConv, Layers, fixed_conv
from densekit.ops.upsampled_conv import CONV as CONV_FUNCTION
from densekit.ops.upsampled_conv import upsampled_conv
from densekit.types import Features, FeatureSpec

CHANNELS = (256, 128, 64, 32, 16)


class Block(nn.Module):
    """Nearest-neighbour upsampling, concatenation of the skip level, two 3x3 convolutions.

    Args:
        make: Makes the layers.
        in_channels: Channels of the coarser map.
        skip_channels: Channels of the skip level, 0 for none.
        out_channels: Channels of the output.
        steps: How often each axis of the coarser map repeats pixels, 1 or 2 where it is fast.
    """

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        steps: Sequence[int],
    ) -> None:
        super().__init__()
        self.steps, self.in_channels = list(steps), in_channels
        self.conv1 = make.conv_norm(in_channels + skip_channels, out_channels, 3)
        self.conv2 = make.conv_norm(out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor | None, sides: Sequence[int]) -> Tensor:
        """Maps (B, in_channels, *s) to (B, out_channels, *sides)."""
        conv, norm = self.conv1
        weight, bias = cast(Tensor, conv.weight), cast(Tensor | None, conv.bias)
        # The convolution of the concatenated maps is the sum of one convolution of each.
        y = upsampled_conv(x, weight[:, : self.in_channels], sides, bias)
        if skip is not None:
            y = y + CONV_FUNCTION[len(sides)](skip, weight[:, self.in_channels :], padding=1)
        y = F.relu_(norm(y))
        return F.relu_(self.conv2(y))

    def for_inference(self) -> FixedBlock:
        """Returns an equal block whose weights no longer change; see `fold`."""
        return FixedBlock(self)


class FixedBlock(nn.Module):
    """A block whose first convolution is one of each map, with weights prepared once.

    Args:
        block: The block, with weights that no longer change.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        conv, self.norm = block.conv1
        weight, bias = cast(Tensor, conv.weight), cast(Tensor | None, conv.bias)
        count, kind = block.in_channels, CONV[len(block.steps)]
        self.upsampled = FixedUpsampledConv(weight[:, :count], bias, block.steps)
        self.skip = fixed_conv(kind, weight[:, count:], None) if weight.shape[1] > count else None
        self.conv2 = block.conv2

    def forward(self, x: Tensor, skip: Tensor | None, sides: Sequence[int]) -> Tensor:
        """Maps (B, in_channels, *s) to (B, out_channels, *sides)."""
        y = self.upsampled(x, sides)
        if skip is not None and self.skip is not None:
            y = y + self.skip(skip)
        y = F.relu_(self.norm(y))
        return F.relu_(self.conv2(y))


class UNet(Segmentation):
    """U-Net on any backbone, in one, two or three dimensions, for images of any size.

    In 2-D it is smp's `Unet` with its default settings, tensor for tensor (`decoder.blocks.*`,
    `segmentation_head.0.*`). Paper: U-Net, section 2; deep supervision as in nnU-Net.

    Each block upsamples to the size of its skip level, whatever the strides along each axis. The
    last block has no skip and ends at the image's size; it is left out where c1 already has that
    size (stem "full"). `finest` leaves out more: blocks on large maps with few channels add little
    for their cost (on a ResNet-18 the last one takes a quarter of a training step).

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        depth: Number of the deepest level read: 5 reads c1 to c5.
        finest: Number of the finest skip level, at whose size the decoder ends: 1 ends at stride 2.
            The logits are interpolated to the size of the image.
        decoder_channels: Channels of each block, coarsest first; by default the last of 256, 128,
            64, 32, 16 for a decoder of all levels, of which `finest` drops the finest.
        deep_supervision: Whether every block but the first has an output of its own in training,
            compared with the mask at its size; the weights halve from the finest to the coarsest
            and sum to 1.
        norm: "batch", "instance" (small batches of volumes), "group", "frozen" or "sync".
        settings: See `Segmentation`.

    Raises:
        ValueError: The backbone has no such level, or there is not one channel count per block.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        depth: int = 5,
        finest: int = 0,
        decoder_channels: Sequence[int] | None = None,
        deep_supervision: bool = False,
        norm: str = "batch",
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.reads = _levels(specs, depth)
        *joined, deepest = self.reads
        if not 0 <= finest < depth:
            raise ValueError(f"finest: expected 0 to {depth - 1}, less than depth, got {finest}")
        if len(joined) > 1 and specs[joined[1]].stride == specs["c0"].stride:
            joined = joined[1:]  # c1 has the size of the image
        usual = CHANNELS[-len(joined) :]
        self.joined = [
            level for level in joined[::-1] if int(level[1:]) >= finest
        ]  # coarsest first
        channels = _channels(decoder_channels or usual[: len(self.joined)], len(self.joined))
        make = Layers(specs["c0"].spatial_dims, norm)
        blocks = nn.ModuleList()
        before, coarse = specs[deepest].channels, specs[deepest].stride
        for level, width in zip(self.joined, channels, strict=True):
            skip = 0 if level == "c0" else specs[level].channels
            steps = [a // b for a, b in zip(coarse, specs[level].stride, strict=True)]
            blocks.append(Block(make, before, skip, width, steps))
            before, coarse = width, specs[level].stride
        self.decoder = nn.ModuleDict({"blocks": blocks})
        convolution = CONV[make.spatial_dims]
        self.segmentation_head = nn.Sequential(convolution(before, num_classes, 3, padding=1))
        self.deep_heads = nn.ModuleDict()
        if deep_supervision:
            for level, width in list(zip(self.joined, channels, strict=True))[1:-1]:
                self.deep_heads[level] = convolution(width, num_classes, 1)
        initialise(self.decoder, self.segmentation_head, self.deep_heads)

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the size of the finest skip level."""
        maps = self._maps(features)
        logits: Tensor = self.segmentation_head(maps[self.joined[-1]])
        return logits

    def supervised(self, features: Features) -> list[Supervised]:
        """Returns the output and, with deep supervision, those of coarser blocks, finest first."""
        maps = self._maps(features)
        outputs = [Supervised(self.segmentation_head(maps[self.joined[-1]]))]
        total = sum(0.5**number for number in range(len(self.deep_heads) + 1))
        for number, level in enumerate(reversed(list(self.deep_heads)), 1):
            logits = self.deep_heads[level](maps[level])
            outputs.append(Supervised(logits, level, 0.5**number / total, full_size=False))
        return [outputs[0]._replace(weight=1 / total), *outputs[1:]]

    def _maps(self, features: Features) -> dict[str, Tensor]:
        """The output of each block, by its skip level."""
        x = features[self.reads[-1]]
        blocks = cast(nn.ModuleList, self.decoder["blocks"])
        maps = {}
        for level, block in zip(self.joined, blocks, strict=True):
            skip = None if level == "c0" else features[level]
            x = block(x, skip, features[level].shape[2:])
            maps[level] = x
        return maps


def initialise(decoder: nn.Module, *outputs: nn.Module) -> None:
    """Initialises weights as smp does: He (fan-in) for the decoder, Glorot for the outputs."""
    kinds = tuple(CONV.values())
    for module in decoder.modules():
        if isinstance(module, kinds):
            nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
    for module in (module for output in outputs for module in output.modules()):
        if isinstance(module, kinds):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _levels(specs: Mapping[str, FeatureSpec], depth: int) -> tuple[str, ...]:
    numbers = [int(level[1:]) for level in specs if level.startswith("c")]
    if depth not in numbers[1:]:
        raise ValueError(
            f"depth: expected {numbers[1]} to {numbers[-1]}, a level of the backbone, got {depth}"
        )
    return tuple(f"c{number}" for number in numbers if number <= depth)


def _channels(channels: Sequence[int], count: int) -> Sequence[int]:
    if len(channels) != count:
        raise ValueError(
            f"decoder_channels: expected {count} numbers, one per block, got {list(channels)}"
        )
    return channels
