"""What the processor is good at, where one formulation does not suit all."""

from __future__ import annotations

from pathlib import Path


def _made_by_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()


MADE_BY_AMD = _made_by_amd()
"""Whether the processor is AMD's; false where the system does not tell. Read once, at import: a
question asked while a graph is traced would break it."""
