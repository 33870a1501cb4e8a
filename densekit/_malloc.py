"""What glibc does with freed memory: returns it to the system, or keeps it for the next step.

By default it returns large blocks when they are freed, and the end of its heap once 64 MiB of it
are free. A training step frees nearly everything at its end: the next one asks for all of it again,
and the system clears every page before it can be used.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of `mallopt`, see `man 3 mallopt`."""
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
"""All blocks come from the heap, whose end is never returned."""
RETURNING = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20}
"""Where glibc's defaults arrive after a large block was freed: these are their upper limits."""
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
"""Environment variables by which users choose such parameters themselves."""


@contextmanager
def kept_memory(device: str = "cpu") -> Iterator[None]:
    """Keeps what this process frees for its next allocations, instead of returning it.

    Results are the same. Does nothing without glibc, or where the environment already chooses what
    glibc does.

    Args:
        device: Type of the device that computes; nothing changes for others than "cpu".
    """
    if device != "cpu":
        yield
        return
    _set(KEEPING)
    try:
        yield
    finally:
        return_memory()


def return_memory() -> None:
    """From now on returns freed memory to the system, as glibc does by default."""
    _set(RETURNING)


def trim() -> None:
    """Returns the freed memory that glibc keeps; other libraries have no such call."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def is_chosen(environment: Mapping[str, str]) -> bool:
    """Whether the environment says what glibc does with freed memory."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in environment for name in CHOSEN)


def _set(parameters: Mapping[int, int]) -> None:
    libc = _glibc()
    if libc is None or is_chosen(os.environ):
        return
    for parameter, value in parameters.items():
        libc.mallopt(parameter, value)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
