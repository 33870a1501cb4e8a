"""Colours of classes, background and text."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np

from densekit.visualization.images import Picture

Colour = tuple[int, int, int]
BACKGROUND: Colour = (24, 26, 31)
INK: Colour = (238, 240, 244)
_PALETTE: tuple[Colour, ...] = (
    (255, 82, 82),
    (64, 196, 255),
    (105, 240, 94),
    (255, 202, 40),
    (224, 92, 255),
    (255, 145, 48),
    (29, 233, 202),
    (255, 128, 190),
    (130, 140, 255),
    (205, 230, 60),
    (197, 140, 100),
    (180, 190, 205),
)


def class_colour(label: int) -> Colour:
    """Returns the colour of a class: twelve fixed ones, then hues at golden-ratio steps."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    hue = label * 0.618034 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.3 * (label % 2), 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def palette(classes: Mapping[int, int]) -> Picture:
    """Returns a (256, 3) palette for mask files; values without a class are black.

    Args:
        classes: Stored value to the class whose colour it gets.
    """
    colours = np.zeros((256, 3), np.uint8)
    for value, label in classes.items():
        colours[value] = class_colour(label)
    return colours
