"""Finds the images, label files and class names of a YOLO data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from densekit.data.annotations.yolo_config import class_file, read_class_file, read_yolo_config
from densekit.data.reading.files import existing_folder, images_below, same_name
from densekit.data.reading.tables import read_text


@dataclass(frozen=True)
class YoloFiles:
    """The files of a split.

    Attributes:
        source: Where they were found, for messages.
        images: N image files.
        labels: The label file of each image; None for an image without objects.
        names: Class names in the order of their numbers; empty if no file names them.
    """

    source: str
    images: Sequence[Path]
    labels: Sequence[Path | None]
    names: Sequence[str]


def find_yolo_files(
    root: Path,
    split: str | None,
    key: str,
    *,
    config: str = "data.yaml",
    images: str = "images",
    labels: str | None = None,
) -> YoloFiles:
    """Finds the files of a split, or of a folder of images.

    Args:
        root: Folder of the data set.
        split: A split of the file `config`; None takes all images of the folder `images`.
        key: The data set class that reads them, for messages.
        config: The file with class names and splits, relative to `root`.
        images: Folder of the images if no split is given, relative to `root`.
        labels: Folder of the label files, relative to `root`. None looks for the file of
            `a/images/b/1.jpg` at `a/labels/b/1.txt`, else beside the image.

    Raises:
        ValueError: If a file or folder is missing, no image has a label file, or two images share
            one.
    """
    existing_folder(root, f"{key}.root")
    described = root / config
    names: list[str] = []
    if split is None:
        folder = existing_folder(root / images, f"{key}.images")
        files, source = [folder / name for name in images_below(folder)], str(folder)
        if described.is_file():
            names = read_yolo_config(described, f"{key}.config").names
    else:
        content = read_yolo_config(described, f"{key}.config")
        folder, source, names = root, f"{described} ({split})", content.names
        files = content.images(split, f"{key}.split")
    if not files:
        raise ValueError(f"{source}: expected images, got none")
    own = None if labels is None else existing_folder(root / labels, f"{key}.labels")
    texts = _beside(files) if own is None else _paired(files, folder, own)
    _check(files, texts, source)
    if not names:
        named = class_file([*filter(None, [own]), root, *_folders(texts), folder])
        names = [] if named is None else read_class_file(named)
    return YoloFiles(source, files, texts, names)


def mirrored(folder: Path) -> Path | None:
    """The folder of labels that belongs to a folder of images: its last `images` is `labels`."""
    parts = list(folder.parts)
    if "images" not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _beside(files: Iterable[Path]) -> list[Path | None]:
    @cache
    def texts(folder: Path) -> dict[str, Path]:
        labels = mirrored(folder)
        return _texts_in(labels if labels is not None and labels.is_dir() else folder)

    return [texts(file.parent).get(same_name(file.stem)) for file in files]


def _texts_in(folder: Path) -> dict[str, Path]:
    names = (entry.name for entry in os.scandir(folder))
    return {same_name(name[:-4]): folder / name for name in names if name.lower().endswith(".txt")}


def _paired(files: Iterable[Path], folder: Path, labels: Path) -> list[Path | None]:
    """Label files at the same path below their folder as the image below its own."""
    texts = cache(lambda below: _texts_in(below) if below.is_dir() else {})
    return [
        texts(labels / os.path.relpath(file.parent, folder)).get(same_name(file.stem))
        for file in files
    ]


def _check(files: Sequence[Path], texts: Sequence[Path | None], source: str) -> None:
    image_of: dict[Path, Path] = {}
    for file, text in zip(files, texts, strict=True):
        if text is not None and image_of.setdefault(text, file) != file:
            raise ValueError(
                f"{text}: expected one image of this name, got {image_of[text]} and {file}"
            )
    if not image_of:
        first = (mirrored(files[0].parent) or files[0].parent) / f"{files[0].stem}.txt"
        raise ValueError(
            f"{source}: expected label files, got none for {len(files)} images (first: {first})"
        )


def _folders(texts: Sequence[Path | None]) -> list[Path]:
    """The folders of the label files and those above them, without repeats."""
    own = dict.fromkeys(text.parent for text in texts if text is not None)
    return [*own, *dict.fromkeys(folder.parent for folder in own)]


def label_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and words of each row of a label file, without blank lines.

    Raises:
        ValueError: If it cannot be read or is not UTF-8.
    """
    lines = read_text(path, str(path)).splitlines()
    return [(n, words) for n, line in enumerate(lines, start=1) if (words := line.split())]
