"""How medical data sets lie in folders: MSD, nnU-Net's raw layout, pairs, and a table of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densekit.data.files import natural
from densekit.data.naming import nearest, unique_keys
from densekit.data.tables import check_filled, read_table, read_text
from densekit.data.volume_files import SUFFIXES, is_volume_file, volume_stem

Labels = Mapping[str, int | Sequence[int]]


@dataclass(frozen=True)
class Case:
    """One study.

    Attributes:
        name: Of the files, unique in the data set.
        patient: Given by a table; None: found from the name.
        images: The volume, or one volume a channel.
        mask: Its annotation.
    """

    name: str
    patient: str | None
    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True)
class Layout:
    """What a data set holds.

    Attributes:
        cases: By name.
        labels: Class name to stored value or values, empty where the layout does not say.
        said_by: The file that says so.
        modalities: What each channel is ("CT", "T1"), empty where the layout does not say.
    """

    cases: list[Case]
    labels: Labels
    said_by: str
    modalities: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Recognises the layout.

    Args:
        root: A folder with `dataset.json` (MSD's `training` list, or nnU-Net's `file_ending`), a
            folder with `images` and `masks`, or a table `.csv`.

    Raises:
        ValueError: If it is none of these, or a file that it speaks of is missing.
    """
    if root.suffix.lower() == ".csv":
        layout = _table(root)
    elif (root / "dataset.json").is_file():
        said = _json(root / "dataset.json")
        layout = _nnunet(root, said) if "file_ending" in said else _msd(root, said)
    elif (root / "images").is_dir() and (root / "masks").is_dir():
        layout = _pairs(root)
    else:
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:10]) if root.is_dir() else ""
        raise ValueError(
            f"{root}: no medical data set; accepted are a folder with dataset.json (MSD, nnU-Net),"
            f" a folder with images and masks, a table .csv; found {inside or 'nothing'}"
        )
    _check_files(layout)
    return layout


def _msd(root: Path, said: Mapping[str, Any]) -> Layout:
    """Medical Segmentation Decathlon: `training` lists the pairs, channels are the 4th axis."""
    key = root / "dataset.json"
    rows = said.get("training")
    if not isinstance(rows, list) or not all({"image", "label"} <= set(row) for row in rows):
        raise ValueError(
            f"{key}: `training` must list pairs of image and label, found {rows!r:.80}"
        )
    cases = [
        Case(_stem(Path(row["image"])), None, (root / row["image"],), root / row["label"])
        for row in rows
    ]
    labels = said.get("labels", {})
    if all(str(value).isdigit() for value in labels):  # MSD: stored value to name
        labels = {str(name): int(value) for value, name in labels.items()}
    return Layout(cases, labels, str(key), _modalities(said))


def _nnunet(root: Path, said: Mapping[str, Any]) -> Layout:
    """nnU-Net's raw layout: `imagesTr/CASE_0000.nii.gz` a channel, `labelsTr/CASE.nii.gz`."""
    key, ending = root / "dataset.json", said["file_ending"]
    if ending not in SUFFIXES:
        raise ValueError(f"{key}: file_ending {ending!r}; accepted are {', '.join(SUFFIXES)}")
    channels = said.get("channel_names", {})
    if not channels:
        raise ValueError(f"{key}: channel_names is missing")
    images = root / "imagesTr"
    first = f"_0000{ending}"
    names = [p.name[: -len(first)] for p in sorted(images.glob(f"[!.]*{first}"))]
    cases = [
        Case(
            name,
            None,
            tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(len(channels))),
            root / "labelsTr" / f"{name}{ending}",
        )
        for name in names
    ]
    return Layout(cases, said.get("labels", {}), str(key), _modalities(said))


def _pairs(root: Path) -> Layout:
    """`images/CASE` and `masks/CASE`, each a NIfTI file or a folder with one DICOM series."""
    images, masks = _by_stem(root / "images"), _by_stem(root / "masks")
    for here, there, missing in (("images", masks, images), ("masks", images, masks)):
        if lacking := sorted(set(there) - set(missing)):
            hint = nearest(lacking[0], sorted(missing))
            raise ValueError(f"{root / here}: {len(lacking)} missing, first {lacking[0]!r}; {hint}")
    cases = [Case(name, None, (images[name],), masks[name]) for name in images]
    return Layout(cases, {}, str(root))


def _table(path: Path) -> Layout:
    """Columns `mask`, `image` (or `image_0`, `image_1`, ... a channel) and perhaps `patient`."""
    cases = [
        Case(_stem(files[0]), row.get("patient"), files, path.parent / row["mask"])
        for row, files in _rows(path, ["mask"])
    ]
    return Layout(cases, {}, str(path))


def table_images(path: Path) -> list[tuple[Path, ...]]:
    """The volume of each line of a table, one file a channel; masks are not asked for.

    Raises:
        ValueError: The table cannot be read, or a line has no image.
    """
    return [files for _, files in _rows(path, [])]


def _rows(path: Path, needed: Sequence[str]) -> list[tuple[dict[str, str], tuple[Path, ...]]]:
    """The lines of a table, and the images that each names."""
    rows = read_table(path, "MedicalVolumes.root", [])
    columns = list(rows[0][1])
    images = sorted((c for c in columns if c == "image" or c.startswith("image_")), key=natural)
    if not images or not set(needed) <= set(columns):
        wanted = " and ".join(f"`{name}`" for name in (*needed, "image"))
        raise ValueError(
            f"{path}: columns {columns}; needed are {wanted} (or `image_0`, `image_1`,"
            " ...), perhaps `patient`"
        )
    check_filled(rows, [*images, *needed])
    return [(row, tuple(path.parent / row[column] for column in images)) for _, row in rows]


def _check_files(layout: Layout) -> None:
    if not layout.cases:
        raise ValueError(f"{layout.said_by}: no case found")
    files = [file for case in layout.cases for file in (*case.images, case.mask)]
    if missing := [file for file in files if not file.exists()]:
        raise ValueError(
            f"{layout.said_by}: {len(missing)} of {len(files)} files are missing, the first is"
            f" {missing[0]}"
        )
    names = [case.name for case in layout.cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{layout.said_by}: {repeated[0]!r} stands there more than once")


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or is_volume_file(path)):
            continue
        other = found.setdefault(_stem(path), path)
        if other != path:
            raise ValueError(
                f"{folder}: expected one volume a name, got {other.name} and {path.name}: which one"
                " is meant? Move the other one away."
            )
    return found


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else volume_stem(path)


def _modalities(said: Mapping[str, Any]) -> tuple[str, ...]:
    """`channel_names` (nnU-Net) or `modality` (MSD): number of a channel to what it is."""
    named = said.get("channel_names") or said.get("modality")
    if not isinstance(named, Mapping):
        return ()
    return tuple(str(named[number]) for number in sorted(named, key=lambda n: natural(str(n))))


def _json(path: Path) -> Mapping[str, Any]:
    text = read_text(path, str(path))
    try:
        said = json.loads(text, object_pairs_hook=unique_keys)
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: a JSON object is needed, found {type(said).__name__}")
    return said
