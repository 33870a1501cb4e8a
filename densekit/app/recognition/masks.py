"""Recognises semantic masks: lists of pairs, folders or suffixes of masks, one file per object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from densekit.app.recognition.found import ROOT, WHOLE, Found, below, node
from densekit.app.recognition.pairing import Affixes, find_affixes
from densekit.app.recognition.tree import SPLIT_WORDS, Tree, by_split, common_folder, stems
from densekit.data.fingerprint import spread
from densekit.data.naming import trimmed
from densekit.data.reading.files import same_name
from densekit.data.reading.images import read_image
from densekit.data.reading.progress import tracked
from densekit.data.reading.stored_values import is_coloured, stored_values
from densekit.data.reading.tables import read_text
from densekit.data.segmentation.class_table import class_file_folders, find_table
from densekit.types import IGNORE_INDEX

MASK_WORD = re.compile(
    r"(mask|label|annot|gt|gtfine|gtcoarse|ground_?truth|seg|segmentation|segmentationclass|target|manual|truth)"
    r"(s|ed|ation|ations|_?ids|img)?\d?",
    re.IGNORECASE,
)
"""Names of folders, and suffixes of files, that hold masks."""
SAMPLED = 200
"""Masks whose values are looked at."""
FOLDERS = 30
"""Most folders that are compared one by one."""
MOST_VALUES = 64
"""Masks with more values are pictures of something else."""


def recognise(tree: Tree) -> list[Found]:
    """Masks of one class per pixel."""
    if tree.only:
        return _lists(tree)
    for look in (_objects, _lists, _folders, _suffixes):
        if found := look(tree):
            return found
    return []


def _objects(tree: Tree) -> list[Found]:
    """`ID/images/x.png` with `ID/masks/*.png`, one mask file per object."""
    parts = {tuple(file.split("/")[:-1]) for file in tree.images}
    studies = {p[0] for p in parts if len(p) == 2 and p[1] == "masks"}
    if len(studies) < 2 or not all((study, "images") in parts for study in studies):
        return []
    whole = node("ObjectMasks", root=below(""))
    return [
        Found(
            "object_masks",
            f"one mask file per object in {len(studies):,} folders",
            "masks",
            tree.root,
            {WHOLE: whole},
        )
    ]


def _lists(tree: Tree) -> list[Found]:
    """Text files or tables of pairs `image mask`."""
    lists = [
        f for f in tree.named(".txt", ".csv", ".tsv") if f.count("/") <= 1 and _is_list(tree, f)
    ]
    named = by_split(lists)
    if not lists:
        return []
    chosen = {s: of[0] for s, of in named.items() if s} if "train" in named else {WHOLE: lists[0]}
    nodes = {
        split: node("MaskList", root=below(""), list_file=file) for split, file in chosen.items()
    }
    masks = [tree.root / mask for file in chosen.values() for _, mask in _pairs(tree, file)]
    images = tree.root / _pairs(tree, next(iter(chosen.values())))[0][0]
    classes = _classes(masks, images.parent)
    if classes is None:
        return []
    nodes = {split: {**n, **classes} for split, n in nodes.items()}
    text = f"pairs of image and mask in {', '.join(chosen.values())}"
    notes = _notes(classes, len(masks))
    return [Found("mask_list", text, "masks", tree.root, nodes, notes)]


def _is_list(tree: Tree, file: str) -> bool:
    pairs = _pairs(tree, file)[:3]
    return bool(pairs) and all(same_name(path) in tree.known for pair in pairs for path in pair)


def _pairs(tree: Tree, file: str) -> list[tuple[str, str]]:
    """The pairs of a list, without its header."""
    try:
        lines = read_text(tree.root / file, file).splitlines()
    except ValueError:
        return []
    sign = next((sign for sign in ("\t", ",") if lines and sign in lines[0]), None)
    rows = [[trimmed(cell) for cell in line.split(sign)] for line in lines if trimmed(line)]
    pairs = [(row[0], row[1]) for row in rows if len(row) == 2]
    return pairs[pairs[:1] == [("image", "mask")] :] if len(pairs) == len(rows) else []


def _folders(tree: Tree) -> list[Found]:
    """A folder of masks beside one of images, or one of each per split."""
    masks = [folder for folder in tree.image_folders if is_mask_folder(folder)]
    images = [folder for folder in tree.image_folders if not is_mask_folder(folder)]
    if not masks or not images:
        return []
    pairs = {}
    for split, own in by_split(_spaced(masks)).items():
        rivals = by_split(_spaced(images)).get(split, []) or images
        if (best := _best_pair(tree, _plain(rivals), _plain(own))) is not None:
            pairs[split] = best
    if "train" in pairs:
        pairs.pop("", None)
    elif pairs:
        pairs = {"": max(pairs.values(), key=lambda pair: pair[3])}
    nodes = {
        split or WHOLE: {"images": below(i), "masks": below(m), **affixes.given}
        for split, (i, m, affixes, _) in pairs.items()
    }
    files = {
        split or WHOLE: (i, _chosen(tree, m, affixes))
        for split, (i, m, affixes, _) in pairs.items()
    }
    return _found(tree, _as_whole(nodes), _as_whole(files))


def _as_whole(splits: dict[str, Any]) -> dict[str, Any]:
    """A single split is the whole data set, to be divided."""
    return {WHOLE: next(iter(splits.values()))} if len(splits) == 1 else splits


def _suffixes(tree: Tree) -> list[Found]:
    """Masks in the folder of their images, told by the end of their names."""
    nodes, files = {}, {}
    for split, folders in by_split([f"{folder}/" for folder in tree.image_folders]).items():
        folder = common_folder(folders)
        own = _files(tree, folder)
        names = {_suffix(file) for file in own} - {""}
        counts = Counter({n: find_affixes(*_divided(own, n))[1] for n in sorted(names)})
        if not counts or not (best := counts.most_common(1)[0])[1]:
            continue
        place = below(folder)
        nodes[split or WHOLE] = {"images": place, "masks": place, "mask_suffix": best[0]}
        masks = [file for file in own if _suffix(file) == best[0]]
        files[split or WHOLE] = (folder, masks)
    if "train" not in nodes and nodes:
        nodes = {WHOLE: next(iter(nodes.values()))}
    return _found(tree, nodes, files if len(files) == len(nodes) else _as_whole(files))


def _suffix(file: str) -> str:
    """The end of a file's name that says it is a mask; "" for an image."""
    match = re.search(rf"[_.-]({MASK_WORD.pattern})$", PurePosixPath(file).stem, re.IGNORECASE)
    return match[0] if match else ""


def _divided(files: list[str], suffix: str) -> tuple[set[str], set[str]]:
    masks = [file for file in files if _suffix(file) == suffix]
    return stems(file for file in files if not _suffix(file)), stems(masks)


def _spaced(folders: Iterable[str]) -> list[str]:
    """Folders with their last word apart, as in `trainannot`, and a slash at the end."""
    return [f"{folder.replace('annot', '|annot')}/" for folder in folders]


def _plain(folders: Iterable[str]) -> list[str]:
    return [folder.replace("|annot", "annot").removesuffix("/") for folder in folders]


def is_mask_folder(folder: str) -> bool:
    """Whether a part of the path is a word for masks, alone or beside a split: `train_masks`."""
    return any(map(_says_masks, folder.split("/")))


def _says_masks(name: str) -> bool:
    if MASK_WORD.fullmatch(name) or name.lower().endswith("annot"):
        return True
    words = [word for word in re.split(r"[_. -]", name) if word.lower() not in SPLIT_WORDS]
    alone = len(words) == 1 and words[0].lower() != "seg"  # folders of classes in `seg_train`
    return alone and MASK_WORD.fullmatch(words[0]) is not None


def _best_pair(
    tree: Tree, images: list[str], masks: list[str]
) -> tuple[str, str, Affixes, int] | None:
    """The folders of images and masks that share most names; None if few masks have an image."""
    best: tuple[str, str, Affixes, int] | None = None
    for mask in _candidates(masks):
        own = _relative(tree, mask)
        for image in _candidates(images):
            if f"{mask}/".startswith(f"{image}/") or not image:
                continue
            names = _relative(tree, image)
            affixes, count = find_affixes(names, own)
            if count > (best[3] if best else min(len(own), len(names)) // 2):
                best = image, mask, affixes, count
    return best


def _candidates(folders: list[str]) -> list[str]:
    """The folders and the one that contains them all; without the former if they are many."""
    whole = common_folder([f"{folder}/" for folder in folders])
    return list(dict.fromkeys([*(folders if len(folders) <= FOLDERS else []), whole]))


def _files(tree: Tree, folder: str) -> list[str]:
    start = f"{folder}/" if folder else ""
    return [image for image in tree.images if image.startswith(start)]


def _chosen(tree: Tree, folder: str, affixes: Affixes) -> list[str]:
    """The masks in a folder, which may hold several kinds of files for each image."""
    start, end = affixes.mask_prefix, affixes.mask_suffix
    names = ((file, PurePosixPath(file).stem) for file in _files(tree, folder))
    return [file for file, name in names if name.startswith(start) and name.endswith(end)]


def _relative(tree: Tree, folder: str) -> set[str]:
    return stems(file[len(folder) + 1 :] for file in _files(tree, folder))


def _found(
    tree: Tree, nodes: dict[str, dict[str, Any]], files: dict[str, tuple[str, list[str]]]
) -> list[Found]:
    """The data set of pairs, once the classes of its masks are known."""
    if not nodes:
        return []
    masks = [tree.root / file for _, of in files.values() for file in of]
    classes = _classes(masks, tree.root / next(iter(files.values()))[0])
    if classes is None:
        return []
    splits = {split: node("MaskFolder", **places, **classes) for split, places in nodes.items()}
    places = next(iter(nodes.values()))
    text = f"images in {places['images']}, masks in {places['masks']}".replace(f"{ROOT}/", "")
    notes = _notes(classes, len(masks))
    return [Found("masks", text.replace(ROOT, "."), "masks", tree.root, splits, notes)]


def _notes(classes: dict[str, Any], count: int) -> tuple[str, ...]:
    """What to check where classes were made of stored values."""
    made = classes.get("colours") or classes.get("names", {})
    if not isinstance(made, dict):
        return ()
    kind = "colours" if "colours" in classes else "values"
    sample = f" (of {SAMPLED} of {count:,} masks)" if count > SAMPLED else ""
    objects = "; values that number the objects of an image are no classes" * (kind == "values")
    return (f"the {kind}{sample} are taken for classes: name them in the file{objects}",)


def _classes(masks: list[Path], images: Path) -> dict[str, Any] | None:
    """The arguments that name the classes; None if the files are no masks of classes."""
    if find_table(class_file_folders(images, masks[0].parent)) is not None:
        return {}
    sampled = [masks[index] for index in spread(len(masks), SAMPLED)]
    try:
        return _values(sampled)
    except ValueError:  # colours, or no masks
        return _colours(sampled) if is_coloured(sampled[0]) else None


def _values(masks: list[Path]) -> dict[str, Any] | None:
    """Every stored value that occurs is a class; one name for masks of two values."""
    found: set[int] = set()
    for path in tracked(masks, "looking at masks"):
        found.update(np.unique(stored_values(path)).tolist())
        if len(found) > MOST_VALUES:
            return None
    if found <= {0, 255} or found <= {0, 1}:
        return {"names": ["object"]}
    classes = sorted(found - {IGNORE_INDEX})
    return {"names": {"background" if v == 0 else f"class_{v}": v for v in classes}}


def _colours(masks: list[Path]) -> dict[str, Any] | None:
    """Every colour that occurs is a class."""
    found: Counter[tuple[int, ...]] = Counter()
    for path in tracked(masks, "looking at masks"):
        pixels = read_image(path).reshape(-1, 3)
        found.update(map(tuple, np.unique(pixels, axis=0).tolist()))
        if len(found) > MOST_VALUES:
            return None
    return {"colours": {f"class_{n}": list(c) for n, (c, _) in enumerate(found.most_common())}}
