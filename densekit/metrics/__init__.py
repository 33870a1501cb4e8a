"""Metrics over restored results and untouched annotations, equal in one process and in many."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Accuracy": "classification.accuracy",
        "BoundaryF": "segmentation.boundary_f",
        "BoundaryIoU": "segmentation.boundary_iou",
        "BoxMetric": "detection.box_metric",
        "CalibrationError": "classification.calibration",
        "CocoBoundaryMap": "detection.coco_boundary_map",
        "CocoMap": "detection.coco_map",
        "CocoMaskMap": "detection.coco_mask_map",
        "DiceScore": "segmentation.dice_score",
        "EmbeddingMetric": "embedding.embedding_metric",
        "HasAnalyses": "protocols",
        "HasCases": "protocols",
        "HasConfusion": "protocols",
        "HasFacts": "protocols",
        "HasSuspects": "protocols",
        "Identification": "embedding.identification",
        "MaskCalibration": "segmentation.calibration",
        "LvisMap": "detection.lvis_map",
        "LvisMaskMap": "detection.lvis_mask_map",
        "MaskMetric": "segmentation.mask_metric",
        "MeanIoU": "segmentation.mean_iou",
        "MultilabelMap": "classification.multilabel_map",
        "PanopticQuality": "segmentation.panoptic_quality",
        "SurfaceDistances": "segmentation.surface_distances",
        "Verification": "embedding.verification",
        "VocMap": "detection.voc_map",
        "VocMaskMap": "detection.voc_mask_map",
        "evaluate_files": "detection.coco_files",
    },
)
