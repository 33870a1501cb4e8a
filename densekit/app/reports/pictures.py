"""The pixels of the images that a page shows, read as the data sets read them, kept small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit.app.reports.blocks import Box, ImageKey
from densekit.app.reports.folder import Run
from densekit.build import find_class, instantiate
from densekit.data.medical.volume_files import is_volume_file
from densekit.data.medical.volumes import read_volume
from densekit.data.protocols import Dataset
from densekit.data.reading.images import ImageReader
from densekit.data.reading.stacks import read_stack
from densekit.trust import check_stored
from densekit.visualization.images import to_grey, to_rgb
from densekit.visualization.planes import as_picture

SIDE = 512
"""Longer side of a picture that is kept."""
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Pixmap:
    """What is shown of an image.

    Attributes:
        picture: At most `SIDE` pixels per side; None if it cannot be shown.
        frame: Left, top, width and height of it, in pixels of the original image; None if unknown.
        reason: Why there is no picture.
    """

    picture: Image.Image | None
    frame: Box | None
    reason: str = ""


class Pictures:
    """Reads the images of an evaluation, and other pictures of a run.

    Args:
        run: The run.
        trust: Packages whose data sets may be built.
    """

    def __init__(self, run: Run, trust: tuple[str, ...] = ()) -> None:
        self._run = run
        self._trust = trust
        self._made: dict[ImageKey, Pixmap] = {}

    def of(self, key: ImageKey) -> Pixmap:
        """The pixels of an image, read once."""
        if key not in self._made:
            try:
                with _silent(logging.getLogger("densekit.data")):
                    self._made[key] = _pixmap(self._read(key), key.region)
            except Exception as error:  # readers raise anything; a report names it and goes on
                self._made[key] = Pixmap(None, None, _reason(error))
        return self._made[key]

    def _read(self, key: ImageKey) -> Pixels:
        """(H, W, 3) uint8 of any image."""
        evaluation = self._run.evaluation
        name = key.file
        if not name and evaluation is not None:
            name = evaluation.paths.get(key.data, {}).get(key.image_id, "")
        if rendered := self._rendered.get(key.data):
            return as_picture(np.asarray(rendered()[key.image_id]["image"]))
        path = Path(name)
        if not name or not path.exists():
            raise FileNotFoundError("not found")
        if is_volume_file(path) or path.is_dir() or path.suffix.lower() in (".dcm", ".dicom"):
            grey = to_grey(read_volume(path).image[..., 0])
            return to_rgb(grey[len(grey) // 2 if key.slice is None else key.slice])
        return to_rgb(_image(path))

    @cached_property
    def _rendered(self) -> dict[str, Callable[[], Dataset]]:
        """Data sets of the run that read no files, to what builds them."""
        if self._run.evaluation is None:
            return {}
        stage, found = self._run.evaluation.stage, {}
        for name, node in (self._run.config.get("data") or {}).items():
            own = node.get(stage) if isinstance(node, Mapping) else None
            if isinstance(own, Mapping) and self._reads_no_files(own):
                found[name] = _once(own, f"data.{name}.{stage}")
        return found

    def _reads_no_files(self, node: Mapping[str, Any]) -> bool:
        try:
            source = {"_target_": "densekit.data.Source", "test": dict(node)}
            check_stored({"data": {"shown": source}}, self._trust)
            return not find_class(str(node["_target_"]), trust=self._trust).reads_files  # type: ignore[attr-defined]
        except (ValueError, KeyError, AttributeError, ImportError):
            return False


@contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Silences what the run has already been told of its images."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _once(node: Mapping[str, Any], key: str) -> Callable[[], Dataset]:
    built: list[Dataset] = []

    def build() -> Dataset:
        if not built:
            built.append(instantiate(node, key))
        return built[0]

    return build


def _image(path: Path) -> Pixels:
    """(H, W, C) of 8 bits, else of more, else of any number of channels."""
    try:
        return ImageReader(3)(path)
    except ValueError as error:
        for read in (ImageReader(1, "float32"), read_stack):
            try:
                return read(path)
            except ValueError:
                continue
        raise error


def _pixmap(pixels: Pixels, region: Box | None) -> Pixmap:
    height, width = pixels.shape[:2]
    left, top, right, bottom = _inside(region, width, height)
    image = Image.fromarray(pixels).crop((left, top, right, bottom))
    scale = min(1.0, SIDE / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    small = image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else image
    return Pixmap(small, (left, top, right - left, bottom - top))


def _inside(region: Box | None, width: int, height: int) -> tuple[int, int, int, int]:
    if region is None:
        return 0, 0, width, height
    left, top = min(max(0, int(region[0])), width - 1), min(max(0, int(region[1])), height - 1)
    right = min(width, max(left + 1, round(region[2])))
    return left, top, right, min(height, max(top + 1, round(region[3])))


def _reason(error: Exception) -> str:
    return "image not found" if isinstance(error, FileNotFoundError) else "image not readable"
