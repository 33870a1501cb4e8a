"""Recognises Pascal VOC: XML files beside images, and index masks in its folders."""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import unescape

from densekit.app.recognition.found import WHOLE, Found, node
from densekit.app.recognition.tree import Tree, by_split, common_folder, likeness, stems

_LOOKED_AT = 5
_FOLDERS = 100
"""Most folders of images that are compared with the XML files."""
_NAME = re.compile(r"<object>.*?<name>\s*(.*?)\s*</name>", re.DOTALL)
_HEAD = 4096


def recognise(tree: Tree) -> list[Found]:
    """Boxes in XML files."""
    files = [] if tree.only else tree.named(".xml")
    if not files or not examples(tree):
        return []
    folder = common_folder(files)
    places = _by_folder_of_split(files)
    pairs = {split: (_images(tree, xml), xml) for split, xml in places.items()}
    if any(images is None for images, _ in pairs.values()):
        return []
    lists = _split_lists(tree, "ImageSets/Main")
    if (tree.root / "Annotations").is_dir() and lists:
        splits = {s: node("VocDetection", root="{root}", split=name) for s, name in lists.items()}
        return [Found("voc", "VOC XML with ImageSets/Main", "boxes", tree.root, splits)]
    names = _classes(tree.root, files) if len(places) > 1 else None
    splits = {
        split: node("VocDetection", root="{root}", images=images, annotations=xml, names=names)
        for split, (images, xml) in pairs.items()
    }
    text = f"VOC XML in {folder or '.'}: {len(files):,} files"
    return [Found("voc", text, "boxes", tree.root, splits)]


def examples(tree: Tree) -> list[str]:
    """The first XML files that are VOC's, if most are; a stray one of a tool does not count."""
    files = tree.named(".xml")[:_LOOKED_AT]
    found = [file for file in files if _is_voc(tree.root / file)]
    return found if 2 * len(found) > len(files) else []


def recognise_masks(tree: Tree) -> list[Found]:
    """Masks in the folders of VOC."""
    lists = _split_lists(tree, "ImageSets/Segmentation")
    if tree.only or not lists or not (tree.root / "SegmentationClass").is_dir():
        return []
    splits = {s: node("VocSegmentation", root="{root}", split=name) for s, name in lists.items()}
    text = "VOC masks in SegmentationClass with ImageSets/Segmentation"
    return [Found("voc_masks", text, "masks", tree.root, splits)]


def _split_lists(tree: Tree, folder: str) -> dict[str, str]:
    """The list of each split; `trainval` stands for train only if there is no `train`."""
    names = {file.rpartition("/")[2][:-4] for file in tree.files if file.startswith(f"{folder}/")}
    found: dict[str, str] = {s: s for s in ("train", "val", "test") if s in names}
    if "train" not in found and "trainval" in names:
        found = {"train": "trainval", **found}
    return found if "train" in found else {}


def _by_folder_of_split(files: list[str]) -> dict[str, str]:
    """The folder of XML files of each split, or that of all."""
    named = by_split({file.rpartition("/")[0] + "/": None for file in files})
    if "train" in named and "" not in named:
        return {split: common_folder(of) or "." for split, of in named.items()}
    return {WHOLE: common_folder(files) or "."}


def _images(tree: Tree, xml: str) -> str | None:
    """The folder whose images have the names of the XML files; None without one."""
    prefix = "" if xml == "." else f"{xml}/"
    wanted = stems(
        f[len(prefix) :] for f in tree.files if f.startswith(prefix) and f.lower().endswith(".xml")
    )
    counts = {}
    folders = list(dict.fromkeys([xml, *map(_parent, tree.image_folders), *tree.image_folders]))
    for folder in folders[:_FOLDERS]:
        start = "" if folder in ("", ".") else f"{folder}/"
        own = stems(image[len(start) :] for image in tree.images if image.startswith(start))
        counts[folder] = len(own & wanted)
    best = max(counts, key=lambda folder: (counts[folder], *likeness(folder, f"{xml}/")))
    return (best or ".") if counts[best] else None


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _is_voc(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotation" in file.read(_HEAD)
    except OSError:
        return False


def _classes(root: Path, files: list[str]) -> list[str]:
    """All classes, so that the splits agree."""
    texts = ((root / file).read_text(encoding="utf-8", errors="replace") for file in files)
    return sorted({unescape(name) for text in texts for name in _NAME.findall(text) if name})
