"""Images with mask files, paired however incompletely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Defect, Example
from densekit.app.doctor.readers.records import Records
from densekit.data.reading.files import existing_folder, images_by_stem, listed_stems
from densekit.data.reading.pairs import files_by_name, has_affixes
from densekit.data.segmentation.class_table import ClassTable, class_file_folders, find_table
from densekit.data.segmentation.classes import declared_table, find_code
from densekit.data.segmentation.codes import MaskCode
from densekit.data.segmentation.listing import listed_masks
from densekit.data.segmentation.voc import VOC_NAMES
from densekit.types import IGNORE_INDEX

Pair = tuple[Path, Sequence[Path | None]]


class PairedRecords(Records):
    """Images with their masks.

    Args:
        pairs: Every image with its mask, or one mask per class.
        table: The classes that the configuration or a file declares.
        folders: Folders that may hold a file with the classes.
        ignore: Stored values that are void.
        defects: What the pairing found.
        facts: Declared channels and type of the images.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        table: ClassTable | None,
        folders: Sequence[Path],
        ignore: Sequence[Any] | None,
        defects: Sequence[Defect],
        **facts: Any,
    ) -> None:
        there = [tuple(m if m and m.is_file() else None for m in masks) for _, masks in pairs]
        code = _code([masks for masks in there if any(masks)], table, ignore, folders)
        super().__init__(
            [Example(image, i, mask_files=tuple(masks)) for i, (image, masks) in enumerate(pairs)],
            defects,
            code.names if code else table.names if table else (),
            kind="mask",
            values=_values(code, table, ignore),
            colours=code.colours if code else bool(table and table.colours),
            **{key: facts[key] for key in ("channels", "dtype") if key in facts},
        )


class FolderRecords(PairedRecords):
    """The arguments of `densekit.data.MaskFolder`, read without refusing anything."""

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | Mapping[str, str | Path],
        *,
        image_prefix: str = "",
        image_suffix: str = "",
        mask_prefix: str = "",
        mask_suffix: str = "",
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        **others: Any,
    ) -> None:
        folder = existing_folder(Path(images), "images")
        several = isinstance(masks, Mapping)
        named = dict(masks) if isinstance(masks, Mapping) else {"mask": masks}
        folders = [existing_folder(Path(path), f"masks.{key}") for key, path in named.items()]
        affixes = (mask_prefix, mask_suffix)
        pictures = files_by_name(folder, (image_prefix, image_suffix))
        if any(affixes) and any(path.samefile(folder) for path in folders):
            pictures = {n: p for n, p in pictures.items() if not has_affixes(p.stem, affixes)}
        found = [files_by_name(path, affixes) for path in folders]
        defects = [
            Defect("mask-without-image", path, f"no image {name}.* in {folder}")
            for files in found
            for name, path in files.items()
            if name not in pictures
        ]
        pairs = [
            (
                image,
                [
                    files.get(name, path / f"{mask_prefix}{name}{mask_suffix}.png")
                    for files, path in zip(found, folders, strict=True)
                ],
            )
            for name, image in pictures.items()
        ]
        if several and names is None and colours is None:
            names = list(named)
        table = declared_table(names, colours, "MaskFolder")
        super().__init__(
            pairs, table, class_file_folders(folder, folders[0]), ignore, defects, **others
        )


class ListRecords(PairedRecords):
    """The arguments of `densekit.data.MaskList`, read without refusing missing files."""

    def __init__(
        self,
        root: str | Path,
        list_file: str,
        *,
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        **others: Any,
    ) -> None:
        folder = existing_folder(Path(root), "root")
        table = declared_table(names, colours, "MaskList")
        rows = listed_masks(folder / list_file, table.names if table else [])
        pairs = [
            (folder / image, [folder / mask if mask else None for mask in masks])
            for image, masks in rows
        ]
        first = next((mask.parent for _, masks in pairs for mask in masks if mask), folder)
        folders = class_file_folders(folder, first)
        super().__init__(pairs, table, folders, ignore, (), **others)


class VocMaskRecords(PairedRecords):
    """The arguments of `densekit.data.VocSegmentation`, read without refusing missing files."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        masks: str = "SegmentationClass",
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        **others: Any,
    ) -> None:
        folder = existing_folder(Path(root), "root")
        images = existing_folder(folder / "JPEGImages", "root")
        by_stem = images_by_stem(images)
        stems = listed_stems(folder / "ImageSets" / "Segmentation", split, "split", by_stem)
        pairs = [
            (images / by_stem.get(stem, [f"{stem}.jpg"])[0], [folder / masks / f"{stem}.png"])
            for stem in stems
        ]
        table = declared_table(names, colours, "VocSegmentation")
        if table is None and find_table([folder]) is None:
            table = ClassTable(VOC_NAMES)
        super().__init__(pairs, table, [folder], ignore, (), **others)


def _code(
    masks: Sequence[Sequence[Path | None]],
    table: ClassTable | None,
    ignore: Sequence[Any] | None,
    folders: Sequence[Path],
) -> MaskCode | None:
    """The classes as the data set class finds them; None if it would refuse the masks."""
    try:
        return find_code(masks, table, ignore, folders, "names")
    except (ValueError, IndexError):
        return None


def _values(
    code: MaskCode | None, table: ClassTable | None, ignore: Sequence[Any] | None
) -> dict[int, str]:
    """Stored value to class, "" for background and void; empty if the masks decide."""
    if code is not None:
        void = dict.fromkeys((*code.ignore, *(() if code.colours else (IGNORE_INDEX,))), "")
        if code.rest is not None:
            return {**void, code.rest: "", code.values[0]: code.names[0]}
        return {**void, **dict(zip(code.values, code.names, strict=True))}
    if table is None or table.colours or len(table.names) == 1:
        return {}
    values = table.values or range(len(table.names))
    void = {value: "" for value in ignore or () if isinstance(value, int)}
    return {IGNORE_INDEX: "", **void, **dict(zip(values, table.names, strict=True))}
