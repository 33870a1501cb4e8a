"""Annotations as they are stored, however broken: one reader per format.

A reader takes the place of a data set class in a configuration and accepts its arguments. It
records what the class would refuse, so that every defect is found and not the first alone. Other
classes, plug-ins' too, are built as they are; see `built`.
"""

_HERE = "densekit.app.doctor.readers"
READERS = {
    "densekit.data.CocoDetection": f"{_HERE}.coco.CocoRecords",
    "densekit.data.CocoSemantic": f"{_HERE}.coco.CocoRecords",
    "densekit.data.MaskFolder": f"{_HERE}.paired.FolderRecords",
    "densekit.data.MaskList": f"{_HERE}.paired.ListRecords",
    "densekit.data.MedicalVolumes": f"{_HERE}.cases.VolumeRecords",
    "densekit.data.VocDetection": f"{_HERE}.voc.VocRecords",
    "densekit.data.VocSegmentation": f"{_HERE}.paired.VocMaskRecords",
    "densekit.data.VolumeSlices": f"{_HERE}.cases.SlicedRecords",
    "densekit.data.YoloDetection": f"{_HERE}.yolo.YoloRecords",
    "densekit.data.YoloSemantic": f"{_HERE}.yolo.YoloRecords",
}
"""Data set class to the reader that takes its place."""
