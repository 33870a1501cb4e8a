"""Convolution, normalisation and pooling in one, two or three spatial dimensions.

Shapes: B images, C channels, S the D sizes of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from densekit._names import choose
from densekit.ops.dilated_conv import DilatedDepthwise
from densekit.ops.upsampled_conv import CONV as CONV_FUNCTION
from densekit.ops.upsampled_conv import doubled_taps, upsampling_steps

Stride = int | tuple[int, ...]
"""One stride for all axes, or one per axis."""

CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class FrozenBatchNorm(nn.Module):
    """Batch norm with constant statistics and affine, folded into one scale and shift.

    The state dict holds the four vectors of a batch norm, so its weights load unchanged; they are
    folded when loaded or moved, not in every forward. Call `fold()` after writing the buffers in
    place. The output keeps the dtype of the input, also under autocast.

    Args:
        num_channels: C.
        eps: Added to the variance. torchvision's COCO weights of 2021 (V1) were trained with 0.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_channels))
        self.register_buffer("bias", torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("scale", torch.empty(num_channels), persistent=False)
        self.register_buffer("shift", torch.empty(num_channels), persistent=False)
        self.fold()

    def fold(self) -> None:
        """Recomputes scale and shift from the four vectors."""
        with torch.no_grad():
            # 16-bit vectors are folded in 32 bits too: the variance may be tiny.
            exact = torch.promote_types(self.weight.dtype, torch.float32)
            scale = self.weight.to(exact) * (self.running_var.to(exact) + self.eps).rsqrt()
            shift = self.bias.to(exact) - self.running_mean.to(exact) * scale
            self.scale, self.shift = scale.to(self.weight.dtype), shift.to(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to the same shape and dtype."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale, shift = self.scale.to(x.dtype), self.shift.to(x.dtype)
        return torch.addcmul(shift.view(shape), x, scale.view(shape))

    def extra_repr(self) -> str:
        """Returns what `print(model)` shows of this layer."""
        return f"{self.weight.numel()}, eps={self.eps}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenBatchNorm:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.fold()  # after double() the scale must not stay rounded to float32
        return self

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        counter = prefix + "num_batches_tracked"  # of a trainable batch norm, unused here
        state_dict = {key: value for key, value in state_dict.items() if key != counter}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.fold()


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """Returns `norm(conv(x))`.

    A frozen norm is folded into the convolution's weight and bias: the pass over the activation,
    and in training the one over its gradient, become a product of the weight's size. The gradient
    of the weight is the same, as the weight itself is not overwritten.
    """
    if not isinstance(norm, FrozenBatchNorm):
        y: Tensor = norm(conv(x))
        return y
    assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    weight = conv.weight * norm.scale.view(-1, *[1] * (x.ndim - 1))
    bias = norm.shift if conv.bias is None else norm.shift + conv.bias * norm.scale
    function = CONV_FUNCTION[x.ndim - 2]
    return function(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


class ConvNorm(nn.Sequential):
    """A convolution (tensors `0.*`), followed by a norm (`1.*`) unless that is None."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None) -> None:
        super().__init__(*[conv] if norm is None else [conv, norm])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to the convolution's shape."""
        if len(self) == 1:
            y: Tensor = self[0](x)
            return y
        return conv_norm(self[0], self[1], x)


@dataclass(frozen=True)
class Layers:
    """Factory of layers that share the number of dimensions and the norm.

    Attributes:
        spatial_dims: 1, 2 or 3.
        norm: "batch", "frozen" (constant batch norm), "group" (32 groups), "instance" (with weight
            and bias) or "sync" (batch statistics over all processes; GPU only); None for no norm.
        norm_eps: Added to the variance.

    Raises:
        ValueError: The number of dimensions or the norm is not accepted.
    """

    spatial_dims: int = 2
    norm: str | None = "batch"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.spatial_dims not in CONV:
            raise ValueError(f"spatial_dims: expected 1, 2 or 3, got {self.spatial_dims}")
        if self.norm is not None:
            choose("norm", self.norm, NORMS)

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: Stride = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> nn.Module:
        """Makes a convolution that keeps the size at stride 1; with a bias only without a norm."""
        kind = CONV[self.spatial_dims]
        depthwise = 1 < groups == in_channels == out_channels
        if depthwise and (self.spatial_dims, kernel_size, stride) == (2, 3, 1) and dilation > 1:
            kind = DilatedDepthwise
        return kind(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,  # type: ignore[arg-type]  # as many as the convolution has axes
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=self.norm is None,
        )

    def normalisation(self, num_channels: int) -> nn.Module:
        """Makes a norm of C channels."""
        assert self.norm is not None
        return NORMS[self.norm](self, num_channels)

    def conv_norm(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: Stride = 1
    ) -> ConvNorm:
        """Makes a convolution followed by the norm, if there is one."""
        norm = None if self.norm is None else self.normalisation(out_channels)
        return ConvNorm(self.conv(in_channels, out_channels, kernel_size, stride=stride), norm)


def _groups(channels: int) -> int:
    """32 if they divide the channels, else the greatest common divisor.

    They have two channels or more: on a map of one pixel a single value has no deviation.
    """
    return min(math.gcd(32, channels), max(1, channels // 2))


NORMS: dict[str, Callable[[Layers, int], nn.Module]] = {
    "batch": lambda to, channels: _BATCH_NORM[to.spatial_dims](channels, eps=to.norm_eps),
    "frozen": lambda to, channels: FrozenBatchNorm(channels, eps=to.norm_eps),
    "group": lambda to, channels: nn.GroupNorm(_groups(channels), channels, eps=to.norm_eps),
    "instance": lambda to, channels: _INSTANCE_NORM[to.spatial_dims](
        channels, eps=to.norm_eps, affine=True
    ),
    "sync": lambda to, channels: nn.SyncBatchNorm(channels, eps=to.norm_eps),
}


_FILLS = frozenset(
    {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
)
"""Functions through which `torch.nn.init` draws random numbers."""


class Uninitialised(TorchFunctionMode):
    """Context in which the parameters of new layers are not drawn, but are any numbers.

    For models whose parameters are loaded, or only looked at: drawing them takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Calls a function of torch, unless it would fill a parameter with random numbers."""
        given = kwargs or {}
        filled = args[0] if args else given.get("tensor")
        if func in _FILLS and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **given)


def channels_last_weights(model: nn.Module) -> None:
    """Converts the weights of 2-D and 3-D convolutions to the channels-last layout, in place."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.to(memory_format=formats[parameter.ndim])


class FixedUpsampledConv(nn.Module):
    """`upsampled_conv` for weights that no longer change: their taps are summed once.

    Args:
        weight: (o, x, 3, ...), see `densekit.ops.upsampled_conv`.
        bias: (o,).
        steps: How often each axis of the coarser map repeats pixels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> None:
        super().__init__()
        self.steps, dims = list(steps), len(steps)
        self.conv = fixed_conv(CONV[dims], weight, bias)
        self.doubled: nn.Module | None = None
        if set(steps) <= {1, 2}:
            taps = doubled_taps(weight, steps)
            self.doubled = fixed_conv(CONV_TRANSPOSE[dims], taps, bias, stride=self.steps)

    def forward(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """Maps (B, x, *n) to (B, o, *sides)."""
        if self.doubled is not None and upsampling_steps(x, sides) == self.steps:
            y: Tensor = self.doubled(x)
        else:  # odd sides
            y = self.conv(F.interpolate(x, tuple(sides), mode="nearest"))
        return y


def fixed_conv(
    kind: Callable[..., Any], weight: Tensor, bias: Tensor | None, **settings: Any
) -> nn.Module:
    """Makes a convolution with padding 1 and these weights, in the layout of the models.

    Args:
        kind: Its class, a value of `CONV` or `CONV_TRANSPOSE`.
        weight: In the order of axes of that class.
        bias: (C,).
        settings: Further arguments of the class.
    """
    layer = kind(1, 1, tuple(weight.shape[2:]), padding=1, **settings)
    channels = weight.shape[:2] if layer.transposed else weight.shape[1::-1]
    layer.in_channels, layer.out_channels = channels
    layer.weight, layer.bias = nn.Parameter(weight.clone()), bias
    channels_last_weights(layer)
    fixed: nn.Module = layer.requires_grad_(False)
    return fixed


def max_pool(x: Tensor, kernel_size: int, stride: Stride) -> Tensor:
    """Max-pools (B, C, *S) with padding `kernel_size // 2` on each side."""
    return _MAX_POOL[x.ndim - 2](x, kernel_size, stride, kernel_size // 2)


def max_pool_from_start(x: Tensor, kernel_size: int, stride: Stride) -> Tensor:
    """Max-pools (B, C, *S) with windows that begin at the first pixel, to S / stride rounded up.

    On even sides it is Caffe's and torch's `ceil_mode` without padding; on odd ones, where that
    would drop the last row, it is one window longer.
    """
    beyond = (0, kernel_size - 1) * (x.ndim - 2)
    return _MAX_POOL[x.ndim - 2](F.pad(x, beyond, value=-math.inf), kernel_size, stride)
