"""Peak memory of a call."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import torch

from densekit._malloc import trim

CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"
"""What resets the peak of the resident memory, see `man 5 proc`."""


def peak_memory(run: Callable[[], object], device: str, steps: int = 1) -> int | None:
    """Bytes that calls need at most, beyond what is allocated before them.

    On a GPU it is the peak of torch's allocator. On a CPU it is that of the resident memory of this
    process, after freed memory has been given back to the system: libraries that do not allocate
    through torch count too.

    Args:
        run: The call; not the first one of something that compiles.
        device: Where it runs.
        steps: Number of calls, one after the other.

    Returns:
        None on a system whose peak cannot be reset (other than Linux).
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            run()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    if not CLEAR.exists():
        return None
    trim()
    CLEAR.write_text(RESET_PEAK)
    resident = _kib("VmRSS")
    for _ in range(steps):
        run()
    return 1024 * max(0, _kib("VmHWM") - resident)


def _kib(name: str) -> int:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0])
