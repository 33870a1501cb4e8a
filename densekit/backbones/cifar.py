"""The ResNets of the paper's CIFAR experiments.

Paper: Deep Residual Learning for Image Recognition, section 4.2.
"""

from __future__ import annotations

from functools import partial
from os import PathLike
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from densekit.backbones.blocks import BasicBlock
from densekit.backbones.shortcuts import subsampling
from densekit.backbones.staged import Staged
from densekit.backbones.stages import StageBuilder, initialise
from densekit.layers import Layers, conv_norm
from densekit.types import FeatureSpec

CHANNELS = (16, 32, 64)


class CifarResNet(Staged):
    """A small ResNet for images of about 32 pixels: c1 and c2 at stride 1, c3 at 2, c4 at 4.

    Three stages of 16, 32 and 64 channels, whose shortcuts have no parameters (option A). Its state
    dict is that of the widely used `resnet20-12fca82f.th` and similar files, without `linear.*`.

    Args:
        depth: 6n + 2 for n basic blocks per stage: 20, 32, 44, 56, 110, ...
        in_channels: Channels of the image.
        norm: "batch", "frozen", "group", "instance" or "sync".
        residual: See `ResNet`. Shortcuts have no weights here, so a file does not show whether it
            belongs to a plain network.
        drop_path: See `ResNet`.
        activation_checkpointing: See `ResNet`.
        freeze_stages: Number of levels, from c1 on, whose weights and statistics are kept fixed.
        weights: Path of a file, or URL with its hash; see `ResNet`.

    Raises:
        ValueError: A setting is not accepted, or the weights do not fit.
    """

    classifier: ClassVar[tuple[str, ...]] = ("linear.",)

    def __init__(
        self,
        depth: int = 20,
        *,
        in_channels: int = 3,
        norm: str = "batch",
        residual: bool = True,
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
        freeze_stages: int = 0,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth: expected 6n + 2, such as 20, 32, 44, 56, 110, got {depth}")
        if drop_path and not residual:
            raise ValueError(
                "drop_path: expected 0 with residual=False, which has no residual branch, got"
                f" {drop_path}"
            )
        make = Layers(norm=norm)
        self.conv1 = make.conv(in_channels, CHANNELS[0], 3)
        self.bn1 = make.normalisation(CHANNELS[0])
        self.features = {
            "c0": FeatureSpec(in_channels, (1, 1)),
            "c1": FeatureSpec(CHANNELS[0], (1, 1)),
        }
        builder = StageBuilder(
            CHANNELS[0],
            1,
            [(depth - 2) // 6] * len(CHANNELS),
            drop_path=drop_path,
            recompute=activation_checkpointing,
        )
        for number, channels in enumerate(CHANNELS):
            make_block = partial(
                BasicBlock, make, width=channels, shortcut=subsampling if residual else None
            )
            stage = builder.build(make_block, channels, step=1 if number == 0 else 2)
            self.add_stage(stage, builder.spec)
        initialise(self)
        self.is_residual = residual
        self.freeze(freeze_stages)
        if weights is not None:
            self.load(weights)

    def make_stem(self, x: Tensor) -> Tensor:
        """Maps an image (B, C, H, W) to (B, 16, H, W)."""
        return F.relu_(conv_norm(self.conv1, self.bn1, x))
