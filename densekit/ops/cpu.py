"""Properties of the processor, on which the faster of two formulations depends."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Returns vendor, model and feature flags of the first core, as far as they are known."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    first = cpuinfo.read_text().partition("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def _made_by_amd() -> bool:
    return "AuthenticAMD" in processor()


MADE_BY_AMD = _made_by_amd()
"""Whether the processor is AMD's; false if unknown. Read once, at import: reading it while a graph
is traced would break the graph."""
