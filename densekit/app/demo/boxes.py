"""Boxes, and masks of objects: drawn from a score on, and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from densekit._names import counted
from densekit.app.demo.canvas import Flat, Place
from densekit.app.demo.thresholds import score_slider
from densekit.app.demo.view import Panel, Rows
from densekit.inference.thresholds import confident
from densekit.visualization.categories import label_names
from densekit.visualization.instances import draw_objects

if TYPE_CHECKING:
    from densekit.inference.thresholds import Threshold

HEADER = ("class", "score", "left", "top", "right", "bottom")


class Boxes:
    """The boxes of an image.

    Args:
        canvas: The image.
        result: `boxes` (N, 4) in its pixels, `scores` (N,) and `labels` (N,); perhaps `masks`.
        names: Of the classes.
        threshold: From which score each class is drawn at first.
    """

    def __init__(
        self,
        canvas: Flat,
        result: Mapping[str, Any],
        names: Sequence[str],
        threshold: Threshold,
    ) -> None:
        self.canvas, self._names, self._threshold = canvas, names, threshold
        order = np.argsort(-result["scores"], kind="stable")
        self._found = {key: result[key][order] for key in ("boxes", "scores", "labels")}
        if "masks" in result:
            self._found["masks"] = [result["masks"][n] for n in order]
        self.slider = score_slider(threshold)

    def panel(self, value: float | None, place: Place) -> Panel:
        """The boxes with at least this score."""
        shown = confident(self._found, self._threshold if value is None else value)
        count, total = len(shown["scores"]), len(self._found["scores"])
        width, height = self.canvas.scale
        return Panel(
            picture=draw_objects(self.canvas.picture(place), shown, self._names, (height, width)),
            note=f"{counted(count, 'box', 'boxes')}" + (f" of {total}" if count < total else ""),
            rows=Rows(HEADER, self._rows(shown)),
        )

    def best(self, axis: int) -> int:
        """An image has one slice."""
        return 0

    def _rows(self, shown: Mapping[str, Any]) -> list[list[Any]]:
        scores, boxes = shown["scores"].tolist(), shown["boxes"].tolist()
        names = label_names(shown["labels"].tolist(), self._names)
        return [
            [name, round(score, 4), *(round(side, 1) for side in box)]
            for name, score, box in zip(names, scores, boxes, strict=True)
        ]
