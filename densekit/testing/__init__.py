"""The contract of the parts, as functions that fail with what is wrong; plug-ins call them too."""

from __future__ import annotations

from densekit.testing.backbone import check_backbone
from densekit.testing.head import check_head, head_report
from densekit.testing.processes import run_distributed
from densekit.testing.samples import synthetic_samples

__all__ = ["check_backbone", "check_head", "head_report", "run_distributed", "synthetic_samples"]
