"""Small data sets on disk, written anew for each test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

VOC_OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes (H, W) random pixels of a mode; keyword arguments go to Pillow's `save`."""

    def write(path: Path, size: tuple[int, int] = (40, 60), mode: str = "RGB", **save: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = len(Image.new(mode, (1, 1)).getbands())
        pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
        Image.fromarray(pixels.squeeze(), mode=None if mode != "CMYK" else mode).save(path, **save)
        return path

    return write


@pytest.fixture
def coco(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """Writes a COCO data set; returns the arguments that open it."""

    def write(
        annotations: list[dict[str, Any]], *, images: int = 2, name: str = "a.json"
    ) -> dict[str, Any]:
        records = [
            {"id": 10 * (i + 1), "file_name": f"{i}.png", "height": 40, "width": 60}
            for i in range(images)
        ]
        for record in records:
            write_image(tmp_path / "images" / record["file_name"])
        full = [
            {"id": i, "image_id": 10, "category_id": 3, "bbox": [1, 2, 10, 20]} | annotation
            for i, annotation in enumerate(annotations, start=1)
        ]
        content = {
            "images": records,
            "annotations": full,
            "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        }
        (tmp_path / name).write_text(json.dumps(content))
        return {"root": tmp_path, "images": "images", "annotations": name}

    return write


@pytest.fixture
def voc(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a VOC data set of images with (name, box, difficult) objects; returns its root."""

    def write(*images: list[tuple[str, list[Any], int]], split: str = "train") -> Path:
        for folder in ("Annotations", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for number, objects in enumerate(images):
            write_image(tmp_path / "JPEGImages" / f"im{number}.jpg")
            xml = "".join(VOC_OBJECT.format(name=n, box=b, difficult=d) for n, b, d in objects)
            size = "<size><width>60</width><height>40</height></size>"
            text = f"<annotation>{size}{xml}</annotation>"
            (tmp_path / "Annotations" / f"im{number}.xml").write_text(text)
        names = "".join(f"im{number}\n" for number in range(len(images)))
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
        return tmp_path

    return write


@pytest.fixture
def pair(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., Path]:
    """Writes an image (6, 8) and a mask whose first row is of a class; returns the root."""

    def write(image: str, mask: str, value: int = 1, size: tuple[int, int] = (6, 8)) -> Path:
        write_image(tmp_path / image, (6, 8))
        array = np.zeros(size, dtype=np.uint8)
        array[0] = value
        (tmp_path / mask).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / mask)
        return tmp_path

    return write


@pytest.fixture
def msd(tmp_path: Path) -> Path:
    """A small data set as the Medical Segmentation Decathlon lays it out."""
    from tests.unit.data.medical_files import write_msd

    return write_msd(tmp_path / "msd")
