"""Categories: the image, and the probability of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from densekit.app.demo.canvas import Place, plain_picture
from densekit.app.demo.thresholds import score_slider
from densekit.app.demo.view import Panel, Slider
from densekit.visualization.categories import describe_scores, label_names

if TYPE_CHECKING:
    from densekit.app.demo.canvas import Canvas
    from densekit.inference.thresholds import Threshold

MOST = 10
"""Classes that are listed."""


class Category:
    """The category, or the labels, of an image.

    Args:
        canvas: The image.
        result: `probabilities` (K,), and `labels` and `scores`, (n,) each.
        names: Of the classes.
        threshold: Of independent labels; None for one category.
    """

    def __init__(
        self,
        canvas: Canvas,
        result: Mapping[str, Any],
        names: Sequence[str],
        threshold: Threshold | None = None,
    ) -> None:
        self.canvas, self._names, self._result = canvas, names, result
        self.slider: Slider | None = None if threshold is None else score_slider(threshold)

    def panel(self, value: float | None, place: Place) -> Panel:
        """The most probable classes; of independent labels, those with at least this score."""
        probabilities = self._result["probabilities"]
        order = (-probabilities).argsort(kind="stable")
        labels = self._result["labels"]
        if value is not None:
            labels = order[probabilities[order] >= value]
        listed = order[:MOST].tolist()
        names = label_names(listed, self._names)
        return Panel(
            picture=plain_picture(self.canvas, place),
            note=describe_scores(labels.tolist(), probabilities[labels].tolist(), self._names),
            shares=dict(zip(names, probabilities[listed].tolist(), strict=True)),
        )

    def best(self, axis: int) -> int:
        """The middle slice."""
        return self.canvas.lengths[axis] // 2 if self.canvas.lengths else 0
