"""Contract tests for heads, backbones, necks, data, transforms and metrics; for plug-ins too."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "check_backbone": "backbone",
        "check_backbone_graphs": "backbone",
        "check_data": "data",
        "check_head": "head",
        "check_metric": "metric",
        "check_neck": "neck",
        "check_transform": "transform",
        "report": "contract",
        "run_distributed": "processes",
        "synthetic_samples": "samples",
    },
)
