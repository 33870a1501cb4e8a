"""Evaluation on identities that do not occur in training.

N images, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.identification.dataset import IdentityImages
from densekit.data.identification.pairs import Pair, read_pairs
from densekit.data.subset import Subset
from densekit.types import Sample


class OpenSet(Subset):
    """Images with the identity in the ground truth only, so that no loss is computed for them.

    With `pairs`, each image's ground truth holds the pairs that begin with it, and images without a
    pair are left out. If the data have a column `template`, pairs are of templates.

    Args:
        data: The images, `IdentityFolder` or `IdentityTable`.
        pairs: List of pairs below the root of the data; see `read_pairs` for the formats.
        file_name: Path of image `number` of the identity `name`, for lists that number images;
            LFW's by default.

    Raises:
        ValueError: If a pair names a missing image or template, or contradicts the identities of
            the data.
    """

    def __init__(
        self,
        data: IdentityImages,
        pairs: str | None = None,
        file_name: str = "{name}/{name}_{number:04d}.jpg",
    ) -> None:
        super().__init__(data, np.arange(len(data)))
        self._files = data.files
        self._pairs: list[NDArray[np.int64]] | None = None
        if pairs is not None:
            path = data.files.root / pairs
            self._attach(data, read_pairs(path, file_name), path)

    @property
    def labels(self) -> None:
        """None, as identities are in the ground truth only."""
        return None

    def describe(self) -> dict[str, Any]:
        """Channels and dtype of the images, without the identities, which no head learns."""
        return self._files.describe()

    def __getitem__(self, index: int) -> Sample:
        """The image, with its identity and its pairs in the ground truth only."""
        sample = super().__getitem__(index)
        del sample["identity"]
        if self._pairs is not None:
            sample["truth"]["pairs"] = self._pairs[index]
        return sample

    def _attach(self, data: IdentityImages, pairs: Sequence[Pair], path: Path) -> None:
        """Stores each pair with the first image of its first template."""
        number, templates = data.templates()
        ends = [[_found(name, number, path) for name in pair[:2]] for pair in pairs]
        _check_labels(data.labels, pairs, np.asarray(ends), templates, path)
        used = np.unique(ends)
        self.positions = np.flatnonzero(np.isin(templates, used))
        first_image = {t: int(i) for i, t in reversed(list(enumerate(templates.tolist())))}
        of_image: dict[int, list[tuple[int, int, int]]] = {}
        for (first, second), pair in zip(ends, pairs, strict=True):
            row = (second, int(pair.same), pair.fold)
            of_image.setdefault(first_image[first], []).append(row)
        self._pairs = [
            np.asarray(of_image.get(int(image), []), dtype=np.int64).reshape(-1, 3)
            for image in self.positions
        ]


def _check_labels(
    labels: NDArray[np.int64],
    pairs: Sequence[Pair],
    ends: NDArray[np.int64],
    templates: NDArray[np.int64],
    path: Path,
) -> None:
    order = np.argsort(templates, kind="stable")
    images = order[np.searchsorted(templates[order], ends)]  # (P, 2) one image per template
    same = labels[images[:, 0]] == labels[images[:, 1]]
    wrong = np.flatnonzero(same != np.asarray([pair.same for pair in pairs]))
    if wrong.size:
        pair = pairs[wrong[0]]
        listed = "one identity" if pair.same else "two identities"
        raise ValueError(
            f"{path}: expected pairs that fit the identities of the data, got {pair.first} and"
            f" {pair.second} as {listed} ({wrong.size} of {len(pairs)} pairs are wrong)"
        )


def _found(name: str, number: dict[str, int], path: Path) -> int:
    if name not in number:
        raise ValueError(unknown(f"{path}: image", name, number))
    return number[name]
