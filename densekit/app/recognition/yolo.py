"""Recognises YOLO txt: `data.yaml`, or label files whose rows are classes with coordinates."""

from __future__ import annotations

from pathlib import Path

from densekit.app.recognition.found import OUTLINED, WHOLE, Found, node
from densekit.app.recognition.tree import Tree, by_folder, by_split, common_folder, split_of, stems
from densekit.data.annotations.yolo_config import (
    YoloConfig,
    class_file,
    read_class_file,
    read_yolo_config,
)
from densekit.data.annotations.yolo_files import label_rows, mirrored
from densekit.data.reading.files import same_name

_LOOKED_AT = 10
"""Label files that are read to recognise the format."""
_TRIED = 200
"""Text files among which they are looked for; some may be empty."""


def recognise(tree: Tree) -> list[Found]:
    """Boxes, and masks where rows are polygons."""
    described = _described(tree)
    if described is None:
        return [] if tree.only else _undescribed(tree)
    name, config = described
    keys = {split: key for key in config.splits if (split := split_of(key))}
    sample = [text for text in _texts(tree) if split_of(text) != "test"] or _texts(tree)
    if not keys or not sample:
        return []
    root, file = tree.root / Path(name).parent, Path(name).name
    other = None if file == "data.yaml" else file
    splits = {
        s: node("YoloDetection", root="{root}", split=k, config=other) for s, k in keys.items()
    }
    return _both(f"YOLO txt, described by {name}", root, splits, _has_polygons(tree, sample))


def _described(tree: Tree) -> tuple[str, YoloConfig] | None:
    """The `data.yaml` nearest to the root that describes a data set of YOLO."""
    files = sorted(
        tree.named(".yaml", ".yml"), key=lambda file: (file.count("/"), file != "data.yaml")
    )
    for file in files:
        try:
            config = read_yolo_config(tree.root / file, "data.yaml")
        except ValueError:
            if tree.only:
                raise
            continue
        if config.splits:
            return file, config
    return None


def _undescribed(tree: Tree) -> list[Found]:
    """Label files in the folders of images, in `labels` beside `images`, or in one of their own."""
    tried = _texts(tree)[:_TRIED]
    labels = [file for file in tried if _is_label_file(tree.root / file)][:_LOOKED_AT]
    images = stems(tree.images)
    if not labels:
        return []
    if all(same_name(image[:-4]) in images for image in map(_mirrored_back, labels)):
        folders = _labelled(tree)
        named = by_split([folder + "/" for folder in folders])
        if "train" in named and "" not in named:
            places = {split: common_folder(of) or "." for split, of in named.items()}
        else:
            places = {WHOLE: common_folder([folder + "/" for folder in folders]) or "."}
        names = _names(tree, labels) if len(places) > 1 else None
        splits = {
            split: node(
                "YoloDetection", root="{root}", images=None if f == "images" else f, names=names
            )
            for split, f in places.items()
        }
        where = " and ".join(places.values())
        return _both(f"YOLO txt for {where}", tree.root, splits, _has_polygons(tree, labels))
    return _apart(tree, labels)


def _apart(tree: Tree, labels: list[str]) -> list[Found]:
    """A folder of labels somewhere else, paired with the images of the same names."""
    texts = by_folder(_texts(tree))
    folder = max(texts, key=lambda f: len(texts[f]))
    own = stems(file.rpartition("/")[2] for file in texts[folder])
    best = max(
        tree.image_folders,
        key=lambda f: len(own & stems(i.rpartition("/")[2] for i in tree.image_folders[f])),
        default="",
    )
    there = stems(i.rpartition("/")[2] for i in tree.image_folders.get(best, []))
    if not own & there:
        return []
    whole = node("YoloDetection", root="{root}", images=best or ".", labels=folder or ".")
    text = f"YOLO txt in {folder or '.'}, images in {best or '.'}"
    return _both(text, tree.root, {WHOLE: whole}, _has_polygons(tree, labels))


def _both(
    text: str, root: Path, splits: dict[str, dict[str, object]], polygons: bool
) -> list[Found]:
    """Boxes, and also masks if there are polygons."""
    if not polygons:
        return [Found("yolo", text, "boxes", root, splits)]
    masks = {split: {**n, "_target_": "densekit.data.YoloSemantic"} for split, n in splits.items()}
    named = any("names" in n for n in masks.values())
    notes = (OUTLINED.format("yolo_masks"),) * (not named)
    boxes = Found("yolo", text, "boxes", root, splits, notes, outlines=True)
    return [boxes] if named else [boxes, Found("yolo_masks", text, "masks", root, masks)]


def _texts(tree: Tree) -> list[str]:
    """The text files that have the name of an image."""
    names = {stem.rpartition("/")[2] for stem in stems(tree.images)}
    texts = (file for file in tree.files if file.lower().endswith(".txt"))
    return [file for file in texts if same_name(file.rpartition("/")[2][:-4]) in names]


def _mirrored_back(text: str) -> str:
    """The path of the image of a label file, with the suffix of the label file."""
    folder, _, name = text.rpartition("/")
    parts = folder.split("/")
    if "labels" in parts:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
    return "/".join([*filter(None, parts), name])


def _labelled(tree: Tree) -> list[str]:
    """The folders of images whose label files are in them or beside them."""
    own = {text.rpartition("/")[0] for text in _texts(tree)}
    beside = {folder: mirrored(Path(folder)) for folder in tree.image_folders}
    return [f for f, labels in beside.items() if f in own or (labels and labels.as_posix() in own)]


def _is_label_file(path: Path) -> bool:
    """Whether every row is a class and coordinates, and there is at least one."""
    try:
        rows = label_rows(path)
        values = [[float(word) for word in words] for _, words in rows]
    except ValueError:
        return False
    return bool(values) and all(len(v) >= 5 and v[0].is_integer() for v in values)


def _has_polygons(tree: Tree, labels: list[str]) -> bool:
    files = [tree.root / file for file in labels[:_LOOKED_AT]]
    return any(
        len(words) > 6 for file in files if _is_label_file(file) for _, words in label_rows(file)
    )


def _names(tree: Tree, labels: list[str]) -> list[str]:
    """All classes, so that the splits agree."""
    folders = [tree.root, *{tree.root / label.rpartition("/")[0] for label in labels}]
    if (named := class_file(folders)) is not None:
        return read_class_file(named)
    found = {
        int(float(words[0])) for text in _texts(tree) for _, words in label_rows(tree.root / text)
    }
    return [f"class_{number}" for number in range(1 + max(found, default=0))]
