"""Reads `data.yaml`, which names the classes and the images of each split of a YOLO data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from densekit._names import nearest, unknown
from densekit._reading import parse_yaml
from densekit.data.naming import check_names
from densekit.data.reading.files import images_below, seen
from densekit.data.reading.tables import read_text

CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels")
"""Files with one class name per line that tools put beside label files."""
SETTINGS = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "colors", "channels")
"""Keys of `data.yaml` that are not splits, as far as they matter for an error message."""
_ABSENT = ("", "null", "~", "None")


@dataclass(frozen=True)
class YoloConfig:
    """The content of a `data.yaml`.

    Attributes:
        path: The file.
        names: Class names in the order of their numbers.
        splits: The entries of each split: folders, or text files that list images.
        root: `path` as the file gives it, "" if it does not.
    """

    path: Path
    names: list[str]
    splits: dict[str, list[str]]
    root: str = ""

    def images(self, split: str, key: str) -> list[Path]:
        """The image files of a split.

        Args:
            split: A split of the file.
            key: The argument that named it, for messages.

        Raises:
            ValueError: If there is no such split, or a folder, list or image of it is missing.
        """
        if split not in self.splits:
            raise ValueError(unknown(f"{key}: {self.path}", split, list(self.splits)))
        found: list[Path] = []
        for entry in self.splits[split]:
            place = _existing(entry, self._bases(), f"{self.path}: {split}")
            found += _listed(place, self._bases()) if place.is_file() else _below(place)
        return found

    def _bases(self) -> list[Path]:
        """Folders that entries may be relative to: data sets are moved, and keep their files."""
        own = self.path.parent
        return [own / self.root, own] if self.root else [own]


def read_yolo_config(path: Path, key: str) -> YoloConfig:
    """Reads a `data.yaml`.

    Args:
        path: The file.
        key: The argument that named it, for messages.

    Raises:
        ValueError: If it cannot be read, is no mapping, names no classes, or describes keypoints.
    """
    if not path.is_file() and path.parent.is_dir():
        beside = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
        there = f"; {path.parent} holds {', '.join(beside)}" * bool(beside)
        raise ValueError(f"{key}: expected an existing file, got {path}{there}")
    # BaseLoader keeps every word as written: `no` and `1` are class names.
    content = parse_yaml(read_text(path, key), path, yaml.BaseLoader)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys such as train, val and names, got {content!r:.80}")
    if "kpt_shape" in content:
        raise ValueError(f"{path}: expected boxes or polygons, got keypoints (kpt_shape)")
    splits = {
        name: _entries(value, f"{path}: {name}")
        for name, value in content.items()
        if name not in SETTINGS and isinstance(value, str | list) and value not in _ABSENT
    }
    return YoloConfig(path, _names(content, path), splits, str(content.get("path", "")))


def class_file(folders: Sequence[Path]) -> Path | None:
    """The first file of class names in the given folders; None if there is none."""
    for folder in folders:
        for name in CLASS_FILES:
            if (folder / name).is_file():
                return folder / name
    return None


def read_class_file(path: Path) -> list[str]:
    """Class names from a file of one name per line."""
    lines = [line.strip() for line in read_text(path, str(path)).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return check_names(lines, str(path))


def _names(content: dict[str, Any], path: Path) -> list[str]:
    names, count = content.get("names"), _count(content, path)
    if names in (None, *_ABSENT):
        if count is None:
            raise ValueError(f"{path}: expected the key names, got {', '.join(content)}")
        return [f"class_{number}" for number in range(count)]
    if isinstance(names, dict):
        by_number = {_whole(number, f"{path}: names"): name for number, name in names.items()}
        if sorted(by_number) != list(range(len(names))):
            expected = f"the class numbers 0 to {len(names) - 1}"
            raise ValueError(f"{path}: names: expected {expected}, got {', '.join(names)}")
        names = [by_number[number] for number in range(len(names))]
    listed = check_names(names if isinstance(names, list) else [names], f"{path}: names")
    if count is not None and count != len(listed):
        raise ValueError(f"{path}: nc: expected the {len(listed)} classes of names, got {count}")
    return listed


def _count(content: dict[str, Any], path: Path) -> int | None:
    given = content.get("nc")
    return None if given in (None, *_ABSENT) else _whole(given, f"{path}: nc")


def _whole(text: Any, key: str) -> int:
    if not isinstance(text, str) or not text.isdecimal():
        raise ValueError(f"{key}: expected whole numbers from 0, got {text!r}")
    return int(text)


def _entries(value: str | list[Any], key: str) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if wrong := [entry for entry in entries if not isinstance(entry, str)]:
        raise ValueError(f"{key}: expected folders or lists of images, got {wrong[0]!r:.80}")
    return entries


def _existing(entry: str, bases: Sequence[Path], key: str) -> Path:
    """A file or folder relative to one of the bases.

    The first part of a path is left out if nothing else helps: Roboflow writes `../train/images`
    and CVAT `data/train.txt` for what lies beside the file itself.
    """
    plain = entry.replace("\\", "/")
    shorter = plain.partition("/")[2]
    for name in (plain, shorter):
        for base in bases:
            if name and (base / name).exists():
                return base / name
    there = sorted(p.name for p in bases[-1].iterdir() if seen(p.name))
    hint = nearest(plain, there) or f"; {bases[-1]} holds {', '.join(there[:10])}"
    raise ValueError(f"{key}: expected an existing folder or list, got {entry}{hint}")


def _below(folder: Path) -> list[Path]:
    return [folder / name for name in images_below(folder)]


def _listed(path: Path, bases: Sequence[Path]) -> list[Path]:
    """The images that a text file lists, relative to it or to one of the bases."""
    lines = [line.strip() for line in read_text(path, str(path)).splitlines()]
    around = [path.parent, *bases]
    return [_existing(line, around, str(path)) for line in lines if line]
