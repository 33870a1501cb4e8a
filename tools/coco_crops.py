"""Objects of a COCO data set as pictures of their own, one folder per class.

The commonest classes are taken; `train2017` becomes `train`, `val2017` becomes `val`. Crowds and
small objects are left out, and of a common class some objects are drawn, so that classes are of
similar size.

    python tools/coco_crops.py source=COCO output=FOLDER
    densekit train data=image_folder paths.data=FOLDER head=classification neck=none
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SPLITS = {"train2017": "train", "val2017": "val"}
NUM_CLASSES, MIN_SIDE, MOST = 10, 48, 40
"""Of pixels for the shorter side of a box, and of objects per class and split."""


class Crop(NamedTuple):
    """An object: its class, its image and its box (x, y, width, height)."""

    name: str
    file: str
    box: tuple[float, float, float, float]


def crops(source: Path, split: str) -> list[Crop]:
    """The objects of a split that are no crowd and large enough."""
    truth = json.loads((source / f"annotations/instances_{split}.json").read_text())
    names = {item["id"]: item["name"] for item in truth["categories"]}
    files = {item["id"]: item["file_name"] for item in truth["images"]}
    return [
        Crop(names[item["category_id"]], files[item["image_id"]], tuple(item["bbox"]))
        for item in truth["annotations"]
        if not item["iscrowd"] and min(item["bbox"][2:]) >= MIN_SIDE
    ]


def drawn(found: list[Crop], names: list[str]) -> Iterator[Crop]:
    """At most `MOST` objects of each class, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    for name in names:
        own = [crop for crop in found if crop.name == name]
        for place in sorted(rng.permutation(len(own))[:MOST]):
            yield own[place]


def write(crop: Crop, number: int, source: Path, folder: Path) -> None:
    """Cuts an object out of its image and stores it as PNG."""
    x, y, width, height = crop.box
    target = folder / crop.name.replace(" ", "_")
    target.mkdir(parents=True, exist_ok=True)
    with Image.open(source / crop.file) as image:
        cut = image.convert("RGB").crop((round(x), round(y), round(x + width), round(y + height)))
    cut.save(target / f"{Path(crop.file).stem}_{number}.png")


def main(arguments: list[str]) -> None:
    """Writes the folders and prints the number of pictures per class and split."""
    options: dict[str, Any] = dict(word.split("=", 1) for word in arguments)
    source, output = Path(options["source"]), Path(options["output"])
    found = {split: crops(source, split) for split in SPLITS}
    counts = {split: Counter(crop.name for crop in of_split) for split, of_split in found.items()}
    # The commonest in the split that has fewer of them.
    least = {name: min(count[name] for count in counts.values()) for name in counts["train2017"]}
    names = sorted(least, key=lambda name: (-least[name], name))[:NUM_CLASSES]
    for split, target in SPLITS.items():
        chosen = list(drawn(found[split], names))
        for number, crop in enumerate(chosen):
            write(crop, number, source / split, output / target)
        print(target, dict(Counter(crop.name for crop in chosen)))


if __name__ == "__main__":
    main(sys.argv[1:])
