"""Bad inputs of detectors and classifiers; see `test_bad_input.py`."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.contract.small_sets import (
    SIDE,
    Case,
    Damage,
    Done,
    both,
    edit,
    every,
    noise,
    on,
    saved,
    several,
    stored,
)

FILES = ("train.json", "val.json")


def annotation(**values: Any) -> Damage:
    return edit("val.json", lambda content: content["annotations"][1].update(values))


def record(**values: Any) -> Damage:
    return edit("val.json", lambda content: content["images"][1].update(values))


def text(content: str) -> Damage:
    return lambda folder: (folder / "val.json").write_text(content)


def everywhere(**values: Any) -> Damage:
    """Changes annotation 1 of both splits."""
    return several(
        FILES, lambda file: edit(file, lambda content: content["annotations"][1].update(values))
    )


def emptied(file: str) -> Damage:
    return edit(file, lambda content: content.update(annotations=[]))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _ids(done: Done) -> None:
    """Results have the ids of the data set, with their gaps."""
    results = json.loads((done.output / "results.json").read_text())
    assert {result["category_id"] for result in results} <= {1, 90}


def _gaps(content: dict[str, Any]) -> None:
    content["categories"][1]["id"] = 90
    for entry in content["annotations"]:
        entry["category_id"] = {1: 1, 2: 90}[entry["category_id"]]


def _crowd(done: Done) -> None:
    """A region of many objects is none of the objects that can be found or missed."""
    assert not math.isnan(done.metrics["val/detection/AP/cat"])
    assert math.isnan(done.metrics["val/detection/AP/dog"])


def _no_truth(done: Done) -> None:
    assert math.isnan(done.metrics["val/detection/AP"])
    assert math.isfinite(done.metrics["val/loss"])


def _many(content: dict[str, Any]) -> None:
    chosen = np.random.default_rng(0)
    corners, sides = chosen.integers(0, 40, (700, 2)), chosen.integers(3, 20, (700, 2))
    content["annotations"] = [
        {"id": n, "image_id": 0, "category_id": 1 + n % 2, "bbox": [*corner, *side]}
        for n, (corner, side) in enumerate(zip(corners.tolist(), sides.tolist(), strict=True))
    ]


def turned(path: Path) -> None:
    """A portrait that is stored as a landscape, as cameras do."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(48, SIDE, 3)).save(path, exif=exif)


def _sizes(height: int, width: int) -> Damage:
    return several(
        FILES,
        lambda file: edit(
            file, lambda content: content["images"][1].update(height=height, width=width)
        ),
    )


def _portrait(done: Done) -> None:
    """Boxes lie in the upright image of 64 x 48 pixels."""
    results = json.loads((done.output / "results.json").read_text())
    images = json.loads((done.output / "images.json").read_text())
    (seen,) = [image for image in images if image["file_name"].endswith("1.png")]
    assert (seen["height"], seen["width"]) == (SIDE, 48)
    boxes = [result["bbox"] for result in results if result["image_id"] == seen["id"]]
    assert all(x + width <= 48.01 for x, _, width, _ in boxes)


TURNED = both(on("train/1.png", turned), on("val/1.png", turned))
HALF = on("val/1.png", lambda path: path.write_bytes(path.read_bytes()[:9000] + bytes(3000)))
OUTLINES = ("vars.train.instance_masks=true", "vars.val.instance_masks=true")
FLOATS = ("+vars.train.dtype=float32", "+vars.val.dtype=float32")

BOXES: dict[str, dict[str, Case]] = {
    "inverted, zero-area, NaN or out-of-image box": {
        "NaN": Case(annotation(bbox=[math.nan, 1, 2, 3]), "annotation 1"),
        "NaN as text": Case(annotation(bbox=["NaN", 1, 2, 3]), "annotation 1"),
        "a box of text": Case(annotation(bbox="1 2 3 4"), "annotation 1"),
        "a number beyond floats": Case(
            annotation(bbox=[10**400, 1, 2, 3]), "val.json: expected JSON"
        ),
        "inverted": Case(everywhere(bbox=[40, 40, -9, -9]), says="1 x box inverted or without"),
        "no area": Case(everywhere(bbox=[9, 9, 0, 5]), says="1 x box inverted or without area"),
        "outside": Case(everywhere(bbox=[500, 500, 9, 9]), says="1 x box outside its image"),
        "partly outside": Case(everywhere(bbox=[-5, -5, 90, 90]), says="1 x box clipped to its"),
        "strict": Case(
            everywhere(bbox=[9, 9, 0, 5]),
            "expected no defect (strict=True)",
            words=("+vars.train.strict=true", "+vars.val.strict=true"),
        ),
    },
    "image without objects": {
        "in training": Case(emptied("train.json"), says="train: 4 images"),
        "an image of several": Case(
            several(FILES, lambda file: edit(file, lambda content: content["annotations"].pop()))
        ),
    },
    "category id gaps, unknown class, label out of range": {
        "gaps": Case(several(FILES, lambda file: edit(file, _gaps)), check=_ids),
        "unknown class": Case(annotation(category_id=9), "category_id: expected one of"),
        "negative class": Case(annotation(category_id=-1), "category_id: expected one of"),
        "class by name": Case(annotation(category_id="cat"), "category_id: expected"),
        "fewer classes than the data": Case(
            lambda folder: None,
            "heads.detection.num_classes: expected",
            words=("heads.detection.num_classes=1",),
        ),
        "an id twice": Case(record(id=0), "val.json: "),
        "an image twice": Case(
            edit("val.json", lambda content: content["images"].append({**content["images"][1]})),
            "val.json: ",
        ),
    },
    "`iscrowd`, polygons under 3 points, broken RLE": {
        "crowd": Case(
            edit("val.json", lambda c: [e.update(iscrowd=1) for e in c["annotations"][1::2]]),
            check=_crowd,
        ),
        "a polygon of two points": Case(
            everywhere(segmentation=[[1, 1, 9, 9]]), says="box kept", words=OUTLINES
        ),
        "broken RLE": Case(
            everywhere(segmentation={"size": [SIDE, SIDE], "counts": [5, 7]}),
            says="box kept",
            words=OUTLINES,
        ),
    },
    "missing or truncated image": {
        "missing": Case(record(file_name="9.png"), "9.png"),
        "a name without end": Case(record(file_name="x" * 5000), "val.json"),
        "a name of NUL": Case(record(file_name="1\0.png"), "val.json"),
        "half": Case(HALF, "1.png: expected a readable image", predict=True),
        "empty": Case(
            on("val/1.png", lambda path: path.write_bytes(b"")), "1.png: expected", predict=True
        ),
        "a folder": Case(
            on("val/1.png", lambda path: (path.unlink(), path.mkdir())), "1.png: expected"
        ),
        "a link to itself": Case(
            on("val/1.png", lambda path: (path.unlink(), path.symlink_to(path.name))), "1.png"
        ),
        "a pipe": Case(on("val/1.png", pipe), "1.png"),
        "no image at all": Case(
            edit("val.json", lambda content: content.update(images=[], annotations=[])),
            "val: expected at least one image, got none",
        ),
    },
    "no annotations": {
        "nested without end": Case(text("[" * 100_000), "val.json: expected JSON"),
        "page of a portal": Case(text("<html>Sign in</html>"), "val.json: expected JSON"),
        "a comma too many": Case(text('{"images": [],}'), "val.json: expected JSON"),
        "Windows": Case(
            several(
                FILES,
                lambda file: on(
                    file,
                    lambda path: path.write_bytes(
                        b"\xef\xbb\xbf" + path.read_bytes().replace(b"}, ", b"},\r\n")
                    ),
                ),
            )
        ),
    },
    "EXIF rotation": {
        "annotated upright": Case(
            both(TURNED, _sizes(SIDE, 48)),
            says="EXIF orientation 6 applied",
            predict=True,
            check=_portrait,
        ),
        "annotated as stored": Case(
            both(TURNED, _sizes(48, SIDE)), says="EXIF orientation 6 not applied", predict=True
        ),
        "annotated as neither": Case(
            both(on("val/1.png", turned), record(height=50)),
            "1.png: expected the annotated height x width",
        ),
    },
    "image/mask size mismatch, every pixel ignored, sides not divisible by 32, a batch of one": {
        "other size": Case(record(height=32), "1.png: expected the annotated height x width"),
        "a batch of one": Case(
            lambda folder: None,
            words=("data.coco_folder.batch_size=1", "data.coco_folder.eval_batch_size=1"),
        ),
    },
    "hundreds of boxes, huge image": {
        "700 boxes": Case(several(FILES, lambda file: edit(file, _many))),
    },
    "metric with nothing to measure": {
        "no object": Case(
            emptied("val.json"),
            says="CocoMap is nan: none of 4 images has an annotated box",
            check=_no_truth,
        ),
    },
}

GREY = (
    *("+data.image_folder.train.channels=1", "+data.image_folder.val.channels=1"),
    *("+data.image_folder.mean=[30000]", "+data.image_folder.std=[9000]"),
)
DEEP = ("+data.image_folder.train.dtype=float32", "+data.image_folder.val.dtype=float32")
ONE = ("data.image_folder.batch_size=1", "data.image_folder.eval_batch_size=1")
CROP = "data.image_folder.train_transform.steps.RandomResizedCrop.size"
CATS = ("train/cat", "val/cat")
DOGS = ("train/dog", "val/dog")


def _all(change: Any) -> Damage:
    return several((*CATS, *DOGS), lambda folder: every(folder, change))


def _form(mode: str, **options: Any) -> Damage:
    """Saves every image in another mode."""
    return _all(saved(lambda image: image.convert(mode), **options))


def _deep(path: Path) -> None:
    Image.fromarray(noise(SIDE, SIDE).astype(np.uint16) * 257).save(path, "PNG")


def _floats(path: Path) -> None:
    Image.fromarray(noise(SIDE, SIDE).astype(np.float32) / 7).save(path, "TIFF")


def _with_nan(path: Path) -> None:
    pixels = noise(SIDE, SIDE).astype(np.float32)
    pixels[3, 4] = np.nan
    Image.fromarray(pixels).save(path, "TIFF")


CATEGORIES: dict[str, dict[str, Case]] = {
    "category id gaps, unknown class, label out of range": {
        "a class of validation alone": Case(
            lambda folder: (folder / "val" / "dog").rename(folder / "val" / "dogs"), "dogs"
        ),
        "a class without images": Case(
            lambda folder: [(folder / part / "emu").mkdir() for part in ("train", "val")], "emu"
        ),
    },
    "missing or truncated image": {
        "half": Case(
            on("val/cat/0.png", lambda path: path.write_bytes(path.read_bytes()[:5000])),
            "0.png: expected a readable image",
            predict=True,
        ),
    },
    "grey, RGBA, CMYK, 16-bit, float images": {
        "grey for colour": Case(_form("L"), says="L image converted to the declared RGB"),
        "declared grey": Case(_form("L"), words=GREY, predict=True),
        "colour for grey": Case(
            lambda folder: None, says="RGB image converted to the declared L", words=GREY
        ),
        "RGBA": Case(_form("RGBA"), says="RGBA image converted to the declared RGB"),
        "grey with opacity": Case(_form("LA"), says="LA image converted to the declared RGB"),
        "black and white": Case(_form("1"), says="1 image converted to the declared RGB"),
        "CMYK": Case(_form("CMYK", format="JPEG"), says="CMYK image converted to the declared RGB"),
        "16 bits": Case(_all(_deep), "expected 8 bits per channel as declared", predict=True),
        "16 bits of one file": Case(
            on("val/cat/0.png", _deep), "0.png: expected 8 bits per channel", predict=True
        ),
        "declared 16 bits": Case(_all(_deep), words=(*GREY, *DEEP), predict=True),
        "float": Case(_all(_floats), "expected 8 bits per channel as declared", predict=True),
        "declared float": Case(_all(_floats), words=(*GREY, *DEEP), predict=True),
    },
    "NaN or infinite loss": {
        "NaN pixels": Case(
            _all(_with_nan),
            "expected finite values, got 1 NaN",
            words=(*GREY, *DEEP),
        ),
    },
    "image/mask size mismatch, every pixel ignored, sides not divisible by 32, a batch of one": {
        "a pixel wide": Case(_all(stored(lambda pixels: pixels[:, :1])), predict=True),
        "a batch of one": Case(lambda folder: None, words=(*ONE, f"{CROP}=64")),
        "a batch of one value": Case(
            lambda folder: None,
            "batch_size: expected more than one value per channel for a batch norm, got [1, 64, 1",
            words=(*ONE, f"{CROP}=32"),
        ),
    },
}
