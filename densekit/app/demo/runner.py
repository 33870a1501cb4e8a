"""Predicts what was uploaded, and holds the results that a page shows."""

from __future__ import annotations

import itertools
import math
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.demo.boxes import Boxes
from densekit.app.demo.canvas import Canvas, Flat, canvas_of
from densekit.app.demo.categories import Category
from densekit.app.demo.embeddings import Embedded, Gallery, Similar
from densekit.app.demo.masks import Decision, Mask
from densekit.app.demo.other import Values
from densekit.app.demo.uploads import case_of, staged, without_folder
from densekit.app.prediction.embedder import Embedder
from densekit.app.prediction.image_ids import listed_images
from densekit.app.prediction.run import read_case
from densekit.app.prediction.sources import overlay_names, volume_names
from densekit.app.results.writer import Writer
from densekit.data.medical.grids import Volume
from densekit.inference.pixel_probabilities import PixelProbabilities
from densekit.inference.restore import HALF
from densekit.inference.thresholds import Threshold
from densekit.types import PIXELS

HALVES = Threshold((HALF,), "none was measured")
"""Of boxes whose classes have no names."""

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.app.demo.view import View
    from densekit.inference import Predictor


@dataclass(frozen=True)
class Predicted:
    """An image and its results.

    Attributes:
        name: Of its file.
        about: The name, the size, and how much of the file it is.
        image: (H, W, C), (L, C) or a volume.
        canvas: The image as pictures.
        by_head: Head name to result.
        files: The files it was read from.
    """

    name: str
    about: str
    image: NDArray[Any] | Volume
    canvas: Canvas
    by_head: Mapping[str, Mapping[str, Any]]
    files: Sequence[Path]


@dataclass(frozen=True)
class Outcome:
    """What a page shows.

    Attributes:
        views: Head name to its result.
        about: One line on the image.
        files: The result as files.
        folder: Where these are.
    """

    views: Mapping[str, View]
    about: str
    files: Sequence[Path]
    folder: Path

    @property
    def compares(self) -> bool:
        """Whether there is an embedding, to be compared with another image's."""
        return any(isinstance(view, Similar) for view in self.views.values())

    def remove(self) -> None:
        """Deletes the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Runner:
    """Predicts with one model, one image at a time.

    Args:
        predictor: Of the model.
        folder: For the files of results.
        galleries: Head name to the images to search in.
    """

    def __init__(
        self, predictor: Predictor, folder: Path, galleries: Mapping[str, Gallery] | None = None
    ) -> None:
        self.predictor, self.folder = predictor, folder
        self.heads: dict[str, dict[str, Any]] = {
            name: dict(predictor.model.info.get("heads", {}).get(name, {}))
            for name in predictor.model.heads
        }
        self._galleries = galleries or {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()

    @property
    def compares(self) -> bool:
        """Whether a head is known to return embeddings."""
        return any("num_identities" in head for head in self.heads.values())

    @property
    def is_busy(self) -> bool:
        """Whether something is being predicted."""
        return self._lock.locked()

    def run(self, files: Sequence[str | Path], others: Sequence[str | Path] = ()) -> Outcome:
        """Predicts an image, and another one to compare it with.

        Args:
            files: Of one image, series or volume.
            others: Of the other one.

        Raises:
            ValueError: A file cannot be read, or is nothing that the model takes; the message names
                it as it was uploaded.
            MemoryError: It does not fit.
        """
        with self._lock:
            folder = self.folder / f"{next(self._numbers):06d}"
            try:
                found = self._predicted(files, folder / "image")
                other = self._predicted(others, folder / "other") if others else None
                written = self._written(found, folder / "results")
                views = {name: self._view(name, found, other) for name in found.by_head}
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder / "image")
            shutil.rmtree(folder / "other", ignore_errors=True)
            return Outcome(views, found.about, written, folder)

    def _predicted(self, files: Sequence[str | Path], folder: Path) -> Predicted:
        try:
            return self._read_and_predicted(files, folder)
        except (ValueError, TypeError) as error:
            message, name = without_folder(error, folder), Path(files[0]).name
            raise ValueError(message if name in message else f"{name}: {message}") from error

    def _read_and_predicted(self, files: Sequence[str | Path], folder: Path) -> Predicted:
        staged(files, folder)
        case = case_of(folder, self.predictor)
        if self.predictor.frames.dims == 1:
            image, *others = self.predictor.frames.series(case[0])
        else:
            image, others = read_case(self.predictor, None, case, None), []
        by_head = self._results(image)
        name = case[0].name
        about = f"{name}: {size_text(image)}"
        about += f", the first of {1 + len(others)} in this file" if others else ""
        return Predicted(name, about, image, canvas_of(image), by_head, case)

    def _results(self, image: NDArray[Any] | Volume) -> dict[str, dict[str, Any]]:
        """Head name to result, with the probabilities of pixels, which `Predictor` releases."""
        import torch

        predictor = self.predictor
        with torch.inference_mode():
            batch = predictor.batch([predictor.frames.prepared(image)])
            results: list[dict[str, dict[str, Any]]] = predictor.inferer(predictor.model, batch)
        return results[0]

    def _view(self, head: str, found: Predicted, other: Predicted | None) -> View:
        result, info, canvas = found.by_head[head], self.heads[head], found.canvas
        names, threshold = list(info.get("names", ())), self.predictor.thresholds.get(head)
        if "boxes" in result and isinstance(canvas, Flat):
            return Boxes(canvas, result, names, threshold or HALVES)
        if "mask" in result:
            spacing = getattr(found.image, "spacing", None)
            voxel = None if spacing is None else math.prod(spacing)
            return Mask(canvas, result["mask"], info, voxel, _decision(result, threshold))
        if "probabilities" in result:
            return Category(canvas, result, names, threshold)
        if "embedding" in result:
            return self._similar(head, found, other)
        return Values(canvas, result)

    def _similar(self, head: str, found: Predicted, other: Predicted | None) -> Similar:
        def embedded(one: Predicted) -> Embedded:
            return Embedded(one.name, one.canvas, one.by_head[head]["embedding"])

        threshold = Embedder(self.predictor, head).threshold() if self.heads[head] else None
        second = None if other is None else embedded(other)
        return Similar(embedded(found), second, self._galleries.get(head), threshold)

    def _written(self, found: Predicted, folder: Path) -> list[Path]:
        """Writes the files of `densekit predict` for what has described classes."""
        described = {**self.heads, **self.predictor.model.described}
        known = {
            head: result
            for head, result in found.by_head.items()
            if {"ids", "names"} <= described[head].keys() or "embedding" in result
        }
        if not known:
            return []
        root = found.files[0].parent
        volumes = self.predictor.frames.dims == 3
        named = volume_names([found.files], root) if volumes else overlay_names(found.files, root)
        file = Path(found.files[0].name)
        writer = Writer(folder, {head: described[head] for head in known}, overlays=False)
        writer.add(found.image, listed_images([file], None)[0].id, file, named[0], known)
        writer.close()
        return sorted(path for path in folder.rglob("*") if path.is_file())


def _decision(result: Mapping[str, Any], threshold: Threshold | None) -> Decision | None:
    """How a mask follows from its threshold; None if more was done to it, such as a clean-up."""
    pixels = result.get(PIXELS)
    if pixels is None or threshold is None:
        return None
    kept = PixelProbabilities(pixels.logits.cpu(), pixels.sides, pixels.multilabel, pixels.axes)
    decision = Decision(kept, threshold)
    return decision if (decision.mask(threshold.values) == result["mask"]).all() else None


def size_text(image: NDArray[Any] | Volume) -> str:
    """The sides of an image, a series or a volume, for people."""
    if isinstance(image, Volume):
        sides, spacing = " x ".join(map(str, image.shape)), image.spacing
        return f"{sides} voxels (z, y, x) of {' x '.join(f'{s:.3g}' for s in spacing)} mm"
    if image.ndim == 2:
        return f"a series of {len(image)} values"
    return f"{image.shape[1]} x {image.shape[0]} pixels"
