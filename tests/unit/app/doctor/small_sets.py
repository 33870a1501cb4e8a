"""Small data sets on disk, of every format that the doctor reads record by record."""

import json

import nibabel
import numpy as np
from PIL import Image

CLEAN = 22
"""Images of a set: enough to know what is usual."""
SIZE = (48, 64)
NAMES = ["cat", "dog"]


def pixels(number, size=SIZE):
    """A smooth image with a few shapes, other than those of other numbers."""
    rng = np.random.default_rng(number)
    rough = rng.integers(40, 215, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC)
    noise = rng.integers(-12, 12, (*size, 3))
    return (np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8)


def write(path, array, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **save)
    return path


def boxes_of(number):
    """Two boxes x1, y1, x2, y2 with their class."""
    return [((5 + number % 7, 4, 30, 30), 0), ((32, 10, 60 - number % 5, 44), 1)]


def coco(root, count=CLEAN):
    """A COCO file for train; returns its content, to be changed and written by `dump`."""
    images, annotations = [], []
    for number in range(count):
        write(root / "images" / f"{number}.png", pixels(number))
        record = {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
        images.append(record)
        for (x1, y1, x2, y2), label in boxes_of(number):
            box = [x1, y1, x2 - x1, y2 - y1]
            row = {"id": len(annotations), "image_id": number, "category_id": label + 1}
            annotations.append({**row, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]})
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def dump(root, content):
    """Writes a COCO file; returns the node of its `Source`."""
    (root / "train.json").write_text(json.dumps(content))
    target = "densekit.data.CocoDetection"
    split = {"_target_": target, "root": str(root), "images": "images", "annotations": "train.json"}
    return {"_target_": "densekit.data.Source", "train": split}


def voc(root, count=CLEAN):
    """VOC folders; returns the node of their `Source`."""
    folder = root / "Annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write(root / "JPEGImages" / f"{number}.png", pixels(number))
        rows = "".join(
            f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for (x1, y1, x2, y2), label in boxes_of(number)
        )
        size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
        (folder / f"{number}.xml").write_text(f"<annotation>{size}{rows}</annotation>")
    split = {"_target_": "densekit.data.VocDetection", "root": str(root)}
    return {"_target_": "densekit.data.Source", "train": split}


def yolo(root, count=CLEAN):
    """Images with label files; returns the node of their `Source`."""
    (root / "labels").mkdir(parents=True)
    for number in range(count):
        write(root / "images" / f"{number}.png", pixels(number))
        rows = [
            f"{label} {(x1 + x2) / 2 / SIZE[1]} {(y1 + y2) / 2 / SIZE[0]} {(x2 - x1) / SIZE[1]}"
            f" {(y2 - y1) / SIZE[0]}"
            for (x1, y1, x2, y2), label in boxes_of(number)
        ]
        (root / "labels" / f"{number}.txt").write_text("\n".join(rows))
    (root / "classes.txt").write_text("\n".join(NAMES))
    split = {"_target_": "densekit.data.YoloDetection", "root": str(root)}
    return {"_target_": "densekit.data.Source", "train": split}


def masks(root, count=CLEAN):
    """Images with binary masks; returns the node of their `Source`."""
    for number in range(count):
        write(root / "images" / f"{number}.png", pixels(number))
        mask = np.zeros(SIZE, np.uint8)
        mask[10 : 20 + number % 9, 8 : 20 + number % 11] = 255
        write(root / "masks" / f"{number}.png", mask)
    split = {
        "_target_": "densekit.data.MaskFolder",
        "images": str(root / "images"),
        "masks": str(root / "masks"),
        "names": ["cell"],
    }
    return {"_target_": "densekit.data.Source", "heads": ["segmentation"], "train": split}


def volumes(root, count=CLEAN):
    """NIfTI volumes with masks; returns the node of their `Source`."""
    for number in range(count):
        values, mask = voxels(number)
        for folder, data in (("images", values), ("masks", mask)):
            save(root / folder / f"case_{number}.nii.gz", data)
    split = {
        "_target_": "densekit.data.MedicalVolumes",
        "root": str(root),
        "labels": {"background": 0, "tumour": 1},
        "intensity": {"kind": "zscore"},
    }
    return {"_target_": "densekit.data.Source", "heads": ["segmentation"], "train": split}


def voxels(number):
    """Values and mask by (x, y, z)."""
    rng = np.random.default_rng(number)
    mask = np.zeros((8, 9, 6), np.uint8)
    mask[2:5, 3:6, 1 : 3 + number % 3] = 1
    return rng.normal(100, 10, (8, 9, 6)).astype(np.float32), mask


def save(path, data, affine=None, *, placed=True, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine)
    file.header.set_xyzt_units("mm")
    for key, value in header.items():
        file.header[key] = value
    if not placed:
        file.set_sform(None, 0)
        file.set_qform(None, 0)
    nibabel.save(file, path)
