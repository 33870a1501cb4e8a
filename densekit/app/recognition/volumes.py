"""Recognises volumes: `dataset.json` of MSD and nnU-Net, and folders of images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densekit.app.recognition.found import WHOLE, Found, below, node
from densekit.app.recognition.tree import Tree, by_folder
from densekit.data.fingerprint import spread
from densekit.data.medical.description import read_description
from densekit.data.medical.volume_files import is_volume_file
from densekit.data.medical.volumes import read_volume

SAMPLED = 10
"""Masks that are read where no file names the classes."""
SCALED = {"kind": "zscore"}
"""The scale of magnetic resonance images differs from file to file; densekit plan knows CT."""
PAIRS = (("images", "masks"), ("imagesTr", "labelsTr"), ("images", "labels"), ("image", "label"))


def recognise(tree: Tree) -> list[Found]:
    """Volumes with masks."""
    if file := _description(tree):
        content = read_description(tree.root / file)
        kind = "nnU-Net" if "file_ending" in content else "Decathlon (MSD)"
        root = tree.root / Path(file).parent
        text = f"volumes of {kind}, described by {file}"
        whole = node("MedicalVolumes", root=below(""), intensity=SCALED)
        return [Found("volumes", text, "volumes", root, {WHOLE: whole})]
    return [] if tree.only else _pairs(tree)


def _description(tree: Tree) -> str:
    """The `dataset.json` nearest to the root; "" without one that lists volumes."""
    files = [file for file in tree.named(".json") if Path(file).name == "dataset.json"]
    for file in sorted(files, key=lambda name: name.count("/")):
        try:
            content = read_description(tree.root / file)
        except ValueError:
            continue
        if "file_ending" in content or "training" in content:
            return file
    return ""


def _pairs(tree: Tree) -> list[Found]:
    """A folder of volumes and one of masks of the same names."""
    volumes = by_folder(f for f in tree.files if is_volume_file(Path(f)))
    for images, masks in PAIRS:
        if not volumes.get(images) or not volumes.get(masks):
            continue
        labels = _labels([tree.root / file for file in volumes[masks]])
        names = {"channels": [] if images == "images" else [images]}
        mask = None if masks == "masks" else masks
        whole = node(
            "MedicalVolumes", root=below(""), mask=mask, labels=labels, intensity=SCALED, **names
        )
        text = f"volumes in {images} with masks in {masks}"
        return [Found("volumes", text, "volumes", tree.root, {WHOLE: whole})]
    return []


def _labels(masks: list[Path]) -> dict[str, int]:
    """A name for every value of the masks."""
    found: set[int] = set()
    for index in spread(len(masks), SAMPLED):
        values = np.unique(read_volume(masks[index]).image)
        found.update(int(value) for value in values if float(value).is_integer())
    return {"background" if value == 0 else f"class_{value}": value for value in sorted(found)}
