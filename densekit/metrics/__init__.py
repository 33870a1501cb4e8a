"""Metrics over restored results and untouched annotations, equal in one process and in many."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Accuracy": "accuracy",
        "BoundaryF": "boundary_f",
        "BoundaryIoU": "boundary_iou",
        "BoxMetric": "box_metric",
        "CalibrationError": "calibration",
        "CocoMap": "coco_map",
        "DiceScore": "dice_score",
        "EmbeddingMetric": "embedding_metric",
        "HasAnalyses": "protocols",
        "HasCases": "protocols",
        "HasConfusion": "protocols",
        "HasFacts": "protocols",
        "HasSuspects": "protocols",
        "Identification": "identification",
        "MaskCalibration": "mask_calibration",
        "LvisMap": "lvis_map",
        "MaskMetric": "mask_metric",
        "MeanIoU": "mean_iou",
        "MultilabelMap": "multilabel_map",
        "SurfaceDistances": "surface_distances",
        "Verification": "verification",
        "VocMap": "voc_map",
        "evaluate_files": "coco_files",
    },
)
