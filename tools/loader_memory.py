"""Memory of a training loader over epochs: what its processes do not share with others.

A COCO file of many annotations on small images is written to a temporary folder and read with
workers. The private memory of all processes (USS) grows if the workers copy what they only read, or
keep what they have read. The proportional set size (PSS) would also grow when other programs end
that share libraries with these.

Growth is more than 1 percent within the last third of the epochs, which is less than 40 bytes per
image. Before, there is one step of 3.7 MiB per process: Python keeps a table of the strings that
`sys.intern` has seen, `pathlib` interns every file name, and when the table that was shared with
the parent is full, every process makes its own. Names that are no longer used leave it, so that it
does not grow further.

    python tools/loader_memory.py annotations=100000 workers=8 epochs=12
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from densekit.data import CocoDetection, Source

SIDE = 64
EACH = 10
"""Annotations per image."""


def write_coco(folder: Path, annotations: int) -> Path:
    """Writes images, all links to one file, and their annotations; returns the JSON file."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    first = folder / "0.png"
    Image.fromarray(pixels).save(first)
    images = [
        {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
        for i in range(annotations // EACH)
    ]
    for image in images[1:]:
        (folder / str(image["file_name"])).hardlink_to(first)
    boxes = [
        {"id": i + 1, "image_id": i // EACH, "category_id": 1, "iscrowd": 0, "area": 64.0}
        | {"bbox": [float(i % 50), float(i % 40), 8.0, 8.0]}
        for i in range(annotations)
    ]
    file = folder / "instances.json"
    categories = [{"id": 1, "name": "thing"}]
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return file


def memory() -> float:
    """Private memory of this process and its children, MiB."""
    own = psutil.Process()
    shares = [one.memory_full_info().uss for one in (own, *own.children(recursive=True))]
    return float(sum(shares)) / 2**20


def main(words: list[str]) -> int:
    """Prints the memory after each epoch; returns 1 if the last third grew by over 1 percent."""
    options = {"annotations": "100000", "workers": "8", "epochs": "12"}
    options |= dict(word.split("=", 1) for word in words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = CocoDetection(folder, ".", write_coco(folder, int(options["annotations"])).name)
        source = Source(train=data, batch_size=16, num_workers=int(options["workers"]))
        loader, after = source.train_loader(), []
        print(f"before: {memory():.0f} MiB")
        for epoch in range(int(options["epochs"])):
            images = sum(len(batch["key"]) for batch in loader)
            after.append(memory())
            print(f"epoch {epoch + 1}: {images} images, {after[-1]:.0f} MiB", flush=True)
        return int(after[-1] > 1.01 * after[-1 - len(after) // 3])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
