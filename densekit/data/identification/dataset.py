"""Images of identities: one folder per identity, or a table.

H, W the size of an image, N images, P identities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import nearest
from densekit.data.naming import digest
from densekit.data.protocols import Dataset, Origin
from densekit.data.reading.files import (
    existing_folder,
    existing_images,
    folders_in,
    images_below,
    natural,
)
from densekit.data.reading.image_files import ImageFiles
from densekit.data.reading.images import ImageReader
from densekit.data.reading.tables import (
    check_filled,
    indices_of_split,
    names_in_column,
    numbers,
    read_table,
    whole_numbers,
)
from densekit.types import Meta, Sample, TargetSpec

LANDMARKS = "landmarks"
"""Name in `extra` of (5, 2) points x, y: eyes, nose, mouth corners, left ones first."""
POINTS = [f"{axis}{number}" for number in range(1, 6) for axis in "xy"]
"""Columns of a table with the landmarks."""


class IdentityImages(Dataset):
    """Images, each with an identity.

    Args:
        files: The images.
        labels: (N,) identity of each image, 0..P-1.
        identities: Names of the P identities.
        facts: Further entries of the ground truth, by name, (N,) each.
        landmarks: (N, 5, 2) points, or None.
    """

    def __init__(
        self,
        files: ImageFiles,
        labels: Sequence[int],
        identities: Sequence[str],
        facts: Mapping[str, NDArray[np.int64]] | None = None,
        landmarks: NDArray[np.float32] | None = None,
    ) -> None:
        self.files = files
        self._labels = np.asarray(labels, dtype=np.int64)
        self.names = list(identities)
        self._facts = dict(facts or {})
        self._landmarks = landmarks
        ragged = TargetSpec(fill=0, ragged=True)
        self.target_specs = {} if landmarks is None else {LANDMARKS: ragged}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image, from the files' headers."""
        return self.files.sizes

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) identity of each image, 0..P-1."""
        return self._labels

    @property
    def num_identities(self) -> int:
        """Number of identities, P."""
        return len(self.names)

    def describe(self) -> dict[str, Any]:
        """Number of identities and a digest of their names; channels and dtype of the images.

        The names are left out: there may be millions, and an embedding model has no use for them.
        """
        known = {"num_identities": self.num_identities, "identities": digest(self.names)}
        return {**known, **self.files.describe()}

    def templates(self) -> tuple[dict[str, int], NDArray[np.int64]]:
        """Number of each name that pairs may contain, and (N,) number of each image's template.

        The names are those of templates if the data have some, else paths of images below the root.
        """
        if "template" in self._facts:
            numbers = self._facts["template"]
            return {str(number): int(number) for number in np.unique(numbers)}, numbers
        names = {image.decode(): number for number, image in enumerate(self.files.names)}
        return names, np.arange(len(self))

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.files.path(index)

    def origin(self, index: int) -> Origin:
        """The file of an image, and how it is read."""
        return self.files.origin(index)

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C) image, upright."""
        return self.files.read(index)

    def __getitem__(self, index: int) -> Sample:
        """The image and its identity.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        image = self.files.read(index)
        height, width = image.shape[:2]
        facts: Any = {name: int(values[index]) for name, values in self._facts.items()}
        if "gallery" in facts:
            facts["gallery"] = bool(facts["gallery"])
        label = int(self._labels[index])
        truth: Any = {"image_id": index, "size": (height, width), "identity": label, **facts}
        sample = Sample(
            image=image,
            identity=np.asarray(label),
            index=index,
            meta=Meta(path=str(self.path(index)), image_id=index, original_size=(height, width)),
            truth=truth,
        )
        if self._landmarks is not None:
            sample["extra"] = {LANDMARKS: self._landmarks[index]}
        return sample


class IdentityFolder(IdentityImages):
    """One sub-folder per identity; numbers in names are sorted numerically.

    Args:
        root: Folder of the sub-folders.
        identities: Names of the sub-folders to use, in the order of their labels; all that contain
            an image by default.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.

    Raises:
        ValueError: If a folder is missing or has no image.
    """

    def __init__(
        self,
        root: str | Path,
        identities: Sequence[str] | None = None,
        *,
        channels: int = 3,
        dtype: str = "uint8",
    ) -> None:
        folder = existing_folder(Path(root), "IdentityFolder.root")
        present = sorted(folders_in(folder), key=natural)
        wanted = present if identities is None else [str(name) for name in identities]
        _check_wanted(wanted, present, folder)
        found = {name: images_below(folder, name) for name in wanted}
        empty = [name for name, images in found.items() if not images]
        if identities is None:
            found = {name: images for name, images in found.items() if images}
        if not found or (identities is not None and empty):
            raise ValueError(
                f"{folder / (empty or ['*'])[0]}: expected images of an identity, got none"
            )
        super().__init__(
            ImageFiles(
                folder,
                [image for images in found.values() for image in images],
                ImageReader(channels, dtype),
            ),
            [label for label, images in enumerate(found.values()) for _ in images],
            list(found),
        )


class IdentityTable(IdentityImages):
    """A CSV file with the columns `image` and `identity`.

    Optional columns: `split`; `template` and `media` (numbers) and `gallery` (0 or 1) for
    evaluation; `x1, y1, ..., x5, y5`, the five landmarks that `AlignFace` uses. Others are ignored.
    Labels follow the order of the identities' names, numbers in them sorted numerically.

    Args:
        root: Folder that the images are relative to.
        table: The file, relative to `root`.
        split: Use only rows with this value in the column `split`.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.

    Raises:
        ValueError: Naming the file and the line, if a column, a value or an image is missing.
    """

    def __init__(
        self,
        root: str | Path,
        table: str,
        split: str | None = None,
        *,
        channels: int = 3,
        dtype: str = "uint8",
    ) -> None:
        folder = existing_folder(Path(root), "IdentityTable.root")
        needed = ["image", "identity", *([] if split is None else ["split"])]
        rows = read_table(folder / table, "IdentityTable.table", needed)
        check_filled(rows, needed)
        rows = [rows[index] for index in indices_of_split(rows, split, "IdentityTable.split")]
        images = [row["image"] for _, row in rows]
        images = existing_images(folder, images, str(folder / table))
        known = names_in_column(rows, "identity")
        names = sorted(set(known), key=natural)
        label = {name: number for number, name in enumerate(names)}
        columns = rows[0][1]
        facts: dict[str, NDArray[np.int64]] = {
            name: whole_numbers(rows, name)
            for name in ("template", "media", "gallery")
            if name in columns
        }
        for (where, row), number in zip(rows, facts.get("gallery", ()), strict=False):
            if number not in (0, 1):
                raise ValueError(f"{where}: gallery: expected 0 or 1, got {row['gallery']!r}")
        points = numbers(rows, POINTS) if POINTS[0] in columns else None
        super().__init__(
            ImageFiles(folder, images, ImageReader(channels, dtype)),
            [label[name] for name in known],
            names,
            facts,
            None if points is None else points.reshape(-1, 5, 2).astype(np.float32),
        )


def _check_wanted(wanted: Sequence[str], present: Sequence[str], folder: Path) -> None:
    known, seen = set(present), set[str]()
    for name in wanted:
        if name not in known:
            hint = nearest(name, present)
            raise ValueError(f"IdentityFolder.identities: expected {folder / name}, got none{hint}")
        if name in seen:
            raise ValueError(
                f"IdentityFolder.identities: expected every name once, got {name!r} twice"
            )
        seen.add(name)
