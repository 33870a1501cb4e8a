"""Bad inputs of segmentation; see `test_bad_input.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from tests.contract.small_sets import (
    SIDE,
    Case,
    Damage,
    Done,
    both,
    every,
    noise,
    on,
    saved,
    several,
    stored,
    volume,
)

NODE = "data.mask_folder"
PATCH = f"{NODE}.train_transform.steps.patch.size"
VALIDATION = ("masks/0.png", "masks/2.png")
SHAPES = "image/mask size mismatch, every pixel ignored, sides not divisible by 32, a batch of one"
FORMS = "palette, RGB or 0/255 masks"
DEPTHS = "grey, RGBA, CMYK, 16-bit, float images"
NOTHING = "metric with nothing to measure"

COLOURS = [0, 0, 0, 128, 64, 128, 0, 0, 142]


def palette(order: tuple[int, ...]) -> Any:
    """A change that stores the classes as indices of colours, in any order."""

    def make(image: Image.Image) -> Image.Image:
        table = np.argsort(order).astype(np.uint8)
        found = Image.fromarray(table[np.array(image)], "P")
        found.putpalette([COLOURS[3 * index + c] for index in order for c in range(3)])
        return found

    return saved(make)


def coloured(path: Path) -> None:
    values = np.array(Image.open(path))
    Image.fromarray(np.array(COLOURS, np.uint8).reshape(3, 3)[values]).save(path)


def masks(change: Any) -> Damage:
    return every("masks", change)


def images(change: Any) -> Damage:
    return every("images", change)


def _values(done: Done) -> None:
    """Every pixel of every mask is a class, in the size of its image."""
    found = [np.array(Image.open(path)) for path in sorted((done.output / "masks").iterdir())]
    assert len(found) == 4
    assert {value for mask in found for value in np.unique(mask)} <= {0, 1, 2}


def _odd(done: Done) -> None:
    assert np.array(Image.open(done.output / "masks" / "0.png")).shape == (45, 51)


def _two_values(done: Done) -> None:
    found = [np.array(Image.open(path)) for path in (done.output / "masks").iterdir()]
    assert {value for mask in found for value in np.unique(mask)} <= {0, 255}


def _ignored(done: Done) -> None:
    assert done.metrics["val/loss"] == 0
    assert math.isnan(done.metrics["val/segmentation/mIoU"])
    assert math.isnan(done.metrics["val/segmentation/dice"])


def _absent(done: Done) -> None:
    """Masks without crack and dent: what a network finds there is counted, not averaged."""
    metrics = done.metrics
    found = (
        metrics["val/segmentation/invented/crack"] + metrics["val/segmentation/dice_empty/crack"]
    )
    assert found > 0
    assert metrics["val/segmentation/missed/crack"] == 0


def _tiled(done: Done) -> None:
    import tifffile

    assert tifffile.imread(done.output / "masks" / "0.tif").shape == (SIDE, SIDE)
    assert "predicted in tiles" in done.said


def _as_tiff(folder: Path) -> None:
    import tifffile

    for path in sorted((folder / "images").iterdir()):
        tifffile.imwrite(path.with_suffix(".tif"), np.array(Image.open(path)), tile=(16, 16))
        path.unlink()


def binary(*values: int) -> Damage:
    """Masks of these values instead of 0, 1, 2."""
    table = np.array(values, np.uint8)
    return masks(stored(lambda pixels: table[pixels]))


def _deep_mask(path: Path, more: int) -> None:
    values = np.array(Image.open(path)).astype(np.uint16)
    Image.fromarray(values + np.uint16(more) * (values == 2)).save(path)


def _float_mask(path: Path) -> None:
    Image.fromarray(np.array(Image.open(path)).astype(np.float32) / 2).save(path, "TIFF")


def _opaque(image: Image.Image) -> Image.Image:
    alpha = Image.fromarray(np.array(image) * 100)
    return Image.merge("LA", (Image.new("L", image.size), alpha))


ONE = ("vars.whole.names=[crack]",)
FLOATS = (
    *("+vars.whole.channels=1", "+vars.whole.dtype=float32"),
    *(f"+{NODE}.mean=[25000]", f"+{NODE}.std=[14000]"),
)

MASKS: dict[str, dict[str, Case]] = {
    FORMS: {
        "palette": Case(masks(palette((0, 1, 2))), check=_values),
        "palettes of other orders": Case(
            both(masks(palette((0, 1, 2))), on("masks/0.png", palette((0, 2, 1)))),
            "1.png: expected the colour",
        ),
        "RGB of greys": Case(masks(saved(lambda image: image.convert("RGB"))), check=_values),
        "RGB of colours": Case(masks(coloured), "expected grey values, got colours"),
        "declared colours": Case(
            masks(coloured),
            words=(
                "~vars.whole.names",
                "+vars.whole.colours={background:[0,0,0],crack:[128,64,128],dent:[0,0,142]}",
            ),
            check=_values,
        ),
        "one colour more": Case(
            both(masks(coloured), on("masks/0.png", stored(lambda pixels: pixels // 2 * 2 + 1))),
            "0.png: expected the values",
            words=(
                "~vars.whole.names",
                "+vars.whole.colours={background:[0,0,0],crack:[128,64,128],dent:[0,0,142]}",
            ),
        ),
        "0 and 255": Case(binary(0, 255, 255), words=ONE, check=_two_values),
        "0, 255 and a stray value": Case(
            both(
                binary(0, 255, 255),
                on(
                    "masks/0.png", stored(lambda pixels: np.where(noise(SIDE, SIDE) < 3, 7, pixels))
                ),
            ),
            "0.png: expected 0 and 255, as nearly everywhere",
            words=ONE,
        ),
        "a value of no class": Case(
            on("masks/0.png", stored(lambda p: np.where(p == 2, 7, p).astype(np.uint8))),
            "0.png: expected the values 0 (background), 1 (crack), 2 (dent), got 7",
        ),
        "16 bits": Case(
            masks(lambda path: _deep_mask(path, 0)),
            check=_values,
        ),
        "16 bits of no class": Case(
            on("masks/0.png", lambda path: _deep_mask(path, 1000)), "0.png: expected the values"
        ),
        "opacity": Case(on("masks/0.png", saved(_opaque)), "0.png: expected a mask in the grey"),
        "JPEG": Case(
            masks(saved(lambda image: image, format="JPEG")),
            says="expected a mask without loss, got JPEG",
        ),
        "float": Case(
            on("masks/0.png", lambda path: _float_mask(path)), "0.png: expected whole numbers"
        ),
    },
    SHAPES: {
        "a smaller mask": Case(
            on("masks/0.png", stored(lambda pixels: pixels[:50])), "0.png: expected"
        ),
        "a missing mask": Case(on("masks/0.png", lambda path: path.unlink()), "expected 0.* for"),
        "every pixel ignored": Case(
            several(VALIDATION, lambda file: on(file, stored(lambda p: np.full_like(p, 255)))),
            says="is nan",
            check=_ignored,
        ),
        "sides of 45 and 51": Case(
            both(images(stored(lambda p: p[:45, :51])), masks(stored(lambda p: p[:45, :51]))),
            check=_odd,
        ),
        "one pixel": Case(
            both(images(stored(lambda p: p[:1, :1])), masks(stored(lambda p: p[:1, :1]))),
        ),
        "a batch of one, one of them ignored": Case(
            on("masks/1.png", stored(lambda pixels: np.full_like(pixels, 255))),
            words=(f"{NODE}.batch_size=1", f"{NODE}.eval_batch_size=1", f"{PATCH}=[64,64]"),
        ),
    },
    DEPTHS: {
        "RGBA": Case(
            images(saved(lambda image: image.convert("RGBA"))), says="RGBA image converted"
        ),
        "16 bits": Case(
            images(saved(lambda image: Image.fromarray(noise(SIDE, SIDE).astype(np.uint16) * 200))),
            "expected 8 bits per channel as declared",
            predict=True,
        ),
        "declared 16 bits": Case(
            images(saved(lambda image: Image.fromarray(noise(SIDE, SIDE).astype(np.uint16) * 200))),
            words=FLOATS,
            check=_values,
        ),
    },
    NOTHING: {
        "classes that are nowhere": Case(
            several(VALIDATION, lambda file: on(file, stored(lambda pixels: pixels * 0))),
            says="has a pixel of a class besides the background",
            check=_absent,
        ),
    },
    "hundreds of boxes, huge image": {
        "tiles": Case(_as_tiff, check=_tiled),
    },
}


SEEN = ("masks/0.nii", "masks/2.nii")


def filled(value: int) -> Any:
    return lambda path: volume(path, np.full((18, 20, 16), value, np.uint8), np.eye(4))


def _with(values: dict[tuple[int, int, int], float]) -> Any:
    """A change of single voxels, as float."""

    def change(path: Path) -> None:
        found: Any = nibabel.load(path, mmap=False)
        voxels = np.asarray(found.dataobj).astype(np.float32)
        for place, value in values.items():
            voxels[place] = value
        volume(path, voxels, found.affine)

    return change


def _placed(affine: list[float]) -> Any:
    def change(path: Path) -> None:
        found: Any = nibabel.load(path, mmap=False)
        volume(path, np.asarray(found.dataobj), np.diag([*affine, 1.0]))

    return change


def _singular(path: Path) -> None:
    header = bytearray(path.read_bytes())
    header[312:328] = bytes(16)  # srow_z
    path.write_bytes(header)


def _mirrored(path: Path) -> None:
    """The same anatomy, stored from right to left."""
    found: Any = nibabel.load(path, mmap=False)
    nibabel.save(found.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), path)


def _axes(done: Done) -> None:
    """The result of the mirrored volume is mirrored like its source."""
    found: Any = nibabel.load(done.output / "masks" / "0.nii.gz")
    assert nibabel.aff2axcodes(found.affine) == ("L", "A", "S")


VOLUMES: dict[str, dict[str, Case]] = {
    "volumes": {
        "NaN voxels": Case(
            on("images/0.nii", _with({(1, 2, 3): math.nan})),
            "0.nii: expected finite voxels, got 1 of 5760 NaN",
            predict=True,
        ),
        "infinite voxels": Case(
            on("images/0.nii", _with({(1, 2, 3): math.inf})), "0.nii: expected finite", predict=True
        ),
        "mixed orientation": Case(
            both(on("images/0.nii", _mirrored), on("masks/0.nii", _mirrored)), check=_axes
        ),
        "singular affine": Case(
            both(on("images/0.nii", _singular), on("masks/0.nii", _singular)),
            "0.nii: expected an affine",
            predict=True,
        ),
        "a mask of another orientation": Case(on("masks/0.nii", _mirrored), "0.nii: expected"),
        "a mask of another spacing": Case(on("masks/0.nii", _placed([2, 1, 1])), "0.nii: expected"),
        "a mask of fractions": Case(on("masks/0.nii", _with({(1, 2, 3): 0.5})), "got [0.5]"),
        "a label of no class": Case(on("masks/0.nii", _with({(1, 2, 3): 9})), "0.nii: expected"),
        "cut": Case(
            on("images/0.nii", lambda path: path.write_bytes(path.read_bytes()[:2000])),
            "0.nii: expected 11872 bytes, got 2000: the file is cut",
            predict=True,
        ),
        "four axes": Case(
            on("images/0.nii", lambda path: volume(path, noise(9, 9, 9, 2), np.eye(4))),
            "0.nii",
            predict=True,
        ),
    },
    SHAPES: {
        "thinner than a patch": Case(
            lambda folder: [
                volume(path, noise(5, 20, 4) % 3, np.eye(4)) for path in folder.rglob("*.nii")
            ]
        ),
        "every voxel ignored": Case(
            several(SEEN, lambda file: on(file, filled(3))),
            words=tuple(f"+data.hippocampus.{split}.labels.ignore=3" for split in ("train", "val")),
            says="is nan",
        ),
    },
    NOTHING: {
        "structures that are nowhere": Case(
            several(SEEN, lambda file: on(file, filled(0))),
            check=_absent,
        ),
    },
}
