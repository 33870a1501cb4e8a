"""Data sets, transforms and loaders: everything between a file and a `Batch`."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Augment": "transforms",
        "Chain": "geometry",
        "CocoDetection": "coco",
        "DataModule": "module",
        "Dataset": "protocols",
        "EvalSampler": "samplers",
        "Grid": "grids",
        "LargeScaleJitter": "resize",
        "Loader": "loader",
        "MedicalVolumes": "medical",
        "Patch": "patch",
        "PatientSplit": "patient_split",
        "Resize": "resize",
        "Scenes": "scenes",
        "Source": "source",
        "TrainSampler": "samplers",
        "Transform": "protocols",
        "VocDetection": "voc",
        "Volume": "grids",
        "VolumeAugment": "volume_augment",
        "VolumeSlices": "slices",
        "read_image": "images",
        "read_volume": "volumes",
        "write_mask": "volumes",
    },
)
