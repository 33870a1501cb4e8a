"""Uploaded files as an input of a model: an image, a series, or the files of one volume."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densekit.app.errors import UsageError
from densekit.app.prediction.huge import HUGE
from densekit.app.prediction.huge_volumes import Streamer
from densekit.app.prediction.sources import find_cases

if TYPE_CHECKING:
    from densekit.inference import Predictor

KINDS = {
    1: "a file of series",
    2: "an image, such as .png, .jpg or .tif",
    3: "a volume: .nii.gz, .nii, .mha, .nrrd, or the DICOM files of one series",
}
"""Spatial dimensions of a model to what it takes."""


def staged(files: Sequence[str | Path], folder: Path) -> list[Path]:
    """Copies files into one folder under their own names, without reading them.

    Raises:
        ValueError: Two files have one name.
    """
    folder.mkdir(parents=True)
    copies = []
    for file in map(Path, files):
        copy = folder / file.name
        if copy.exists():
            raise ValueError(f"{file.name}: expected files of different names, got two of it")
        try:
            os.link(file, copy)
        except OSError:  # another file system
            shutil.copyfile(file, copy)
        copies.append(copy)
    return copies


def case_of(folder: Path, predictor: Predictor) -> list[Path]:
    """The files of the one image, series or volume of a folder; of a volume, one per channel.

    Raises:
        ValueError: There is another number of them, or it is too large to be shown.
    """
    kind = KINDS[predictor.frames.dims]
    names = ", ".join(sorted(file.name for file in folder.iterdir()))
    try:
        cases, _ = find_cases(str(folder), (), predictor.frames)
    except UsageError as error:
        if not str(error).startswith("source:"):
            raise
        raise ValueError(f"{names}: expected {kind}, got another kind of file") from error
    if len(cases) != 1:
        raise ValueError(f"{names}: expected {kind}, one at a time, got {len(cases)}")
    _check_size(cases[0], predictor)
    return cases[0]


def without_folder(message: object, folder: Path) -> str:
    """A message whose files are named as they were uploaded."""
    return str(message).replace(f"{folder}{os.sep}", "").replace(str(folder), "the uploaded files")


def _check_size(case: Sequence[Path], predictor: Predictor) -> None:
    """Refuses what `densekit predict` would take part by part, or might not fit into memory."""
    if predictor.frames.dims == 2:
        from densekit.data.reading.images import size_if_readable

        height, width = size_if_readable(case[0])  # reading it reports what is broken
        if height * width > HUGE:
            raise ValueError(
                f"{case[0]}: expected an image of at most {HUGE:,} pixels, got {height} x {width};"
                " densekit predict takes larger ones"
            )
    if Streamer(predictor).takes(case):
        raise ValueError(
            f"{case[0]}: expected a volume that fits into memory, got a larger one; densekit"
            " predict takes it slab by slab"
        )
