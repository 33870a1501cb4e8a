"""Valid files of every format that densekit reads, and how it reads them."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from densekit import data as dk

from .form import Format
from .programs import PROGRAMS

SIDES = (24, 32)
"""Height and width of the images."""


def pixels(channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, (H, W, C)."""
    chosen = np.random.default_rng(seed)
    return chosen.integers(0, 256, (*SIDES, channels), np.uint8).squeeze()


def picture(path: Path, **options: Any) -> Path:
    """Writes an image in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels()).save(path, **options)
    return path


def every(data: dk.Dataset) -> list[Any]:
    """Reads all samples of a data set, with their masks."""
    data.describe()
    assert len(data.sizes) == len(data)
    return [data[index] for index in range(len(data))]


def _text(name: str, text: str, folder: Path) -> Path:
    for number in range(2):
        picture(folder / "images" / f"{number}.png")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _image(suffix: str, **options: Any) -> Format:
    return Format(
        lambda folder: picture(folder / f"a.{suffix}", **options),
        lambda folder: dk.read_image(folder / f"a.{suffix}"),
        is_exact=suffix == "png",
    )


def _array(folder: Path) -> Path:
    np.save(folder / "a.npy", pixels())
    return folder / "a.npy"


def _deep_tiff(folder: Path) -> Path:
    import tifffile

    tifffile.imwrite(
        folder / "a.tif", pixels(5).transpose(2, 0, 1).astype(np.uint16), photometric="minisblack"
    )
    return folder / "a.tif"


COCO = {
    "images": [
        {"id": n, "file_name": f"{n}.png", "height": SIDES[0], "width": SIDES[1]} for n in range(2)
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 3,
            "bbox": [1, 2, 10, 12],
            "area": 120.5,
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 14.5, 1, 14]],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 7,
            "bbox": [3, 4, 5, 6],
            "area": 30,
            "iscrowd": 1,
            "segmentation": {"size": list(SIDES), "counts": [30, 5, 733]},
        },
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
}
VOC = """<annotation><filename>0.png</filename><size><width>32</width><height>24</height>
<depth>3</depth></size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>2</xmin>
<ymin>3</ymin><xmax>12</xmax><ymax>13</ymax></bndbox></object></annotation>"""
TABLE = "image,label\nimages/0.png,cat\nimages/1.png,dog\n"
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4\n"
YOLO_CONFIG = "path: .\ntrain: images\nval: images\nnames:\n  0: cat\n  1: dog\n"


def _coco_boxes(folder: Path) -> list[Any]:
    return every(dk.CocoDetection(folder, "images", "a.json", instance_masks=True))


def _coco_masks(folder: Path) -> list[Any]:
    return every(dk.CocoSemantic(folder, "images", "a.json"))


def _voc(folder: Path) -> Path:
    _text("Annotations/1.xml", VOC.replace("0.png", "1.png"), folder)
    return _text("Annotations/0.xml", VOC, folder)


def _yolo(changed: str, folder: Path) -> Path:
    _text("data.yaml", YOLO_CONFIG, folder)
    _text("labels/0.txt", YOLO, folder)
    return folder / changed


def _yolo_all(folder: Path) -> list[Any]:
    boxes = every(dk.YoloDetection(folder, "train", instance_masks=True))
    return [boxes, every(dk.YoloSemantic(folder, "train"))]


def _masks(changed: str, folder: Path) -> Path:
    for number in range(2):
        picture(folder / "images" / f"{number}.png")
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(pixels(1) % 3).save(folder / "masks" / f"{number}.png")
    (folder / "classes.txt").write_text("road\ncar\ntree\n")
    rows = ["image,mask"] + [f"images/{n}.png,masks/{n}.png" for n in range(2)]
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / changed


def _mask_folder(folder: Path) -> list[Any]:
    return every(dk.MaskFolder(folder / "images", folder / "masks"))


def _mask_list(folder: Path) -> list[Any]:
    return every(dk.MaskList(folder, "list.csv", names=["road", "car", "tree"]))


def _faces(folder: Path) -> Path:
    for name in ("ann", "bob"):
        for number in (1, 2):
            picture(folder / name / f"{name}_{number:04d}.png")
    lines = ["1 1", "ann 1 2", "ann 1 bob 2"]
    (folder / "pairs.txt").write_text("\n".join(lines).replace(" ", "\t") + "\n")
    return folder / "pairs.txt"


def _open_set(folder: Path) -> list[Any]:
    form = "{name}/{name}_{number:04d}.png"
    return every(dk.OpenSet(dk.IdentityFolder(folder), "pairs.txt", form))


def _series(folder: Path) -> Path:
    rows = "".join(f"0.5,{n}.25,-1e-3:{n % 2 + 1}\n" for n in range(4))
    (folder / "Toy_TRAIN.ts").write_text(f"@timestamps false\n@classLabel true 1 2\n@data\n{rows}")
    return folder / "Toy_TRAIN.ts"


def _ucr(folder: Path) -> list[Any]:
    return every(dk.UcrSeries(folder, "train"))


def _results(folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps(COCO))
    found = [
        {
            "image_id": 0,
            "category_id": 3,
            "bbox": [1, 2, 10.5, 12],
            "score": 0.75,
            "segmentation": {"size": [24, 32], "counts": "j0<<00000000000000000f?"},
        }
    ]
    (folder / "results.json").write_text(json.dumps(found))
    return folder / "results.json"


def _score(folder: Path) -> Any:
    from densekit.metrics.detection.coco_files import evaluate_files

    return [
        evaluate_files(folder / "results.json", folder / "a.json"),
        evaluate_files(folder / "results.json", folder / "a.json", iou_type="segm"),
    ]


CONFIG = {
    "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 4},
    "neck": None,
    "heads": {"segmentation": {"_target_": "densekit.heads.FCN", "num_classes": 2}},
}


@lru_cache
def _model() -> Any:
    from densekit import DenseModel
    from densekit.backbones import ResNet
    from densekit.heads import FCN

    info = {"heads": {"segmentation": {"names": ["a", "b"], "ids": [0, 1], "num_classes": 2}}}
    return DenseModel(
        ResNet(18, width=4), {"segmentation": partial(FCN, num_classes=2)}, None, info
    )


def _checkpoint(suffix: str, folder: Path) -> Path:
    from densekit.artifact import save_artifact

    save_artifact(folder / f"a.{suffix}", _model(), yaml.safe_dump(CONFIG))
    return folder / f"a.{suffix}"


def _load(folder: Path) -> Any:
    from densekit.artifact import model_from_artifact

    (file,) = folder.glob("a.*")
    return model_from_artifact(file).state_dict()


def _stored_config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder / "config.yaml"


def _load_config(folder: Path) -> Any:
    """Loads a checkpoint, whole, that has the configuration of the file."""
    from densekit.artifact import model_from_artifact, save_artifact

    text = (folder / "config.yaml").read_bytes().decode("utf-8", "replace")
    save_artifact(folder / "config.yaml.ckpt", _model(), text)
    return list(model_from_artifact(folder / "config.yaml.ckpt").state_dict())


def _exported(suffix: str, folder: Path) -> Path:
    from densekit.inference.export.archive import write_texts
    from densekit.inference.export.base import CONFIG as NAME
    from densekit.inference.export.base import INFO, PARITY, SHAPES

    texts = {INFO: json.dumps(_model().info), NAME: yaml.safe_dump(CONFIG)}
    texts |= {SHAPES: '{"sides": [32, 32]}', PARITY: '{"worst": 1e-6}'}
    import zipfile

    path = folder / f"a.{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", bytes(range(256)) * 4)
    write_texts(path, texts)
    return path


def _facts(folder: Path) -> Any:
    from densekit.inference.export.formats import facts_of

    (file,) = folder.glob("a.*")
    return facts_of(file)


def _nifti(suffix: str, folder: Path) -> Path:
    import nibabel

    volume = pixels(4).transpose(1, 0, 2).astype(np.int16)
    image: Any = nibabel.Nifti1Image
    nibabel.save(image(volume, np.diag([1.0, 1.2, 3.0, 1.0])), folder / f"a.{suffix}")
    return folder / f"a.{suffix}"


def _itk(suffix: str, folder: Path) -> Path:
    import SimpleITK

    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(pixels(4).astype(np.int16)), folder / f"a.{suffix}"
    )
    return folder / f"a.{suffix}"


def _volume(folder: Path) -> Any:
    (file,) = folder.glob("a.*")
    return dk.read_volume(file)


def _dicom(folder: Path) -> Path:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    (folder / "a.series").mkdir()
    for number in range(2):
        meta: Any = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        tags: Any = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        tags.SOPClassUID = meta.MediaStorageSOPClassUID
        tags.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        tags.SeriesInstanceUID, tags.Modality = "1.2.3", "MR"
        tags.Rows, tags.Columns = SIDES
        tags.SamplesPerPixel, tags.PhotometricInterpretation = 1, "MONOCHROME2"
        tags.BitsAllocated, tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 16, 12, 11, 0
        tags.ImagePositionPatient, tags.PixelSpacing = [0, 0, 2.5 * number], [0.8, 0.5]
        tags.ImageOrientationPatient, tags.SliceThickness = [1, 0, 0, 0, 1, 0], 2.5
        tags.PixelData = pixels(1).astype(np.uint16).tobytes()
        tags.save_as(folder / "a.series" / f"{number}.dcm")
    return folder / "a.series" / "1.dcm"


def _image_table(folder: Path) -> list[Any]:
    return every(dk.ImageTable(folder, "table.csv"))


FORMATS: dict[str, Format] = {
    "png": _image("png"),
    "jpeg": _image("jpg", quality=80),
    "jpeg_progressive": _image("jpg", progressive=True),
    "tiff": _image("tif"),
    "tiff_lzw": _image("tif", compression="tiff_lzw"),
    "webp": _image("webp", lossless=True),
    "gif": _image("gif"),
    "bmp": _image("bmp"),
    "jp2": _image("jp2"),
    "npy": Format(_array, lambda folder: dk.read_image(folder / "a.npy")),
    "tiff_deep": Format(
        _deep_tiff, lambda folder: dk.read_image(folder / "a.tif", channels=5, dtype="float32")
    ),
    "coco_boxes": Format(partial(_text, "a.json", json.dumps(COCO)), _coco_boxes, is_text=True),
    "coco_masks": Format(partial(_text, "a.json", json.dumps(COCO)), _coco_masks, is_text=True),
    "coco_results": Format(_results, _score, is_text=True),
    "voc": Format(
        _voc,
        lambda folder: every(dk.VocDetection(folder, images="images", names=["cat", "dog"])),
        is_text=True,
    ),
    "yolo": Format(partial(_yolo, "labels/0.txt"), _yolo_all, is_text=True),
    "yolo_config": Format(partial(_yolo, "data.yaml"), _yolo_all, is_text=True),
    "mask": Format(partial(_masks, "masks/1.png"), _mask_folder, is_exact=True),
    "mask_classes": Format(partial(_masks, "classes.txt"), _mask_folder, is_text=True),
    "mask_list": Format(partial(_masks, "list.csv"), _mask_list, is_text=True),
    "image_table": Format(partial(_text, "table.csv", TABLE), _image_table, is_text=True),
    "face_pairs": Format(_faces, _open_set, is_text=True),
    "ucr": Format(_series, _ucr, is_text=True),
    "nifti": Format(partial(_nifti, "nii"), _volume),
    "nifti_gz": Format(partial(_nifti, "nii.gz"), _volume, is_exact=True),
    "metaimage": Format(partial(_itk, "mha"), _volume),
    "nrrd": Format(partial(_itk, "nrrd"), _volume),
    "dicom": Format(_dicom, _volume),
    "checkpoint": Format(partial(_checkpoint, "ckpt"), _load, is_exact=True),
    "safetensors": Format(partial(_checkpoint, "safetensors"), _load, is_exact=True),
    "stored_config": Format(_stored_config, _load_config, is_text=True),
    "exported": Format(partial(_exported, "pt2"), _facts, is_exact=True),
    **PROGRAMS,
}
