"""Evaluation on identities that training does not know.

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
    """Images whose identity is in the truth and is no target: no loss can be taken of them.

    With `pairs`, each image's truth holds the comparisons that begin with it, and images that are
    in no comparison are left out. Where the data have a column `template`, pairs are of templates.

    Args:
        data: The images, `IdentityFolder` or `IdentityTable`.
        pairs: List of pairs below the root of the data; see `read_pairs` for the formats.
        file_name: Path of image `number` of the identity `name` for lists that number images; LFW's
            by default.

    Raises:
        ValueError: A pair names an image or template that is not there, or says of two images with
            one identity that they differ, or the reverse.
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
        """Nothing: identities are in the truth alone."""
        return None

    def describe(self) -> dict[str, Any]:
        """Channels and dtype; the identities are nobody's business."""
        return self._files.describe()

    def __getitem__(self, index: int) -> Sample:
        """The image, with its identity and its pairs in the truth alone."""
        sample = super().__getitem__(index)
        del sample["identity"]
        if self._pairs is not None:
            sample["truth"]["pairs"] = self._pairs[index]
        return sample

    def _attach(self, data: IdentityImages, pairs: Sequence[Pair], path: Path) -> None:
        """Gives each pair to the first image of the template that begins it."""
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
    place = order[np.searchsorted(templates[order], ends)]  # (P, 2) an image of each
    same = labels[place[:, 0]] == labels[place[:, 1]]
    odd = np.flatnonzero(same != np.asarray([pair.same for pair in pairs]))
    if odd.size:
        pair = pairs[odd[0]]
        said = "one identity" if pair.same else "two identities"
        raise ValueError(
            f"{path}: {pair.first} and {pair.second} are listed as {said}, the data say"
            f" otherwise ({odd.size} of {len(pairs)} pairs)"
        )


def _found(name: str, number: dict[str, int], path: Path) -> int:
    if name not in number:
        raise ValueError(unknown(f"{path}: image", name, number))
    return number[name]
