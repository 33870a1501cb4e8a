"""What a device can and cannot do: the precision it trains in, synchronised batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from densekit.ops.cpu import MADE_BY_AMD

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

AMPERE = 8
"""CUDA capability from which on bfloat16 is computed by the tensor cores."""


def resolve_precision(precision: str, accelerator: str) -> str:
    """Replaces "auto" by what the device computes fastest.

    Args:
        precision: "auto", or a precision of Lightning's Trainer, which is returned as it is.
        accelerator: Trainer's accelerator: "cpu", "gpu", "cuda", "auto", ...

    Returns:
        "bf16-mixed" where the device computes faster in bfloat16, else "32-true".
    """
    if precision != "auto":
        return precision
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    if on_gpu:
        native = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= AMPERE
    else:
        native = accelerator in ("cpu", "auto") and cpu_gains_from_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_gains_from_bf16() -> bool:
    """Whether convolutions run faster in bfloat16 on this CPU.

    They do with AMX, and with AVX512-BF16 on AMD's cores. On Intel's, AVX512-BF16 without AMX
    was measured at 0.6 times the speed of float32 (docs/benchmarks/).
    """
    # Both questions are private names of torch, there since 2.4 and 2.6.
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return bool(amx or (avx and MADE_BY_AMD))


def check_sync_batch_norm(model: nn.Module, trainer: Trainer) -> None:
    """Refuses synchronised batch norm where torch cannot run it.

    Raises:
        ValueError: Several processes on CPU.
    """
    synced = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if synced and on_cpu and trainer.world_size > 1:
        raise ValueError(
            "trainer.sync_batchnorm, or a norm of the model, asks for synchronised batch norm, "
            "which torch runs on GPUs only: on CPU use a frozen or group norm, or one process"
        )
