"""Data sets, transforms and loaders: everything between a file and a `Batch`."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Augment": "transforms",
        "Chain": "geometry",
        "CocoDetection": "coco",
        "CocoSemantic": "coco_masks",
        "DataModule": "module",
        "Dataset": "protocols",
        "EvalSampler": "samplers",
        "Fold": "folds",
        "LargeScaleJitter": "resize",
        "Loader": "loader",
        "MaskFolder": "mask_folder",
        "MaskList": "mask_list",
        "Resize": "resize",
        "Scenes": "scenes",
        "Source": "source",
        "TrainSampler": "samplers",
        "Transform": "protocols",
        "VocDetection": "voc",
        "VocSegmentation": "voc_masks",
        "class_frequencies": "frequencies",
        "read_image": "images",
    },
)
