"""Results of any other kind, such as those of a plug-in's head: their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from densekit.app.demo.canvas import Place, plain_picture
from densekit.app.demo.view import Panel, Slider

if TYPE_CHECKING:
    from densekit.app.demo.canvas import Canvas

MOST = 100
"""Numbers of an array that are shown; of larger ones the shape."""


class Values:
    """The values of a result.

    Args:
        canvas: The image.
        result: Arrays and plain values.
    """

    slider: Slider | None = None

    def __init__(self, canvas: Canvas, result: Mapping[str, Any]) -> None:
        self.canvas = canvas
        self._values = {str(key): plain(value) for key, value in result.items()}

    def panel(self, value: float | None, place: Place) -> Panel:
        """The image and the values."""
        return Panel(picture=plain_picture(self.canvas, place), values=self._values)

    def best(self, axis: int) -> int:
        """The middle slice."""
        return self.canvas.lengths[axis] // 2 if self.canvas.lengths else 0


def plain(value: Any) -> Any:
    """A value of a result as JSON has it; a large array as its shape and range."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value[:MOST]]
    if isinstance(value, bool | int | str | None):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return str(value)
    if array.size > MOST:
        shape = " x ".join(map(str, array.shape))
        return f"{shape} numbers from {array.min():g} to {array.max():g}"
    if array.dtype.kind == "f":
        array = array.astype(object)
        array[~np.isfinite(array.astype(float))] = None  # JSON has no NaN
    return array.tolist()
