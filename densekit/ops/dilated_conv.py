"""Dilated depthwise convolution, computed as a plain one of the dilation's phases.

A CPU's fast depthwise kernels take no dilation: with 2,048 channels the general one needs 5 to 15
times as long. The positions of one phase (every d-th) only see each other, so the phases become
images of a batch and the convolution a plain one. The results are the same, bit for bit.

Shape letters: B images, C channels, H and W the sides of a map, d the dilation, h and w the sides
of a phase.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 3
"""Side of a phase from which its gradients are faster too."""


class DilatedDepthwise(nn.Conv2d):
    """A dilated 3x3 convolution of every channel by itself, padded to keep the size."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Maps (B, C, H, W) to the same shape."""
        step = self.dilation[0]
        if not _pays(input, step):
            return super().forward(input)
        if step >= max(input.shape[2:]):
            return _centre(input, self.weight, self.bias)
        return _by_phases(input, self.weight, self.bias, step)


def _pays(x: Tensor, step: int) -> bool:
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    fewest = -(-min(x.shape[2:]) // step)
    return not torch.is_grad_enabled() or step >= max(x.shape[2:]) or fewest >= FEWEST


def _centre(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution whose other taps all lie in the padding."""
    y = x * weight[:, :, 1:2, 1:2].to(x.dtype).transpose(0, 1)
    return y if bias is None else y + bias.to(x.dtype).view(-1, 1, 1)


def _by_phases(x: Tensor, weight: Tensor, bias: Tensor | None, step: int) -> Tensor:
    images, channels, height, width = x.shape
    h, w = -(-height // step), -(-width // step)
    x = F.pad(x, [0, w * step - width, 0, h * step - height]).permute(0, 2, 3, 1)
    x = x.reshape(images, h, step, w, step, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(-1, h, w, channels).permute(0, 3, 1, 2)  # (B d d, C, h, w)
    x = F.conv2d(x, weight, bias, padding=1, groups=channels).permute(0, 2, 3, 1)
    x = x.reshape(images, step, step, h, w, channels).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(images, h * step, w * step, channels).permute(0, 3, 1, 2)
    return x[:, :, :height, :width]
