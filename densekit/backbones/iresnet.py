"""The ResNet of face recognition.

Its state dict is that of insightface's `arcface_torch`, key for key, without the layers after the
last stage. Paper: ArcFace (arXiv 1801.07698).
"""

from __future__ import annotations

from functools import partial
from os import PathLike
from typing import ClassVar

from torch import Tensor, nn

from densekit.backbones.blocks import Block
from densekit.backbones.shortcuts import projection
from densekit.backbones.staged import Staged
from densekit.backbones.stages import StageBuilder
from densekit.layers import Layers, Stride, conv_norm
from densekit.types import FeatureSpec

BLOCKS_BY_DEPTH = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
WIDTH = 64


class IBasicBlock(Block):
    """Pre-norm block with a PReLU between its 3x3 convolutions and no activation after the sum.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        out_channels: Channels of both convolutions.
        stride: Stride of the second convolution.
        drop_path: See `Block`.
    """

    expansion = 1
    last_norm = "bn3"

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        out_channels: int,
        *,
        stride: Stride = 1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn1 = make.normalisation(in_channels)
        self.conv1 = make.conv(in_channels, out_channels, 3)
        self.bn2 = make.normalisation(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = make.conv(out_channels, out_channels, 3, stride=stride)
        self.bn3 = make.normalisation(out_channels)
        self.is_residual, self.drop_path = True, drop_path
        self.downsample = projection(make, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = self.prelu(conv_norm(self.conv1, self.bn2, self.bn1(x)))
        return self.add_shortcut(conv_norm(self.conv2, self.bn3, y), x)


class IResNet(Staged):
    """iResNet for aligned faces: c1 at stride 1, c2 to c5 at strides 2 to 16; 112 pixels become 7.

    The layers after c5 in `arcface_torch` (`bn2`, `fc`, `features`) belong to the head:
    `densekit.interop.from_insightface` converts both, `weights` leaves them out.

    Args:
        depth: 18, 34, 50, 100 or 200.
        in_channels: Channels of the image.
        norm: "batch", "frozen", "group", "instance" or "sync".
        drop_path: See `ResNet`.
        activation_checkpointing: See `ResNet`.
        freeze_stages: Number of levels, from c1 on, whose weights and statistics are kept fixed.
        weights: Path of a file, or URL with its hash; see `ResNet`.

    Raises:
        ValueError: A setting is not accepted, or the weights do not fit.
    """

    stem_modules: ClassVar[tuple[str, ...]] = ("conv1", "bn1", "prelu")
    classifier: ClassVar[tuple[str, ...]] = ("bn2.", "fc.", "features.")

    def __init__(
        self,
        depth: int = 50,
        *,
        in_channels: int = 3,
        norm: str = "batch",
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
        freeze_stages: int = 0,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS_BY_DEPTH:
            accepted = ", ".join(map(str, BLOCKS_BY_DEPTH))
            raise ValueError(f"depth: expected one of {accepted}, got {depth}")
        make = Layers(norm=norm)
        self.conv1 = make.conv(in_channels, WIDTH, 3)
        self.bn1 = make.normalisation(WIDTH)
        self.prelu = nn.PReLU(WIDTH)
        self.features = {
            "c0": FeatureSpec(in_channels, (1, 1)),
            "c1": FeatureSpec(WIDTH, (1, 1)),
        }
        counts = BLOCKS_BY_DEPTH[depth]
        builder = StageBuilder(
            WIDTH, 1, counts, drop_path=drop_path, recompute=activation_checkpointing
        )
        for number in range(len(counts)):
            stage = builder.build(partial(IBasicBlock, make), 2**number * WIDTH, step=2)
            self.add_stage(stage, builder.spec)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)  # as arcface_torch does
        self.freeze(freeze_stages)
        if weights is not None:
            self.load(weights)

    def make_stem(self, x: Tensor) -> Tensor:
        """Maps an image (B, C, H, W) to (B, 64, H, W)."""
        y: Tensor = self.prelu(conv_norm(self.conv1, self.bn1, x))
        return y
