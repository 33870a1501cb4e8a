"""Assigns COCO ids to the images to predict, from an annotation file or the file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from densekit._reading import read_json
from densekit.app.errors import UsageError
from densekit.app.options.shared import existing
from densekit.data.reading.files import same_name


class Listed(NamedTuple):
    """Id and annotated size of an image that is not opened yet.

    Attributes:
        id: COCO id.
        size: Annotated height and width, None if not annotated; it decides whether EXIF rotation
            applies, as in training and evaluation.
    """

    id: int
    size: tuple[int, int] | None = None


def listed_images(files: Sequence[Path], annotations: str | None) -> list[Listed]:
    """Returns COCO image ids: from an annotation file, else numeric file names, else 1, 2, 3.

    Args:
        files: Images, relative to the folder that was searched.
        annotations: COCO JSON; its `file_name`s match images by path, else by name.

    Raises:
        UsageError: The file is not COCO JSON, or an image has no entry or several.
    """
    if annotations is None:
        stems = [file.stem for file in files]
        numbered = all(stem.isdecimal() for stem in stems)
        ids = [int(stem) for stem in stems] if numbered else []
        unique = ids and len(set(ids)) == len(ids)
        return [Listed(i) for i in (ids if unique else range(1, len(files) + 1))]
    by_path = _of_annotations(existing("annotations", annotations), annotations)
    named = [Path(same_name(str(file))) for file in files]
    return [by_path[path] for path in _matched(named, list(by_path), annotations)]


def _matched(files: Sequence[Path], listed: Sequence[Path], annotations: str) -> list[Path]:
    """Returns the entry of each image: that of the same path, else the only one of that name."""
    by_name: dict[str, list[Path]] = {}
    for path in listed:
        by_name.setdefault(path.name, []).append(path)
    known = set(listed)
    found = {file: [file] if file in known else by_name.get(file.name, []) for file in files}
    unknown = [file for file, paths in found.items() if not paths]
    if unknown:
        raise UsageError(
            f"{annotations}: expected the file name of every image, got none of {len(unknown)} of"
            f" {len(files)} images, for example {unknown[0]}"
        )
    taken: dict[Path, Path] = {}
    for file, paths in found.items():
        other = taken.setdefault(paths[0], file)
        if len(paths) > 1 or other != file:
            rivals = paths if len(paths) > 1 else [other, file]
            raise UsageError(
                f"{annotations}: expected one entry for {file}, got {rivals[0]} and {rivals[1]} of"
                " the same name; choose source= so that paths equal the file names of the entries"
            )
    return [found[file][0] for file in files]


def _of_annotations(file: Path, annotations: str) -> dict[Path, Listed]:
    """Reads a COCO file: file name to id and size of each image."""
    try:
        content = read_json(file)
        return {Path(same_name(image["file_name"])): _listed(image) for image in content["images"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{annotations}: expected COCO JSON whose images have file_name and id, got {error!r}"
        ) from error


def _listed(image: Mapping[str, Any]) -> Listed:
    number = image["id"]
    if isinstance(number, float) and (not number.is_integer() or abs(number) > 2**53):
        raise ValueError(f"id: expected a whole number, got {number!r}")
    height, width = image.get("height"), image.get("width")
    return Listed(int(number), (int(height), int(width)) if height and width else None)
