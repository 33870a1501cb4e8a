"""The machine: what it is, and how fast its convolutions can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from densekit.training.devices import processor_name

CHANNELS, SIDE, KERNEL = 256, 100, 3
CALLS = 8
"""Timed calls, of which the fastest counts."""
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Where a benchmark ran.

    Attributes:
        processor: Its name.
        threads: Of torch.
        torch: Version.
        peaks: FLOP per second of a 3x3 convolution of 256 channels, by precision.
    """

    processor: str
    threads: int
    torch: str
    peaks: dict[str, float | None]

    def __str__(self) -> str:
        where = f"{self.processor}, {self.threads} threads, torch {self.torch}"
        peaks = [f"{name} {peak / 1e9:,.0f}" for name, peak in self.peaks.items() if peak]
        return f"{where}; convolution peak in GFLOP/s: {', '.join(peaks)}" if peaks else where


def this_machine(precisions: Iterable[str], device: str) -> Machine:
    """Describes the machine and measures its peaks, some tenths of a second each."""
    peaks = {name: convolution_peak(name, device) for name in precisions}
    return Machine(processor_name(device), torch.get_num_threads(), torch.__version__, peaks)


def convolution_peak(precision: str, device: str) -> float | None:
    """FLOP per second of a 3x3 convolution of 256 channels on 100 x 100 pixels.

    It is the layer that most of a detector's operations are in. The weight is reordered in each
    call, as in eager mode, so that an engine which does it once may reach more than this peak.

    Args:
        precision: "fp32", "bf16", "fp16" or "int8".
        device: Where it runs.

    Returns:
        None if this machine has no such convolution.
    """
    batch = 16 if device.startswith("cuda") else 1
    image = torch.rand(batch, CHANNELS, SIDE, SIDE, device=device)
    weight = torch.rand(CHANNELS, CHANNELS, KERNEL, KERNEL, device=device)
    image, weight = (x.to(memory_format=torch.channels_last) for x in (image, weight))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        F.conv2d(image, weight, padding=1)
    try:
        call = _int8(image, weight) if precision == "int8" else _plain(image, weight, precision)
        with torch.inference_mode():
            return float(counter.get_total_flops()) / _fastest(call, device)
    except (RuntimeError, AttributeError):  # no kernel for this processor, or not in this torch
        return None


def _plain(image: Tensor, weight: Tensor, precision: str) -> Callable[[], object]:
    image, weight = image.to(TYPES[precision]), weight.to(TYPES[precision])
    return lambda: F.conv2d(image, weight, padding=1)


def _int8(image: Tensor, weight: Tensor) -> Callable[[], object]:
    """The convolution that compiled quantized models call on CPUs."""
    ops, ones = torch.ops.onednn, [1, 1]
    quantized = (image * 255).byte()
    scale, zero = torch.full((CHANNELS,), 0.01), torch.zeros(CHANNELS, dtype=torch.int32)
    shape = list(image.shape)
    packed = ops.qconv_prepack((weight * 127).char(), scale, 0.01, 0, ones, ones, ones, 1, shape)
    return lambda: ops.qconv2d_pointwise(
        *(quantized, 0.01, 0, packed, scale, zero, None, ones, ones, ones, 1),
        *(1.0, 0, torch.uint8, "none", [], ""),
    )


def _fastest(call: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(CALLS + 1):  # the first is a warm-up
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
