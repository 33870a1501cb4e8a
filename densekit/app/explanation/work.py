"""Explains images one by one and writes each map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from densekit.app.explanation.files import Row, write_map
from densekit.app.explanation.passes import Passes
from densekit.app.prediction.run import read_case
from densekit.data.medical.grids import Volume
from densekit.explain import Explainer, Target
from densekit.explain.choosing import NothingFoundError, choose


class Read:
    """An image as it was read, and in the network's frame.

    Args:
        explainer: Of the model.
        case: Its file, or the files of its channels.
        shown: Its name in the results.

    Attributes:
        pixels: (*S, C).
        subject: In the network's frame.

    Raises:
        ValueError: It cannot be read.
    """

    def __init__(self, explainer: Explainer, case: Sequence[Path], shown: str) -> None:
        read = read_case(explainer.predictor, None, case, None)
        self.pixels: NDArray[Any] = read.image if isinstance(read, Volume) else read
        self.subject = explainer.subject(read, str(case[0]))
        self.shown = shown


class Work:
    """Explains images one by one and writes each map.

    Args:
        explainer: Of the head.
        targets: What to explain in each image, see `densekit.explain.choosing.choose`.
        pair: The image that embeddings are compared with.
        output: The output folder.
        passes: Counts the predictions.
        images: Number of images, from which the cost is told.

    Attributes:
        rows: The maps.
        empty: A message per target that an image does not have.
        broken: A message per image that could not be read.

    Raises:
        ValueError: The pair cannot be read.
    """

    def __init__(
        self,
        explainer: Explainer,
        targets: Sequence[str],
        pair: Path | None,
        output: Path,
        passes: Passes,
        images: int,
    ) -> None:
        self.explainer, self.wanted, self.output = explainer, targets, output
        self.passes, self.images = passes, images
        self.pair = None if pair is None else Read(explainer, [pair], str(pair))
        self.rows: list[Row] = []
        self.empty: list[str] = []
        self.broken: list[str] = []

    def add(self, case: Sequence[Path], shown: str, name: Path) -> None:
        """Explains all targets of one image, of a pair both images.

        Args:
            case: Its file, or the files of its channels.
            shown: Its name.
            name: Path of its results below their folders, without a suffix.

        Raises:
            ValueError: The method cannot explain a target.
        """
        try:
            image = Read(self.explainer, case, shown)
        # the file is broken, not an image for this model, or too large
        except (ValueError, TypeError, MemoryError) as error:
            named = str(case[0]) in str(error)
            self.broken.append(str(error) if named else f"{case[0]}: {error}")
            return
        other = self.pair
        found = self.explainer.targets(image.subject, other and other.subject)
        for number, wanted in enumerate(self.wanted, 1):
            try:
                target = choose(wanted, found)
            except NothingFoundError as error:
                self.empty.append(f"{shown}: {error}")
                continue
            self._write(image, target, name.with_name(f"{name.name}_{number}"), other)
        if other is not None:
            (mirrored,) = self.explainer.targets(other.subject, image.subject)
            self._write(other, mirrored, name.with_name(f"{name.name}_pair"), image)

    def _write(self, image: Read, target: Target, name: Path, other: Read | None) -> None:
        method = self.explainer.method_of(image.subject, target)
        maps = self.images * (len(self.wanted) + (self.pair is not None))
        self.passes.begin(method, self.explainer.passes(method), maps)
        explanation = self.explainer.explain(image.subject, target, len(self.rows))
        compared = None if other is None else other.pixels
        row = write_map(self.output, name, image.shown, image.pixels, explanation, compared)
        self.rows.append(row)
