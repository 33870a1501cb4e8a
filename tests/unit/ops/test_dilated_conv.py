"""The convolution by phases is the dilated one, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densekit.layers import Layers
from densekit.ops.dilated_conv import DilatedDepthwise


def both(step: int, bias: bool = False) -> tuple[DilatedDepthwise, nn.Conv2d]:
    torch.manual_seed(0)
    layers = [
        kind(6, 6, 3, padding=step, dilation=step, groups=6, bias=bias)
        for kind in (DilatedDepthwise, nn.Conv2d)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers[0], layers[1]  # type: ignore[return-value]


@pytest.mark.parametrize("sides", [(12, 12), (13, 9), (4, 20)])
@pytest.mark.parametrize("step", [2, 3, 12, 13, 24])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_dilated_convolution(step: int, sides: tuple[int, int], bias: bool) -> None:
    ours, plain = both(step, bias)
    x = torch.randn(2, 6, *sides)

    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-6)

    def gradients(layer: nn.Module) -> tuple[Tensor, ...]:
        image = x.clone().requires_grad_()
        return torch.autograd.grad(layer(image).square().sum(), [image, *layer.parameters()])

    for found, expected in zip(gradients(ours), gradients(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_it_is_made_for_dilated_depthwise_convolutions_alone() -> None:
    make = Layers()

    assert isinstance(make.conv(8, 8, 3, dilation=2, groups=8), DilatedDepthwise)
    for other in (
        make.conv(8, 8, 3, groups=8),
        make.conv(8, 8, 3, dilation=2),
        make.conv(8, 8, 3, dilation=2, groups=8, stride=2),
        Layers(3).conv(8, 8, 3, dilation=2, groups=8),
    ):
        assert not isinstance(other, DilatedDepthwise)
