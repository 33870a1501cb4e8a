"""Device capabilities: the precision to train in, and synchronised batch norm."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from densekit.ops.cpu import MADE_BY_AMD
from densekit.ops.precision import Call, Calls, first_wrong

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from densekit.model import DenseModel

AMPERE = 8
"""Lowest CUDA compute capability whose tensor cores support bfloat16."""
SIXTEEN_BITS = {
    **dict.fromkeys(("bf16-mixed", "bf16-true", "bf16"), torch.bfloat16),
    **dict.fromkeys(("16-mixed", "16-true", "16"), torch.float16),
}
"""16-bit precisions of Lightning's Trainer and their dtypes."""
CPU = torch.device("cpu")


def resolve_precision(
    precision: str, accelerator: str, calls: Callable[[], Iterable[Call]], *, backward: bool = True
) -> str:
    """Replaces "auto" by the fastest precision that the device computes correctly.

    An explicit precision is kept, with a warning if its numbers are wrong.

    Args:
        precision: "auto", or a precision of Lightning's Trainer.
        accelerator: Trainer's accelerator: "cpu", "gpu", "cuda", "auto", ...
        calls: Returns what the layers will compute, see `layer_calls`; called only if needed.
        backward: Whether gradients are computed.

    Returns:
        A precision of the Trainer; for "auto" it is "bf16-mixed" where the device computes faster
        in bfloat16 and every call agrees with float32, else "32-true".
    """
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    chosen = precision
    if precision == "auto":
        chosen = "bf16-mixed" if _gains_from_bf16(accelerator, on_gpu) else "32-true"
    dtype = SIXTEEN_BITS.get(chosen)
    if dtype is None or not (on_gpu or accelerator in ("cpu", "auto")):
        return chosen
    # Every process checks the device it is going to train on.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_gpu else CPU
    wrong = first_wrong(calls(), dtype, device, backward=backward)
    if wrong is None:
        return chosen
    found = f"{dtype} computes wrong numbers here (torch {torch.__version__}): {wrong}"
    if precision == "auto":
        rank_zero_info(f"precision=auto is 32-true: {found}")
        return "32-true"
    rank_zero_warn(f"precision={precision}: {found}; precision=32-true computes them right")
    return chosen


def layer_calls(model: DenseModel, sizes: Iterable[Sequence[int]]) -> list[Call]:
    """Records the distinct operations of a model's layers for images of some sizes.

    Args:
        model: Run once per size, in eval mode and without gradients.
        sizes: Sides of images in the network's frame.
    """
    modes = {module: module.training for module in model.modules()}
    channels = len(model.info["mean"])
    with torch.no_grad(), Calls() as calls:
        for sides in set(map(tuple, sizes)):
            image = model.mean.new_zeros((1, channels, *sides))
            model.eval()(image, torch.tensor([sides], device=image.device))
    for module, mode in modes.items():
        module.training = mode
    return list(calls.found)


def _gains_from_bf16(accelerator: str, on_gpu: bool) -> bool:
    if on_gpu:
        return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= AMPERE
    return accelerator in ("cpu", "auto") and cpu_gains_from_bf16()


def cpu_gains_from_bf16() -> bool:
    """Whether convolutions run faster in bfloat16 on this CPU.

    They do with AMX, and with AVX512-BF16 on AMD's cores. On Intel's, AVX512-BF16 without AMX
    was measured at 0.6 times the speed of float32 (docs/benchmarks/).
    """
    # Both are private functions of torch, present since 2.4 and 2.6.
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return bool(amx or (avx and MADE_BY_AMD))


def check_sync_batch_norm(model: nn.Module, trainer: Trainer) -> None:
    """Refuses synchronised batch norm in several processes on CPU, which torch cannot run.

    Raises:
        ValueError: Several processes train on CPU.
    """
    synced = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if synced and on_cpu and trainer.world_size > 1:
        raise ValueError(
            "trainer.sync_batchnorm, or a norm of the model: expected GPUs for synchronised batch "
            f"norm, got {trainer.world_size} processes on CPU, where torch cannot run it; use a "
            "frozen or group norm, or one process"
        )


def processor_name(device: str) -> str:
    """The name of the GPU, or of the CPU with the instructions that torch uses.

    Args:
        device: "cpu", "cuda", "cuda:1", ...
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0]} ({torch.backends.cpu.get_cpu_capability()})"
