"""Batch norm of a padded batch, with statistics of the valid rows only.

Ioffe & Szegedy, "Batch Normalization", 2015, algorithm 1, over the valid rows. Shapes stay static;
selecting the valid rows first would wait for the device.

Shape letters: R rows, C channels, S any spatial sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit.ops.dist import sum_over_processes


def masked_batch_norm(norm: _BatchNorm, x: Tensor, valid: Tensor) -> Tensor:
    """Applies `norm` as if the valid rows were the whole batch.

    In training it updates the running statistics as `norm` would; a batch without a valid row
    leaves them unchanged. A `SyncBatchNorm` counts the rows of all processes.

    Args:
        norm: A batch norm of C channels; called directly in eval mode.
        x: (R, C, *S).
        valid: (R,) bool.

    Returns:
        (R, C, *S) in the dtype of `x`; invalid rows are finite but meaningless.
    """
    if not norm.training:
        y: Tensor = norm(x)
        return y
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    per_row, per_channel = (-1, *[1] * (x.ndim - 1)), (1, -1, *[1] * (x.ndim - 2))
    axes = [0, *range(2, x.ndim)]
    counted = valid.to(exact.dtype).view(per_row)
    cells = _total(norm, counted.sum() * x[0, 0].numel())
    divisor = cells.clamp(min=1)
    mean = _total(norm, (exact * counted).sum(axes)) / divisor
    centred = exact - mean.view(per_channel)
    variance = _total(norm, (centred.square() * counted).sum(axes)) / divisor
    _track(norm, mean, variance, cells)
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
        return torch.addcmul(norm.bias.view(per_channel), centred, scale.view(per_channel)).to(
            x.dtype
        )
    return (centred * scale.view(per_channel)).to(x.dtype)


def _total(norm: _BatchNorm, x: Tensor) -> Tensor:
    return sum_over_processes(x) if isinstance(norm, nn.SyncBatchNorm) else x


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, cells: Tensor) -> None:
    """Updates the running statistics, with the unbiased variance."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = cells.new_tensor(norm.momentum) if norm.momentum else 1 / norm.num_batches_tracked
    share = (share * (cells > 0)).to(norm.running_mean.dtype)
    unbiased = variance * (cells / (cells - 1).clamp(min=1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
