"""Data sets of a few images or volumes, and the shortest training on each.

A `Case` is one bad input: how it comes about, and what `train`, `eval` and `predict` do with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
TRAINING = (
    *("backbone=resnet18", "backbone.width=8", "backbone.weights=null", "trainer.max_steps=1"),
    *("trainer.accelerator=cpu", "precision=32-true", "trainer.enable_progress_bar=false"),
    *("callbacks.pictures=null", "callbacks.progress=null", "callbacks.curves=null"),
)
CLASSES = ("background", "crack", "dent")
LABELS = "{background:0,crack:1,dent:2}"
HALVES = "vars.splits={_target_:densekit.data.SplitRule,every:2}"
"""Validation with the images 0 and 2, training with 1 and 3."""
Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        write: Writes a valid one into a folder.
        words: The shortest training on it.
        pictures: Where `predict` finds the images that `eval` reads.
    """

    write: Callable[[Path], None]
    words: tuple[str, ...]
    pictures: str


@dataclass(frozen=True)
class Done:
    """What is left of the three commands.

    Attributes:
        run: Folder of the training.
        metrics: What `eval` wrote.
        output: What `predict` wrote.
        said: What all of them printed.
    """

    run: Path
    metrics: dict[str, float]
    output: Path
    said: str


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        damage: Makes it of a valid data set.
        refused: What every command says before any work; empty for an input that is used.
        says: What is said, once, of an input that is used.
        words: Words of the training.
        predict: Whether `predict` sees the defect: it is one of images, not of annotations.
        check: Looks at what an input that is used led to.
    """

    damage: Damage
    refused: str = ""
    says: str = ""
    words: tuple[str, ...] = ()
    predict: bool = False
    check: Callable[[Done], None] = field(default=lambda done: None)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _boxes(folder: Path) -> None:
    """Four images with a box each, for training and validation."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number, pixels in enumerate(noise(4, SIDE, SIDE, 3)):
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
        content = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(4)
            ],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [9, 9, 30, 30]}
                for n in range(4)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))


def _masks(folder: Path) -> None:
    """Four images and masks of three classes."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, pixels in enumerate(noise(4, SIDE, SIDE, 3)):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(pixels[:, :, 0] % 3).save(folder / "masks" / f"{number}.png")


def volume(path: Path, values: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Writes a NIfTI file, values by (x, y, z)."""
    image: Any = nibabel.Nifti1Image
    nibabel.save(image(values, affine), path)


def _volumes(folder: Path) -> None:
    """Four volumes and masks of three classes."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, values in enumerate(noise(4, 18, 20, 16)):
        volume(folder / "images" / f"{number}.nii", values.astype(np.int16), np.eye(4))
        volume(folder / "masks" / f"{number}.nii", values % 3, np.eye(4))


def _categories(folder: Path) -> None:
    """Four images of two classes, for training and validation."""
    for split in ("train", "val"):
        for number, pixels in enumerate(noise(4, SIDE, SIDE, 3)):
            file = folder / split / ("cat", "dog")[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def _of(name: str, batch: int = 2) -> tuple[str, ...]:
    options = ("num_workers=0", f"batch_size={batch}", f"eval_batch_size={batch}")
    return (*TRAINING, f"data={name}", *(f"data.{name}.{option}" for option in options))


KINDS = {
    "boxes": Kind(
        _boxes,
        (
            *(*_of("coco_folder"), "head=faster_rcnn_small", "neck.out_channels=16"),
            *(f"resize.min_size={SIDE}", f"resize.max_size={SIDE}"),
        ),
        "val",
    ),
    "masks": Kind(
        _masks,
        (
            *(*_of("mask_folder"), "head=fcn", "neck=none", "data.mask_folder.test=null", HALVES),
            *(f"+vars.whole.names=[{','.join(CLASSES)}]", "metrics=[segmentation,medical]"),
            "data.mask_folder.train_transform.steps.patch.size=[32,32]",
        ),
        "images",
    ),
    "volumes": Kind(
        _volumes,
        (
            *(*_of("hippocampus"), "data.hippocampus.test=null", HALVES),
            *(f"data.hippocampus.{split}.root=${{paths.data}}" for split in ("train", "val")),
            *(f"+data.hippocampus.{split}.labels={LABELS}" for split in ("train", "val")),
            "data.hippocampus.train.cache=null",
            *("head=unet", "neck=none", "metrics=medical", "backbone.stem=half"),
            "heads.segmentation.decoder_channels=[8,8,8,8,8]",
            "data.hippocampus.train_transform.steps.patch.size=[16,16,16]",
            "data.hippocampus.train_transform.steps.augment=null",
        ),
        "images",
    ),
    "categories": Kind(
        _categories,
        (
            *(*_of("image_folder"), "head=classification", "neck=none"),
            f"resize={{min_size:{SIDE},crop:{SIDE},antialias:true}}",
            "data.image_folder.train_transform.steps.RandomResizedCrop.size=32",
        ),
        "val",
    ),
}


def edit(file: str, change: Callable[[Any], object]) -> Damage:
    """Changes the content of a JSON file."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return damage


def on(file: str, change: Callable[[Path], object]) -> Damage:
    """Changes one file."""
    return lambda folder: change(folder / file)


def every(folder: str, change: Callable[[Path], object]) -> Damage:
    """Changes every file of a folder."""
    return lambda root: [change(path) for path in sorted((root / folder).iterdir())]


def saved(make: Callable[[Image.Image], Image.Image], **options: Any) -> Callable[[Path], None]:
    """A change that saves an image in another form, under its old name."""

    def change(path: Path) -> None:
        with Image.open(path) as image:
            image.load()
        options_here = {"format": "PNG", **options}
        make(image).save(path, **options_here)

    return change


def stored(make: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Path], None]:
    """A change of the pixels of a PNG."""
    return saved(lambda image: Image.fromarray(make(np.array(image))))


def both(*damages: Damage) -> Damage:
    """One change after the other."""
    return lambda folder: [damage(folder) for damage in damages]


def several(names: tuple[str, ...], change: Callable[[str], Damage]) -> Damage:
    """The same change to several files."""
    return both(*map(partial(change), names))
