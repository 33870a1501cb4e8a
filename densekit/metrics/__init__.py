"""Metrics over restored results and untouched annotations, equal in one process and in many."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "BoxMetric": "box_metric",
        "CocoMap": "coco_map",
        "VocMap": "voc_map",
        "evaluate_files": "coco_files",
    },
)
