"""Predicts series and sequences, of which a file may hold many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densekit.app.results.writer import Writer
from densekit.data.reading.progress import tracked

if TYPE_CHECKING:
    from densekit.inference import Predictor


def predict_series(
    predictor: Predictor, files: Sequence[Path], names: Sequence[Path], writer: Writer
) -> list[str]:
    """Predicts every series of every file; returns a message per unreadable file.

    Args:
        predictor: Of a model with one spatial dimension.
        files: Input files.
        names: Overlay of each file; a number is appended if a file holds several series.
        writer: Receives the results, numbered from 1; `FILE#3` is the fourth of a file.
    """
    broken: list[str] = []
    for file, name in tracked(list(zip(files, names, strict=True)), "predicting"):
        try:
            found = predictor.frames.series(file)
            results = predictor(found)
        except ValueError as error:
            broken.append(str(error) if str(file) in str(error) else f"{file}: {error}")
            continue
        for number, (values, result) in enumerate(zip(found, results, strict=True)):
            one = len(found) == 1
            label = file if one else Path(f"{file}#{number}")
            drawn = name if one else name.with_name(f"{name.stem}_{number}{name.suffix}")
            writer.add(values, len(writer.images) + 1, label, drawn, result)
    return broken
