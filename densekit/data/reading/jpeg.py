"""Decodes JPEG by OpenCV, which needs a fifth less time than Pillow for the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

END = b"\xff\xd9"
_FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}


def decode_jpeg(path: Path, channels: int) -> NDArray[Any] | None:
    """Decodes a JPEG of grey (1 channel) or RGB (3), without its EXIF orientation.

    Returns:
        (H, W, C) uint8; None where OpenCV cannot read the file or it does not end as a JPEG does:
        OpenCV would fill up what is missing. Pillow then reads it, or says what is wrong with it.
    """
    content = np.fromfile(path, dtype=np.uint8)
    if content[-2:].tobytes() != END:
        return None
    try:
        image = cv2.imdecode(content, _FLAGS[channels] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # more pixels than OpenCV reads
        return None
    if image is None:
        return None
    array: NDArray[Any] = image.reshape(*image.shape[:2], channels)  # (H, W, C)
    return array
