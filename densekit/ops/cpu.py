"""What the processor is good at, where one formulation does not suit all."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Maker, model and abilities of the first core, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    first = cpuinfo.read_text().partition("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def _made_by_amd() -> bool:
    return "AuthenticAMD" in processor()


MADE_BY_AMD = _made_by_amd()
"""Whether the processor is AMD's; false where the system does not tell. Read once, at import: a
question asked while a graph is traced would break it."""
