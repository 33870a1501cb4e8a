"""Defects of boxes, annotation records and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from planted.copies import Copy, Row

BOXES = ("coco", "voc", "yolo")
Plant = Callable[[Copy], None]


def _size(copy: Copy) -> tuple[int, int]:
    with Image.open(copy.image()) as picture:
        return picture.size


def _box(change: Callable[[Row, int, int], Row | None]) -> Plant:
    """Changes the first box of an image; it gets width and height of the image."""

    def plant(copy: Copy) -> None:
        image = copy.annotated()
        with Image.open(image) as picture:
            width, height = picture.size

        def changed(rows: list[Row]) -> list[Row]:
            row = change(rows[0], width, height)
            return [*([] if row is None else [row]), *rows[1:]]

        copy.change(image, changed)

    return plant


def _rows(change: Callable[[list[Row]], list[Row]]) -> Plant:
    return lambda copy: copy.change(copy.annotated(), change)


def _json(change: Callable[[dict[str, Any]], object], split: str = "train") -> Plant:
    def plant(copy: Copy) -> None:
        content = copy.json(split)
        change(content)
        copy.dump(content, split)

    return plant


def _first(**changes: Any) -> Plant:
    """Changes the first annotation that is no crowd."""

    def change(content: dict[str, Any]) -> None:
        record = next(a for a in content["annotations"] if not a.get("iscrowd"))
        record.update(changes)

    return _json(change)


def _doubled(content: dict[str, Any], key: str) -> None:
    content[key].append(dict(content[key][0]))


def _listed_twice(content: dict[str, Any]) -> None:
    content["images"].append({**content["images"][0], "id": 10**9})


def _wide(content: dict[str, Any]) -> None:
    content["images"][0]["width"] += 7


def _gap(content: dict[str, Any]) -> None:
    top = max(category["id"] for category in content["categories"])
    content["categories"].append({"id": top + 5, "name": "planted"})


def _shift(content: dict[str, Any]) -> None:
    ids = sorted(category["id"] for category in content["categories"])
    back = {category: place for place, category in enumerate(ids)}
    for category in content["categories"]:
        category["id"] = back[category["id"]] + 1
    for record in content["annotations"]:
        record["category_id"] = back[record["category_id"]]


def _text(change: Callable[[str], str]) -> Plant:
    """Changes a VOC or YOLO file."""

    def plant(copy: Copy) -> None:
        image = copy.annotated()
        file = copy.xml(image) if copy.kind == "voc" else copy.text(image)
        file.write_text(change(file.read_text()))

    return plant


def _unlink(copy: Copy) -> None:
    image = copy.annotated()
    (copy.xml(image) if copy.kind == "voc" else copy.text(image)).unlink()


def _orphan(copy: Copy) -> None:
    if copy.kind == "coco":
        _first(image_id=10**9)(copy)
    else:
        image = copy.annotated()
        copy.text(image).with_name("orphan.txt").write_text("0 .5 .5 .2 .2")


def _unknown(copy: Copy) -> None:
    if copy.kind == "coco":
        _first(category_id=10**6)(copy)
    else:
        _text(lambda text: text + "\n99 .5 .5 .2 .2")(copy)


def _val_class(copy: Copy) -> None:
    """A class that only validation has."""
    for split in ("train", "val"):
        content = copy.json(split)
        content["categories"].append({"id": 10**5, "name": "planted"})
        if split == "val":
            content["annotations"][0]["category_id"] = 10**5
        copy.dump(content, split)


def _other_classes(copy: Copy) -> None:
    content = copy.json("val")
    content["categories"][0]["name"] += " other"
    copy.dump(content, "val")


def _alike(content: dict[str, Any]) -> None:
    name = content["categories"][0]["name"]
    content["categories"].append({"id": 10**5, "name": name.upper()})


def _untidy(content: dict[str, Any]) -> None:
    content["categories"][0]["name"] += "  "


def _difficult(copy: Copy) -> None:
    file = copy.xml(copy.annotated())
    text = file.read_text().replace("<difficult>0</difficult>", "")
    file.write_text(text.replace("</name>", "</name><difficult>1</difficult>"))


def _centres(row: Row) -> Row:
    x1, y1, x2, y2, name = row
    half = (x2 - x1) / 2, (y2 - y1) / 2
    return [x1 + half[0], y1 + half[1], x2 + half[0], y2 + half[1], name]


def _zero(copy: Copy) -> None:
    image = copy.annotated()
    copy.change(image, lambda rows: [[-1, *rows[0][1:]], *rows[1:]])


def _relative(copy: Copy) -> None:
    width, height = _size(copy)
    one = 1 if copy.kind == "voc" else 0  # which is added when the box is written

    def change(row: Row) -> Row:
        x1, y1, x2, y2, name = row
        return [x1 / width - one, y1 / height - one, x2 / width, y2 / height, name]

    copy.change_all(change)


def _in_pixels(copy: Copy) -> None:
    width, height = _size(copy)
    copy.change_all(lambda r: [r[0] * width, r[1] * height, r[2] * width, r[3] * height, r[4]])


def _no_json(copy: Copy) -> None:
    (copy.root / "train.json").write_text("{")


PLANTS: dict[str, tuple[tuple[str, ...], Plant]] = {
    "box-not-finite": (BOXES, _box(lambda r, w, h: [float("nan"), *r[1:]])),
    "box-inverted": (BOXES, _box(lambda r, w, h: [r[2], r[1], r[0], r[3], r[4]])),
    "box-without-area": (BOXES, _box(lambda r, w, h: [r[0], r[1], r[0], r[3], r[4]])),
    "box-outside": (BOXES, _box(lambda r, w, h: [w + 5, r[1], w + 30, r[3], r[4]])),
    "box-overhanging": (BOXES, _box(lambda r, w, h: [r[0], r[1], w + 9, r[3], r[4]])),
    "box-thin": (BOXES, _box(lambda r, w, h: [r[0], r[1], r[0] + 1, r[3], r[4]])),
    "box-vanishes": (BOXES, _box(lambda r, w, h: [r[0], r[1], r[0] + 0.5, r[1] + 0.5, r[4]])),
    "box-covers-image": (BOXES, _box(lambda r, w, h: [0, 0, w, h, r[4]])),
    "box-long": (BOXES, _box(lambda r, w, h: [0, r[1], w, r[1] + w / 30, r[4]])),
    "box-repeated": (BOXES, _rows(lambda rows: [*rows, [rows[0][0] + 0.01, *rows[0][1:]]])),
    "box-of-two-classes": (("voc",), _rows(lambda rows: [*rows, [*rows[0][:4], "planted"]])),
    "no-objects": (BOXES, _rows(lambda rows: [])),
    "many-objects": (
        ("bccd", "rendered"),
        _rows(lambda rows: [[n % 20 + n, n, n + 30, n + 35, rows[0][4]] for n in range(150)]),
    ),
    "boxes-like-corners": (
        ("coco",),
        lambda copy: copy.change_all(lambda r: [r[0], r[1], r[0] + r[2], r[1] + r[3], r[4]]),
    ),
    "boxes-like-centres": (("coco",), lambda copy: copy.change_all(_centres)),
    "boxes-like-sizes": (
        ("voc",),
        lambda copy: copy.change_all(lambda r: [r[0], r[1], r[2] - r[0], r[3] - r[1], r[4]]),
    ),
    "boxes-with-axes-swapped": (
        ("bccd", "coco_small"),
        lambda copy: copy.change_all(lambda r: [r[1], r[0], r[3], r[2], r[4]]),
    ),
    "boxes-relative": (("coco", "voc"), _relative),
    "boxes-in-pixels": (("yolo",), _in_pixels),
    "boxes-from-zero": (("voc",), _zero),
    "crowd": (("coco",), _first(iscrowd=1)),
    "only-ignored-objects": (("voc",), _difficult),
    "area-mismatch": (("coco",), _first(area=10**7)),
    "box-off-outline": (("coco",), _first(segmentation=[[0, 0, 3, 0, 3, 3, 0, 3]])),
    "broken-outline": (("coco",), _first(segmentation=[[1, 2, 3]])),
    "size-mismatch": (("coco",), _json(_wide)),
    "listed-twice": (("coco",), _json(_listed_twice)),
    "duplicate-image-id": (("coco",), _json(lambda content: _doubled(content, "images"))),
    "duplicate-annotation-id": (("coco",), _json(lambda c: _doubled(c, "annotations"))),
    "duplicate-category": (("coco",), _json(lambda c: _doubled(c, "categories"))),
    "category-id-gaps": (("pennfudan",), _json(_gap)),
    "ids-off-by-one": (("coco",), _json(_shift)),
    "malformed-record": (("coco",), _first(bbox=[1, 2])),
    "malformed-annotation-file": (("voc",), _text(lambda text: text[:60])),
    "annotation-without-image": (("coco", "yolo"), _orphan),
    "image-without-annotation": (("voc", "yolo"), _unlink),
    "unknown-category": (("coco", "yolo"), _unknown),
    "class-unused": (("coco",), _json(_gap)),
    "class-not-in-train": (("coco",), _val_class),
    "classes-differ": (("coco",), _other_classes),
    "class-names-alike": (("coco",), _json(_alike)),
    "class-name-untidy": (("coco",), _json(_untidy)),
    "data-refused": (("coco",), _no_json),
}
"""Check to the kinds (or names) of data sets that its defect is planted in, and the planting."""
