"""Calibration images of `precision=int8` for commands that predict."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.config.overrides import Overrides, parse
from densekit.app.errors import UsageError
from densekit.app.options.shared import existing
from densekit.app.prediction.sources import find_cases
from densekit.app.run.calibration import evenly, of_sources
from densekit.app.run.evaluation import evaluation_data

if TYPE_CHECKING:
    from densekit.inference.calibration import Calibration
    from densekit.model import DenseModel
    from densekit.types import Batch


def calibration_of(
    checkpoint: Path, options: Mapping[str, Any], of_data: Sequence[str] = ()
) -> Calibration | None:
    """Returns the images that the options name, the training images by default.

    Args:
        checkpoint: The file.
        options: `precision`, `calibration` and `trust`; `channels` of a command that has it.
        of_data: Words of the command line that choose or change the training data.

    Raises:
        UsageError: Images are named that nothing needs, or that do not exist.
    """
    pictures, precision = options["calibration"], options["precision"]
    named = [f"calibration={pictures}"] if pictures is not None else []
    if precision != "int8":
        if unused := [*named, *of_data]:
            raise UsageError(f"precision: expected int8 with {unused[0]}, got {precision}")
        return None
    if named and of_data:
        raise UsageError(f"calibration, data: expected one of the two, got {' '.join(of_data)} too")
    if named:
        return of_pictures(pictures, options.get("channels", ()))
    trust = [f"trust=[{','.join(options['trust'])}]"] if options["trust"] else []
    return of_training(checkpoint, parse([*of_data, *trust]))


def of_training(checkpoint: Path, overrides: Overrides) -> Calibration:
    """Takes the training images of a checkpoint's configuration; they are found when needed.

    Args:
        checkpoint: The file.
        overrides: `data=NAME`, and values of the data, as for `densekit eval`.
    """

    def batches(model: DenseModel) -> Iterator[Batch]:
        from densekit.artifact import load_artifact
        from densekit.inference.calibration import CalibrationError

        try:
            artifact = load_artifact(checkpoint)
            _, sources, _ = evaluation_data(artifact, checkpoint, overrides, "train")
        except (ValueError, OSError) as error:
            raise CalibrationError(
                "precision=int8: expected the training images of the checkpoint, or others that"
                f" data=NAME or calibration=FOLDER names, got: {error}"
            ) from error
        yield from of_sources(sources)(model)

    return batches


def of_pictures(pictures: str, channels: Sequence[str]) -> Calibration:
    """Takes pictures or volumes of a folder, a file or a pattern, evenly spaced."""
    if not glob.has_magic(pictures):
        existing("calibration", pictures)

    def batches(model: DenseModel) -> Iterator[Batch]:
        from densekit.data.medical.volumes import read_channels
        from densekit.inference.calibration import IMAGES, calibrate_on
        from densekit.inference.frames import Frames

        frames = Frames(model)
        for case in evenly(find_cases(pictures, channels, frames)[0], IMAGES):
            image = read_channels(case) if frames.dims == 3 else case[0]
            yield from calibrate_on([image])(model)

    return batches
