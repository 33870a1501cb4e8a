"""Clean copies of parts of real data sets, and of rendered ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densekit.data import CategoryScenes, Scenes
from planted.copies import Copy

SIZES = {"train": 60, "val": 25}
"""Images that are copied of each split."""
DATA = "densekit.data"


def _source(splits: Mapping[str, Any], head: str = "detection") -> dict[str, Any]:
    return {"_target_": f"{DATA}.Source", "heads": [head], **splits}


def _copy(kind: str, root: Path, splits: dict[str, list[Path]], node: dict[str, Any]) -> Copy:
    resize = {"min_size": 480, "max_size": 800} if kind in ("coco", "voc", "yolo") else {}
    return Copy(root, kind, splits, node, np.random.default_rng(0), resize)


def voc(source: Path, root: Path, lists: Mapping[str, str]) -> Copy:
    """VOC folders; `lists` names a list of images for each split."""
    splits: dict[str, list[Path]] = {}
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, name in lists.items():
        stems = _stems(source, name, split)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems))
        for stem in stems:
            shutil.copy2(source / "Annotations" / f"{stem}.xml", root / "Annotations")
            shutil.copy2(source / "JPEGImages" / f"{stem}.jpg", root / "JPEGImages")
        splits[split] = [root / "JPEGImages" / f"{stem}.jpg" for stem in stems]
    target = f"{DATA}.VocDetection"
    node = {s: {"_target_": target, "root": str(root), "split": s} for s in splits}
    return _copy("voc", root, splits, _source(node))


def _stems(source: Path, name: str, split: str) -> list[str]:
    """The first images of a list, or of a folder where there is no list."""
    if name:
        lines = (source / "ImageSets" / "Main" / f"{name}.txt").read_text().split()
        return lines[: SIZES.get(split)]
    every = sorted(file.stem for file in (source / "Annotations").iterdir())
    return every[:60] if split == "train" else every[60:85]


def bccd(data: Path, root: Path) -> Copy:
    """Blood cells without the two images that have a box of one pixel."""
    return voc(data / "bccd", root, {"train": "train", "val": "val"})


def voc100(data: Path, root: Path) -> Copy:
    """Pictures of Pascal VOC."""
    return voc(data / "voc100", root, {"train": "", "val": ""})


def _coco(files: Mapping[str, Path], folders: Mapping[str, Path], root: Path) -> Copy:
    splits: dict[str, list[Path]] = {}
    for split, file in files.items():
        content = json.loads(file.read_text())
        content["images"] = content["images"][: SIZES[split]]
        kept = {record["id"] for record in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        (root / split).mkdir(parents=True)
        for record in content["images"]:
            shutil.copy2(folders[split] / record["file_name"], root / split)
        splits[split] = [root / split / record["file_name"] for record in content["images"]]
        (root / f"{split}.json").write_text(json.dumps(content))
    target = f"{DATA}.CocoDetection"
    node = {
        s: {"_target_": target, "root": str(root), "images": s, "annotations": f"{s}.json"}
        for s in splits
    }
    return _copy("coco", root, splits, _source(node))


def coco_small(data: Path, root: Path) -> Copy:
    """Photographs of COCO."""
    source = data / "coco_small"
    pairs = {"train": "train2017", "val": "val2017"}
    files = {s: source / "annotations" / f"instances_{name}.json" for s, name in pairs.items()}
    return _coco(files, {s: source / name for s, name in pairs.items()}, root)


def pennfudan(data: Path, root: Path) -> Copy:
    """Pedestrians with outlines."""
    source = data / "pennfudan"
    files = {s: source / f"instances_{s}.json" for s in ("train", "val")}
    return _coco(files, dict.fromkeys(files, source / "images"), root)


def rendered(data: Path, root: Path) -> Copy:
    """Rendered shapes as YOLO txt."""
    scenes = Scenes(length=85, size=(96, 128))
    names = list(scenes.describe()["names"])
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for number in range(85):
        split = "train" if number < 60 else "val"
        sample = scenes[number]
        file = root / "images" / split / f"{number}.png"
        label = root / "labels" / split / f"{number}.txt"
        for path in (file, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample["image"]).save(file)
        height, width = sample["image"].shape[:2]
        rows = zip(sample["boxes"].tolist(), sample["labels"].tolist(), strict=True)
        label.write_text(
            "\n".join(
                f"{n} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width}"
                f" {(y2 - y1) / height}"
                for (x1, y1, x2, y2), n in rows
            )
        )
        splits[split].append(file)
    (root / "classes.txt").write_text("\n".join(names))
    listed = "\n".join(f"  {n}: {name}" for n, name in enumerate(names))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{listed}\n")
    target = f"{DATA}.YoloDetection"
    node = {s: {"_target_": target, "root": str(root), "split": s} for s in splits}
    return _copy("yolo", root, splits, _source(node))


def _masks(pairs: Mapping[str, list[tuple[Path, Path]]], root: Path, more: dict[str, Any]) -> Copy:
    splits: dict[str, list[Path]] = {}
    node: dict[str, Any] = {}
    for split, files in pairs.items():
        lines = []
        for image, mask in files:
            for folder, file in (("images", image), ("masks", mask)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, root / folder / file.name)
            lines.append(f"images/{image.name} masks/{mask.name}")
        (root / f"{split}.txt").write_text("\n".join(lines))
        splits[split] = [root / "images" / image.name for image, _ in files]
        target = f"{DATA}.MaskList"
        node[split] = {"_target_": target, "root": str(root), "list_file": f"{split}.txt", **more}
    return _copy("masks", root, splits, _source(node, "segmentation"))


def camvid(data: Path, root: Path) -> Copy:
    """Streets with eleven classes."""
    source = data / "camvid"
    pairs = {
        split: [
            (source / line.split()[0], source / line.split()[1])
            for line in (source / f"{split}.txt").read_text().splitlines()[:count]
        ]
        for split, count in SIZES.items()
    }
    made = _masks(pairs, root, {"names": _plain_names(source)})
    for file in (root / "masks").iterdir():  # void is 11, the value after the last class
        with Image.open(file) as mask:
            values = np.array(mask)
        Image.fromarray(np.where(values == 11, 255, values).astype(np.uint8)).save(file)
    return made


def _plain_names(source: Path) -> list[str]:
    from densekit.data import MaskList

    names = MaskList(source, "val.txt", ignore=[11]).describe()["names"]
    return list(names)


def isbi2012(data: Path, root: Path) -> Copy:
    """Membranes: black and white masks."""
    folder = data / "isbi2012" / "train"
    images = sorted((folder / "image").iterdir(), key=lambda path: int(path.stem))
    pairs = [(image, folder / "label" / image.name) for image in images]
    more = {"names": {"membrane": 0}, "channels": 1}
    return _masks({"train": pairs[:24], "val": pairs[24:]}, root, more)


def categories(data: Path, root: Path) -> Copy:
    """Rendered shapes in a folder per class."""
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for split, count in SIZES.items():
        scenes = CategoryScenes(split=split, length=count, size=(64, 64))
        names = scenes.describe()["names"]
        for number in range(count):
            sample = scenes[number]
            file = root / split / names[int(sample["category"])] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample["image"]).save(file)
            splits[split].append(file)
    target = f"{DATA}.ImageFolder"
    node = {split: {"_target_": target, "root": str(root / split)} for split in splits}
    return _copy("folders", root, splits, _source(node, "classification"))


def faces_orl(data: Path, root: Path) -> Copy:
    """Faces of forty people, half of them unknown to training."""
    people = [f"s{number}" for number in range(1, 41)]
    shutil.copytree(data / "faces_orl", root, ignore=shutil.ignore_patterns("*.txt"))
    folder = {"_target_": f"{DATA}.IdentityFolder", "root": str(root), "channels": 1}
    node = {
        "train": {**folder, "identities": people[:20]},
        "test": {"_target_": f"{DATA}.OpenSet", "data": {**folder, "identities": people[20:]}},
    }
    splits = {
        split: [file for person in of for file in sorted((root / person).iterdir())]
        for split, of in (("train", people[:20]), ("test", people[20:]))
    }
    return _copy("people", root, splits, _source(node, "identity"))


def hippocampus(data: Path, root: Path) -> Copy:
    """MRI volumes in NIfTI."""
    source = data / "hippocampus"
    content = json.loads((source / "dataset.json").read_text())
    content["training"] = content["training"][:40]
    for entry in content["training"]:
        for key in ("image", "label"):
            (root / entry[key]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / entry[key], root / entry[key])
    (root / "dataset.json").write_text(json.dumps(content))
    files = [root / entry["image"] for entry in content["training"]]
    split = {
        "_target_": f"{DATA}.MedicalVolumes",
        "root": str(root),
        "intensity": {"kind": "zscore"},
    }
    return _copy("volumes", root, {"train": files}, _source({"train": split}, "segmentation"))


def mr_brain_dicom(data: Path, root: Path) -> Copy:
    """A brain study in DICOM, as three patients with different values."""
    import pydicom

    source = data / "mr_brain_dicom"
    for patient in range(3):
        for name, folder in (("T1post", "image"), ("MaskTumor", "mask")):
            target = root / f"patient_{patient}" / folder
            shutil.copytree(source / name, target)
            for file in sorted(target.iterdir()) if folder == "image" and patient else ():
                header = pydicom.dcmread(file)
                header.PixelData = (header.pixel_array + patient).tobytes()
                header.save_as(file)
    split = {
        "_target_": f"{DATA}.MedicalVolumes",
        "root": str(root),
        "channels": ["image"],
        "mask": "mask",
        "intensity": {"kind": "zscore"},
        "labels": _labels(root / "patient_0" / "mask"),
    }
    images = [root / f"patient_{patient}" / "image" for patient in range(3)]
    return _copy("dicom", root, {"train": images}, _source({"train": split}, "segmentation"))


def _labels(mask: Path) -> dict[str, int]:
    from densekit.data import read_volume

    values = np.unique(read_volume(mask).image).astype(int).tolist()
    return {"background" if not value else f"tumour_{value}": value for value in values}


SETS: dict[str, Callable[[Path, Path], Copy]] = {
    "bccd": bccd,
    "voc100": voc100,
    "coco_small": coco_small,
    "pennfudan": pennfudan,
    "rendered": rendered,
    "camvid": camvid,
    "isbi2012": isbi2012,
    "categories": categories,
    "faces_orl": faces_orl,
    "hippocampus": hippocampus,
    "mr_brain_dicom": mr_brain_dicom,
}
"""Data set to the function that copies a part of it, or renders it."""
