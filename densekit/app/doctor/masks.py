"""What a mask file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densekit.app.doctor.facts import Mask
from densekit.app.doctor.pictures import digest
from densekit.data.reading.stored_values import stored_colours, stored_mode, stored_values
from densekit.data.segmentation.classes import count_values
from densekit.data.segmentation.codes import is_lossy

MOST = 300
"""Different values that are kept; more are no classes."""


def mask_of(path: Path, colours: bool = False) -> Mask:
    """Reads a mask file; never raises for a broken one.

    Args:
        path: The file.
        colours: Whether classes are stored as colours.
    """
    if not path.is_file():
        return Mask(error="no such file", missing=True)
    try:
        stored = stored_colours(path) if colours else stored_values(path)
    except ValueError as error:
        return Mask(error=str(error).removeprefix(f"{path}: "), mode=stored_mode(path))
    counts = sorted(count_values(stored).items(), key=lambda pair: -pair[1])[:MOST]
    return Mask(
        mode=stored_mode(path),
        height=stored.shape[-2],
        width=stored.shape[-1],
        values=dict(sorted(counts)),
        content=digest(np.asarray(stored)),
        lossy=is_lossy(path),
    )
