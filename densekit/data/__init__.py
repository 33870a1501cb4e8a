"""Data sets, transforms and loaders: everything between a file and a `Batch`.

`source` holds one data set of an experiment with its splits, `module` all of them for the trainer.
`protocols` defines data sets and transforms; `samplers`, `loader`, `collate` and `object_masks`
make batches of their samples; `sampling` draws images of rare classes more often, by what
`presence` tells of each.
`subset` and `splits` select images, `concat` joins data sets, `summary`, `foreground`,
`fingerprint` and `box_fingerprint` inspect a data set, `naming` compares names of classes and
groups.

Data sets by kind: `detection`, `segmentation`, `classification`, `identification`, `medical`,
`synthetic`; none imports another. They build on `reading` (files), `annotations` (objects) and
`transforms`.
"""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AlignFace": "identification.align",
        "Augment": "transforms.albumentations",
        "BatchTransform": "protocols",
        "ClassBalanced": "sampling",
        "BoxMixUp": "transforms.mosaic",
        "CategoryScenes": "synthetic.scenes",
        "Chain": "transforms.geometry",
        "CocoDetection": "detection.coco",
        "CocoPanoptic": "detection.coco_panoptic",
        "CocoSemantic": "segmentation.coco",
        "Concat": "concat",
        "DataModule": "module",
        "CopyPaste": "transforms.copy_paste",
        "CutMix": "transforms.mixing",
        "Dataset": "protocols",
        "EvalSampler": "samplers",
        "Grid": "medical.grids",
        "SplitRule": "splits",
        "IdMasks": "detection.id_masks",
        "ImageFolder": "classification.folder",
        "ImageTable": "classification.table",
        "IdentityFolder": "identification.dataset",
        "IdentityImages": "identification.dataset",
        "IdentitySampler": "samplers",
        "IdentityTable": "identification.dataset",
        "LargeScaleJitter": "transforms.resize",
        "Loader": "loader",
        "MaskFolder": "segmentation.folder",
        "MaskList": "segmentation.listing",
        "MedicalVolumes": "medical.dataset",
        "MixUp": "transforms.mixing",
        "Mosaic": "transforms.mosaic",
        "ObjectMasks": "segmentation.objects",
        "OpenSet": "identification.open_set",
        "PanopticScenes": "synthetic.panoptic_scenes",
        "Patch": "transforms.patch",
        "RandomChoice": "transforms.mixing",
        "Split": "splits",
        "PlaceScenes": "synthetic.place_scenes",
        "RandomSubset": "subset",
        "Repeat": "subset",
        "RepeatFactors": "sampling",
        "Resize": "transforms.resize",
        "Scenes": "synthetic.scenes",
        "SemanticScenes": "synthetic.scenes",
        "SequenceTable": "classification.sequences",
        "Shares": "sampling",
        "ShapePictures": "synthetic.shapes",
        "Source": "source",
        "Subset": "subset",
        "TorchvisionAugment": "transforms.torchvision",
        "TrainSampler": "samplers",
        "Transform": "protocols",
        "UcrSeries": "classification.series",
        "VocDetection": "detection.voc",
        "VocSegmentation": "segmentation.voc",
        "Volume": "medical.grids",
        "VolumeAugment": "transforms.volumes",
        "VolumeSlices": "medical.slices",
        "YoloDetection": "detection.yolo",
        "YoloSemantic": "segmentation.yolo",
        "align_face": "identification.align",
        "class_frequencies": "fingerprint",
        "read_image": "reading.images",
        "read_series": "classification.series",
        "read_volume": "medical.volumes",
        "write_mask": "medical.volumes",
    },
)
