"""Data sets, transforms and loaders: everything between a file and a `Batch`."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AlignFace": "align",
        "Augment": "transforms",
        "Chain": "geometry",
        "CocoDetection": "coco",
        "CocoSemantic": "coco_masks",
        "DataModule": "module",
        "Dataset": "protocols",
        "EvalSampler": "samplers",
        "Grid": "grids",
        "HoldOut": "hold_out",
        "IdentityFolder": "identities",
        "IdentityImages": "identities",
        "IdentitySampler": "identity_sampler",
        "IdentityTable": "identities",
        "LargeScaleJitter": "resize",
        "Loader": "loader",
        "MaskFolder": "mask_folder",
        "MaskList": "mask_list",
        "MedicalVolumes": "medical",
        "OpenSet": "open_set",
        "Patch": "patch",
        "Part": "part",
        "Resize": "resize",
        "Scenes": "scenes",
        "SemanticScenes": "semantic_scenes",
        "Source": "source",
        "TrainSampler": "samplers",
        "Transform": "protocols",
        "VocDetection": "voc",
        "VocSegmentation": "voc_masks",
        "Volume": "grids",
        "VolumeAugment": "volume_augment",
        "VolumeSlices": "slices",
        "align_face": "align",
        "class_frequencies": "frequencies",
        "read_image": "images",
        "read_volume": "volumes",
        "write_mask": "volumes",
    },
)
