"""Images of a folder that the page offers to try."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.demo.canvas import Place, canvas_of
from densekit.app.demo.uploads import staged
from densekit.app.prediction.run import read_case
from densekit.app.prediction.sources import find_cases
from densekit.visualization.images import Picture, at_most

if TYPE_CHECKING:
    from densekit.inference import Predictor

logger = logging.getLogger(__name__)

MOST = 24
SIDE = 256
"""Longer side of a thumbnail."""


@dataclass(frozen=True)
class Example:
    """An image that is offered.

    Attributes:
        name: Of its file.
        picture: (H, W, 3), small.
        files: Copies of its files, which the page may serve.
    """

    name: str
    picture: Picture
    files: Sequence[Path]


def find_examples(source: str, predictor: Predictor, folder: Path) -> list[Example]:
    """The first `MOST` readable images, series or volumes of a folder.

    Args:
        source: A folder, a file or a pattern.
        predictor: Of the model that takes them.
        folder: For their copies.

    Raises:
        UsageError: There are none.
    """
    cases, _ = find_cases(source, (), predictor.frames)
    found: list[Example] = []
    for number, case in enumerate(cases):
        if len(found) == MOST:
            logger.info("examples: the first %d of %d are offered", MOST, len(cases))
            break
        try:
            found.append(_example(case, predictor, folder / f"{number:04d}"))
        except (ValueError, TypeError) as error:
            logger.warning("examples: left out: %s", error)
    return found


def _example(case: Sequence[Path], predictor: Predictor, folder: Path) -> Example:
    if predictor.frames.dims == 1:
        image: Any = predictor.frames.series(case[0])[0]
    else:
        image = read_case(predictor, None, case, None)
    canvas = canvas_of(image)
    middle = Place(0, canvas.lengths[0] // 2 if canvas.lengths else 0)
    files = [file for path in case for file in _files(path)]
    picture = at_most(canvas.picture(middle), SIDE)
    return Example(case[0].name, picture, staged(files, folder))


def _files(path: Path) -> list[Path]:
    """A file, or those of a DICOM folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
