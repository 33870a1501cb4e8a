"""Sliders of scores, which start at the threshold that the model decides by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from densekit.app.demo.view import Slider

if TYPE_CHECKING:
    from densekit.inference.thresholds import Threshold


def score_slider(threshold: Threshold) -> Slider:
    """The slider of the scores of a head.

    Args:
        threshold: Of its classes; where they differ the slider stands in their middle, and gives
            all of them one as soon as it is moved.
    """
    start = float(np.median(threshold.values))
    return Slider(f"threshold of the score: {threshold}", 0.0, 1.0, start)
