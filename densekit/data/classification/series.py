"""Reads series: the `.ts` format of the UCR and UEA archives, `.npy` and CSV.

N series, L the length of one, C its channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.classification.dataset import SeriesCategories
from densekit.data.reading.files import existing_folder

SUFFIXES = (".ts", ".npy", ".csv", ".txt")
_KEY = "UcrSeries"


class UcrSeries(SeriesCategories):
    """A set of the UCR or UEA archive (Dau et al. 2018) with its official split.

    Args:
        root: Folder of the set, which holds `NAME_TRAIN.ts` and `NAME_TEST.ts`.
        split: "train" or "test".
        intensity: How values are scaled, see `densekit.data.reading.intensity`; most sets of
            the archive are already z-normalised, which `{kind: zscore}` ensures in prediction
            too.

    Raises:
        ValueError: Naming file and line, for a missing or malformed file.
    """

    def __init__(
        self, root: str | Path, split: str = "train", intensity: Mapping[str, Any] | None = None
    ) -> None:
        folder = existing_folder(Path(root), f"{_KEY}.root")
        splits = {file.stem.rpartition("_")[2].lower(): file for file in folder.glob("*_*.ts")}
        if split not in splits:
            raise ValueError(unknown(f"{_KEY}.split ({folder})", split, sorted(splits)))
        content = read_ts(splits[split])
        if not content.names:
            raise ValueError(f"{splits[split]}: expected classes (@classLabel), got none")
        super().__init__(
            content.series,
            content.names,
            np.asarray(content.labels, dtype=np.int64),
            str(splits[split]),
            intensity,
        )


@dataclass(frozen=True)
class TsFile:
    """Content of a `.ts` file.

    Attributes:
        series: N arrays (L, C) float32.
        names: Classes in the order of the header; empty if there are none.
        labels: Index in `names` of each series' class.
    """

    series: list[NDArray[Any]]
    names: list[str]
    labels: list[int]


def read_ts(path: Path) -> TsFile:
    """Reads a `.ts` file: a header of `@` lines, then one series per line, `1,2,3:4,5,6:CLASS`.

    Raises:
        ValueError: Naming file and line, for time stamps, missing values, channels of different
            lengths, or an unknown class.
    """
    names: list[str] = []
    labels: list[int] = []
    series: list[NDArray[Any]] = []
    started = False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(map(str.strip, lines), 1):
        where = f"{path}, line {number}"
        word, *values = line.split() or ["#"]
        if word.startswith("#"):
            continue
        if not started:
            started = word.lower() == "@data"
            if word.lower() == "@timestamps" and values[:1] != ["false"]:
                raise ValueError(f"{where}: expected series without time stamps, got {line!r}")
            if word.lower() == "@classlabel" and values[:1] == ["true"]:
                names = values[1:]
            continue
        *channels, label = line.split(":") if names else [*line.split(":"), ""]
        if names and label.strip() not in names:
            raise ValueError(unknown(f"{where}: class", label.strip(), names))
        series.append(_channels(channels, where))
        labels += [names.index(label.strip())] if names else []
    if not series:
        raise ValueError(f"{path}: expected series after a line @data, got none")
    _check_channels([values.shape[1] for values in series], path)
    return TsFile(series, names, labels)


def read_series(path: Path) -> list[NDArray[Any]]:
    """Reads all series of a file, (L, C) float32 each.

    Args:
        path: A `.ts` file; an array (L,) or (L, C) in `.npy`; numbers in `.csv` or `.txt`, one row
            per time step and one column per channel.

    Raises:
        ValueError: Naming the file, if it is none of these.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of {', '.join(SUFFIXES)}, got {suffix!r}")
    if suffix == ".ts":
        return read_ts(path).series
    try:
        delimiter = "," if suffix == ".csv" else None
        found = (
            np.load(path) if suffix == ".npy" else np.loadtxt(path, delimiter=delimiter, ndmin=2)
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a readable series, got: {error}") from error
    if found.ndim not in (1, 2) or not found.size or found.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: expected numbers of shape (length,) or (length, channels), got {found.dtype}"
            f" of shape {found.shape}"
        )
    values = found.astype(np.float32).reshape(len(found), -1)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite values, got a missing or infinite one")
    return [values]


def _channels(texts: list[str], where: str) -> NDArray[Any]:
    """(L, C) float32 series parsed from the text of each channel."""
    try:
        channels = [np.asarray(text.split(","), dtype=np.float32) for text in texts]
    except ValueError as error:
        raise ValueError(
            f"{where}: expected numbers, none of them missing, got: {error}"
        ) from error
    lengths = [len(values) for values in channels]
    if len(set(lengths)) != 1:
        raise ValueError(f"{where}: expected channels of one length, got lengths {lengths}")
    values = np.stack(channels, axis=1)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite values, got a missing or infinite one")
    return values


def _check_channels(counts: list[int], path: Path) -> None:
    if len(set(counts)) > 1:
        raise ValueError(f"{path}: expected one number of channels, got {sorted(set(counts))}")
