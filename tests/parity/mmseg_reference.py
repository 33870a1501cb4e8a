"""mmsegmentation's networks in short: its names of tensors and its arithmetic, at any width.

Written after the definitions of mmseg 1.x (ResNet, ResLayer, FCNHead, PSPHead, ASPPHead,
DepthwiseSeparableASPPHead, UPerHead, EncoderDecoder) and mmcv 2.x (ConvModule,
DepthwiseSeparableConvModule); their packages are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ConvModule(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            padding=kernel // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class SeparableConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(inputs, inputs, 3, dilation, groups=inputs)
        self.pointwise_conv = ConvModule(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class Block(nn.Module):
    """A basic block or a bottleneck in PyTorch's or Caffe's style."""

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, deep: bool, caffe: bool
    ) -> None:
        super().__init__()
        outputs = width * (4 if deep else 1)
        if deep:
            strides = (stride, 1) if caffe else (1, stride)
            self.conv1 = nn.Conv2d(inputs, width, 1, strides[0], bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, strides[1], dilation, dilation, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.deep, self.downsample = deep, None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.deep:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(
        self,
        depth: int,
        base: int,
        deep_stem: bool,
        strides: Sequence[int],
        dilations: Sequence[int],
        contract_dilation: bool = True,
        multi_grid: Sequence[int] | None = None,
        style: str = "pytorch",
    ) -> None:
        super().__init__()
        self.deep_stem = deep_stem
        if deep_stem:
            half = base // 2
            layers: list[nn.Module] = []
            for inputs, outputs, stride in ((3, half, 2), (half, half, 1), (half, base, 1)):
                conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
                layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = nn.Conv2d(3, base, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(base)
        inputs, bottlenecks = base, depth >= 50
        for number, count in enumerate(BLOCKS[depth]):
            width, dilation = base * 2**number, dilations[number]
            first = dilation // 2 if dilation > 1 and contract_dilation else dilation
            each = [first] + [dilation] * (count - 1)
            if multi_grid is not None and number == 3:
                each = list(multi_grid)
            blocks = []
            for index, one in enumerate(each):
                stride = 1 if index else strides[number]
                blocks.append(Block(inputs, width, stride, one, bottlenecks, style == "caffe"))
                inputs = width * (4 if bottlenecks else 1)
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x) if self.deep_stem else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        levels = []
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """What all heads share: the last convolution, and how maps are resized."""

    def __init__(self, channels: int, num_classes: int, align_corners: bool) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.align_corners = align_corners

    def resized(self, x: Tensor, like: Tensor) -> Tensor:
        sides = tuple(like.shape[2:])
        return F.interpolate(x, sides, mode="bilinear", align_corners=self.align_corners)


class FCNHead(Decoder):
    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        num_classes: int,
        align_corners: bool = False,
        index: int = 3,
        num_convs: int = 2,
        concat_input: bool = True,
        dilation: int = 1,
    ) -> None:
        super().__init__(channels, num_classes, align_corners)
        self.index, width = index, inputs[index]
        sizes = [width] + [channels] * (num_convs - 1)
        self.convs = nn.Sequential(*(ConvModule(n, channels, 3, dilation) for n in sizes))
        self.conv_cat = ConvModule(width + channels, channels, 3) if concat_input else None

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[self.index]
        y = self.convs(x)
        if self.conv_cat is not None:
            y = self.conv_cat(torch.cat([x, y], 1))
        return self.conv_seg(y)


def pooled_grids(inputs: int, channels: int, scales: Sequence[int]) -> nn.ModuleList:
    grids = (
        nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(inputs, channels, 1))
        for scale in scales
    )
    return nn.ModuleList(grids)


class PSPHead(Decoder):
    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        num_classes: int,
        align_corners: bool = False,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
    ) -> None:
        super().__init__(channels, num_classes, align_corners)
        self.psp_modules = pooled_grids(inputs[-1], channels, pool_scales)
        self.bottleneck = ConvModule(inputs[-1] + len(pool_scales) * channels, channels, 3)

    def pooled(self, x: Tensor) -> Tensor:
        grids = [self.resized(grid(x), x) for grid in self.psp_modules]
        return self.bottleneck(torch.cat([x, *grids], 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.conv_seg(self.pooled(levels[-1]))


class UPerHead(PSPHead):
    def __init__(self, inputs: Sequence[int], channels: int, *others: Any, **settings: Any) -> None:
        super().__init__(inputs, channels, *others, **settings)
        fine = inputs[:-1]
        self.lateral_convs = nn.ModuleList(ConvModule(n, channels, 1) for n in fine)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in fine)
        self.fpn_bottleneck = ConvModule(len(inputs) * channels, channels, 3)

    def forward(self, levels: list[Tensor]) -> Tensor:
        maps = [conv(x) for conv, x in zip(self.lateral_convs, levels[:-1], strict=True)]
        maps.append(self.pooled(levels[-1]))
        for n in range(len(maps) - 1, 0, -1):
            maps[n - 1] = maps[n - 1] + self.resized(maps[n], maps[n - 1])
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, maps[:-1], strict=True)]
        outputs.append(maps[-1])
        joined = torch.cat([self.resized(x, outputs[0]) for x in outputs], 1)
        return self.conv_seg(self.fpn_bottleneck(joined))


class ASPPHead(Decoder):
    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        num_classes: int,
        align_corners: bool = False,
        dilations: Sequence[int] = (1, 12, 24, 36),
    ) -> None:
        super().__init__(channels, num_classes, align_corners)
        deep = inputs[-1]
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(deep, channels, 1))
        self.aspp_modules = nn.ModuleList(
            self.conv(deep, channels, rate) if rate > 1 else ConvModule(deep, channels, 1)
            for rate in dilations
        )
        self.bottleneck = self.conv((len(dilations) + 1) * channels, channels)

    def conv(self, inputs: int, outputs: int, dilation: int = 1) -> nn.Module:
        return ConvModule(inputs, outputs, 3, dilation)

    def pyramid(self, x: Tensor) -> Tensor:
        branches = [self.resized(self.image_pool(x), x), *(conv(x) for conv in self.aspp_modules)]
        return self.bottleneck(torch.cat(branches, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.conv_seg(self.pyramid(levels[-1]))


class DepthwiseSeparableASPPHead(ASPPHead):
    def __init__(
        self, inputs: Sequence[int], channels: int, *others: Any, c1_channels: int, **settings: Any
    ) -> None:
        super().__init__(inputs, channels, *others, **settings)
        self.c1_bottleneck = ConvModule(inputs[0], c1_channels, 1)
        self.sep_bottleneck = nn.Sequential(
            SeparableConvModule(channels + c1_channels, channels),
            SeparableConvModule(channels, channels),
        )

    def conv(self, inputs: int, outputs: int, dilation: int = 1) -> nn.Module:
        return SeparableConvModule(inputs, outputs, dilation)

    def forward(self, levels: list[Tensor]) -> Tensor:
        fine = self.c1_bottleneck(levels[0])
        x = self.resized(self.pyramid(levels[-1]), fine)
        return self.conv_seg(self.sep_bottleneck(torch.cat([x, fine], 1)))


class EncoderDecoder(nn.Module):
    def __init__(
        self, backbone: ResNet, decode_head: Decoder, auxiliary_head: FCNHead | None
    ) -> None:
        super().__init__()
        self.backbone, self.decode_head = backbone, decode_head
        self.auxiliary_head = auxiliary_head

    def forward(self, image: Tensor) -> list[Tensor]:
        """The logits of the head and, if there is one, of the auxiliary head."""
        levels = self.backbone(image)
        heads = [head for head in (self.decode_head, self.auxiliary_head) if head is not None]
        return [head.resized(head(levels), image) for head in heads]


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Norms as after a training; weights that keep the size of maps."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-0.2, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.6, 1.6),
                (module.weight, 0.4, 0.9),
                (module.bias, -0.2, 0.3),
            ):
                tensor.uniform_(low, high, generator=generator)
