"""What some data sets need beyond unpacking, so that their configuration reads them.

Every function takes the output folder, writes only files that are not there yet, and may be
called again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from densekit._files import replacing, write_json, write_text

CAMVID_CLASSES = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence"]
CAMVID_CLASSES += ["Car", "Pedestrian", "Bicyclist"]

FUDAN_TEST = [2, 10, 18, 22, 26, 29, 30, 32, 33, 35, 37, 39, 40, 42, 43, 48, 54, 59, 66, 68, 71, 73]
PENN_TEST = [4, 6, 8, 9, 14, 15, 26, 30, 32, 41, 42, 44, 47, 54, 55, 61, 65, 67, 69, 70, 74, 75]
PENN_TEST += [77, 85, 87, 89, 92, 93]
"""Numbers of the images in the test split of `data=pennfudan`; the data set itself has none."""


def camvid(output: Path) -> None:
    """Writes SegNet's lists with paths relative to the folder, and the names of the classes."""
    folder = output / "camvid"
    for split in ("train", "val", "test"):
        pairs = (folder / "segnet" / f"{split}.txt").read_text(encoding="utf-8")
        _write_new(folder / f"{split}.txt", pairs.replace("/SegNet/CamVid/", ""))
    _write_new(folder / "classes.json", json.dumps({"classes": CAMVID_CLASSES}, indent=1))


def pennfudan(output: Path) -> None:
    """Writes the masks of the pedestrians as COCO JSON, one file per split."""
    folder = output / "pennfudan"
    tests = {f"FudanPed{number:05}" for number in FUDAN_TEST}
    tests |= {f"PennPed{number:05}" for number in PENN_TEST}
    images = sorted((folder / "images").glob("*.png"))
    for split, names in {"val": tests, "train": {path.stem for path in images} - tests}.items():
        file = folder / f"instances_{split}.json"
        if not file.exists():
            write_json(file, _coco(folder, [path for path in images if path.stem in names]))


def stare(output: Path) -> None:
    """Lists the first ten images for training, the others for the test, as mmsegmentation does."""
    folder = output / "STARE"
    names = sorted(path.stem for path in (folder / "images").glob("*.ppm"))
    _write_lists(folder, [f"images/{name}.ppm labels/{name}.ah.ppm" for name in names], 10)


def chase_db1(output: Path) -> None:
    """Lists the first twenty images for training, the others for the test, likewise."""
    folder = output / "CHASE_DB1"
    names = sorted(path.stem for path in folder.glob("*.jpg"))
    _write_lists(folder, [f"{name}.jpg {name}_1stHO.png" for name in names], 20)


def drive(output: Path) -> None:
    """Lists the official training and test images."""
    folder = output / "DRIVE"
    pairs = [
        f"{split}/images/{path.name} {split}/1st_manual/{path.stem[:2]}_manual1.gif"
        for split in ("training", "test")
        for path in sorted((folder / split / "images").glob("*.tif"))
    ]
    _write_lists(folder, pairs, sum(pair.startswith("training") for pair in pairs))


def voc12aug(output: Path) -> None:
    """Writes `SegmentationClassAug` and `train_aug.txt`: VOC's masks where there are, else SBD's.

    As usual since Hariharan et al. 2011, the images of VOC's val are left out.
    """
    root = output / "VOCdevkit" / "VOC2012"
    sbd, lists = output / "sbd", root / "ImageSets" / "Segmentation"
    train, val = _lines(lists / "train.txt"), _lines(lists / "val.txt")
    more = {*_lines(sbd / "train.txt"), *_lines(sbd / "val.txt")} - {*train, *val}
    folder = root / "SegmentationClassAug"
    for name in train:
        _copy_new(root / "SegmentationClass" / f"{name}.png", folder / f"{name}.png")
    palette = root / "SegmentationClass" / f"{train[0]}.png"
    for name in sorted(more):
        _mask_of_sbd(sbd / "cls" / f"{name}.mat", folder / f"{name}.png", palette)
    _write_new(lists / "train_aug.txt", "\n".join(sorted({*train, *more})) + "\n")


def _mask_of_sbd(mat: Path, target: Path, palette: Path) -> None:
    """Writes the classes of a file of SBD as a PNG with the palette of VOC."""
    if target.exists():
        return
    from PIL import Image
    from scipy.io import loadmat

    mask = Image.fromarray(loadmat(mat)["GTcls"]["Segmentation"][0, 0])
    with Image.open(palette) as example:
        mask.putpalette(example.getpalette() or [])
    with replacing(target) as part:
        mask.save(part)


def _coco(folder: Path, images: Iterable[Path]) -> dict[str, Any]:
    """COCO's annotations of images whose masks number their pedestrians from 1."""
    import numpy as np
    from PIL import Image

    listed, objects = [], list[dict[str, Any]]()
    for number, path in enumerate(images, start=1):
        with Image.open(folder / "masks" / f"{path.stem}_mask.png") as file:
            mask = np.asarray(file)
        height, width = mask.shape
        listed.append({"id": number, "file_name": path.name, "height": height, "width": width})
        for one in _objects(mask):
            objects.append({"id": len(objects) + 1, "image_id": number, **one})
    categories = [{"id": 1, "name": "pedestrian", "supercategory": "person"}]
    return {"images": listed, "annotations": objects, "categories": categories}


def _objects(mask: Any) -> Iterator[dict[str, Any]]:
    import numpy as np
    from pycocotools import mask as coco_mask

    for value in range(1, int(mask.max()) + 1):
        rle = coco_mask.encode(np.asfortranarray(mask == value, dtype=np.uint8))
        yield {
            "category_id": 1,
            "iscrowd": 0,
            "area": float(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        }


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split()


def _write_lists(folder: Path, pairs: list[str], train: int) -> None:
    """Writes pairs of image and mask: the first ones for training, the others for the test."""
    _write_new(folder / "train.txt", "\n".join(pairs[:train]) + "\n")
    _write_new(folder / "test.txt", "\n".join(pairs[train:]) + "\n")


def _write_new(file: Path, text: str) -> None:
    if not file.exists():
        write_text(file, text)


def _copy_new(source: Path, target: Path) -> None:
    if not target.exists():
        with replacing(target) as part:
            shutil.copyfile(source, part)
