"""A plain image to draw on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def grey(height: int = 500, width: int = 640, value: int = 128) -> NDArray[np.uint8]:
    """(height, width, 3) of one value."""
    return np.full((height, width, 3), value, dtype=np.uint8)
