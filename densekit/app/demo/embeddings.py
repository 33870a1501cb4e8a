"""Embeddings: two images compared, and the most similar ones of a gallery.

N is the number of gallery entries, E the size of an embedding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import readable
from densekit.app.demo.canvas import Place, plain_picture
from densekit.app.demo.view import Panel, Rows, Slider
from densekit.app.prediction.gallery import check_length, exact, holds_embeddings, read_gallery
from densekit.visualization.images import Picture, at_most
from densekit.visualization.panels import grid, side_by_side
from densekit.visualization.planes import as_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.app.demo.canvas import Canvas
    from densekit.app.prediction.embedder import Embedder, Threshold

TOP = 5
"""Images of the gallery that are shown."""
UNMEASURED = 0.5
THUMBNAIL = 480


@dataclass(frozen=True)
class Embedded:
    """An image and its embedding.

    Attributes:
        name: Of its file.
        canvas: The image.
        vector: (E,) of length 1.
    """

    name: str
    canvas: Canvas
    vector: NDArray[Any]


class Gallery:
    """Images to search in.

    Args:
        path: A folder of images, or a file of embeddings, of which the names alone are shown.
        embed: Computes the embeddings of the images.

    Raises:
        UsageError: There is nothing to search in.
    """

    def __init__(self, path: Path, embed: Embedder) -> None:
        self._files, self.vectors, self.broken = read_gallery(path, embed)
        self.names = [
            readable(os.path.relpath(f, path)) if path.is_dir() else f for f in self._files
        ]
        self._shown = None if holds_embeddings(path) else embed.predictor.frames.read
        self._path = path
        self.thumbnail = lru_cache(maxsize=256)(self._thumbnail)

    def similar(self, vector: NDArray[Any]) -> list[tuple[int, float]]:
        """Index and similarity of the most similar entries.

        Args:
            vector: (E,) of length 1.

        Raises:
            UsageError: The entries are of another model.
        """
        check_length(self._path, self.vectors, len(vector))
        scores, indices = exact(self.vectors, vector[None], min(TOP, len(self.names)))
        return list(zip(indices[0].tolist(), scores[0].tolist(), strict=True))

    def _thumbnail(self, index: int) -> Picture | None:
        """The image of an entry; None of a file of embeddings, or if it is gone."""
        if self._shown is None:
            return None
        try:
            image = self._shown(Path(self._files[index]))
        except ValueError:
            return None
        return at_most(as_picture(getattr(image, "image", image)), THUMBNAIL)


class Similar:
    """An embedding beside another one, and beside a gallery.

    Args:
        probe: The image.
        other: The image that it is compared with, if there is one.
        gallery: The images to search in, if there are any.
        threshold: The measured one, if there is one.
    """

    def __init__(
        self,
        probe: Embedded,
        other: Embedded | None,
        gallery: Gallery | None,
        threshold: Threshold | None,
    ) -> None:
        self.canvas, self._probe, self._other, self._gallery = probe.canvas, probe, other, gallery
        self._found = [] if gallery is None else gallery.similar(probe.vector)
        compared = other is not None or gallery is not None
        self.slider: Slider | None = _slider(threshold) if compared else None

    def panel(self, value: float | None, place: Place) -> Panel:
        """Two images are the same from this similarity on."""
        if value is None:
            value = self.slider.start if self.slider else UNMEASURED
        rows, pictures, notes = [], [], []
        if self._other is not None:
            similarity = float(self._probe.vector.astype("f8") @ self._other.vector.astype("f8"))
            notes.append(f"similarity {similarity:.4f}: {_answer(similarity, value)}")
            pair = [self.canvas.picture(place), self._other.canvas.picture(place)]
            pictures.append(side_by_side(pair, [self._probe.name, self._other.name]))
        if self._gallery is not None:
            rows = [
                [rank, self._gallery.names[index], round(score, 4), _answer(score, value)]
                for rank, (index, score) in enumerate(self._found, 1)
            ]
            pictures.append(self._most_similar(self._gallery, value, place))
        if not pictures:
            notes.append("drop a second image to compare it with")
        return Panel(
            picture=grid(pictures, 1) if pictures else plain_picture(self.canvas, place),
            note="; ".join(notes),
            rows=Rows(("rank", "image", "similarity", "answer"), rows) if rows else None,
        )

    def best(self, axis: int) -> int:
        """The middle slice."""
        return self.canvas.lengths[axis] // 2 if self.canvas.lengths else 0

    def _most_similar(self, gallery: Gallery, value: float, place: Place) -> Picture:
        found = [(score, gallery.thumbnail(index)) for index, score in self._found]
        titled = [
            (picture, f"{score:.3f} {_answer(score, value)}")
            for score, picture in found
            if picture is not None
        ]
        images = [self.canvas.picture(place), *(picture for picture, _ in titled)]
        return side_by_side(images, [self._probe.name, *(title for _, title in titled)])


def _answer(similarity: float, threshold: float) -> str:
    return "same" if similarity >= threshold else "different"


def _slider(threshold: Threshold | None) -> Slider:
    what = "similarity from which two count as the same"
    if threshold is None:
        return Slider(f"{what}: none was measured", -1.0, 1.0, UNMEASURED)
    return Slider(f"{what}: {threshold}", -1.0, 1.0, threshold.value)
