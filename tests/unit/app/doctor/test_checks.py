"""Each check finds what it is for, in a split of ordinary images that no check speaks of."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densekit.app.doctor.checks import duplicates
from densekit.app.doctor.checks.outliers import minority, outliers
from densekit.app.doctor.checks.table import AREAS, CHECKS
from densekit.app.doctor.facts import Defect, Picture
from densekit.app.doctor.findings import Severity
from tests.unit.app.doctor.studies import (
    boxes,
    example,
    found,
    item,
    labelled,
    masked,
    masks,
    names_of,
    picture,
    volume,
    volumes,
)

NAN = math.nan
FILE = Path("a.json")


def test_at_least_sixty_checks_of_distinct_names():
    names = [check.name for checks in AREAS.values() for check in checks]
    assert len(names) == len(set(names)) >= 60
    assert all(check.about and isinstance(check.severity, Severity) for check in CHECKS.values())


@pytest.mark.parametrize("part", [boxes(), masks(), volumes(), boxes(stored="voc")])
def test_ordinary_images_are_no_finding(part):
    assert names_of(part, min_size=800, max_size=1333) == set()


IMAGES = {
    "missing-image": Picture(kind="missing", error="no such file"),
    "empty-file": Picture(kind="empty", error="0 bytes"),
    "broken-image": Picture(kind="broken", error="what is this"),
    "truncated-image": Picture(kind="truncated", error="cut"),
    "wrong-suffix": {"format": "PNG"},
    "several-frames": {"format": "JPEG", "frames": 3},
    "exif-orientation": {"orientation": 3},
    "huge-image": {"height": 10_000, "width": 10_000},
    "tiny-image": {"height": 3, "width": 3},
    "long-image": {"height": 50, "width": 900},
    "size-outlier": {"height": 3000, "width": 4000},
    "mixed-modes": {"mode": "L"},
    "mixed-depths": {"bits": 16},
    "undeclared-depth": {"bits": 16},
    "mixed-formats": {"format": "WEBP"},
    "print-colours": {"mode": "CMYK"},
    "grey-in-colour": {"grey": True},
    "transparent-image": {"clear": True},
    "constant-image": {"spread": 0.0},
    "dark-image": {"high": 9.0},
    "bright-image": {"low": 252.0},
    "low-contrast": {"spread": 1.5},
    "blurred-image": {"sharpness": 2.0},
    "duplicate-image": {"content": "pixels 3"},
    "near-duplicate": {"look": picture(3).look, "tones": picture(3).tones},
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name):
    shown = IMAGES[name]
    part = boxes(example(99, item(), size=None, picture=shown))
    assert [file for file, _ in found(name, part)] == ["99.jpg"]


@pytest.mark.parametrize("copy", [{"content": "pixels 3"}, IMAGES["near-duplicate"]])
def test_copies_in_two_splits(copy):
    name = "duplicate-across-splits" if "content" in copy else "near-duplicate-across-splits"
    val = replace(boxes(), name="val", examples=[example(99, item(), picture=copy)])
    ((file, message),) = found(name, boxes(), val)
    assert file == "99.jpg"
    assert message.endswith("images/3.jpg of train")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("colliding-names", "7.JPG"),
        ("ambiguous-name", "7.png"),
        ("non-ascii-name", "vélo.jpg"),
        ("unportable-name", "a: b.jpg"),
        ("listed-twice", "7.jpg"),
    ],
)
def test_names(name, file):
    assert [f for f, _ in found(name, boxes(example(99, item(), name=file)))] == [file]


def test_a_file_in_two_splits():
    val = replace(boxes(), name="val", examples=[example(3, item())])
    assert found("file-in-two-splits", boxes(), val) == [("3.jpg", "also in train")]
    rendered = replace(val, examples=[example(3, item(), sampled=True)])
    assert found("file-in-two-splits", boxes(), rendered) == []


BOXES = {
    "box-not-finite": item((NAN, 0, 5, 5)),
    "box-inverted": item((40, 10, 20, 50)),
    "box-without-area": item((10, 10, 10, 50)),
    "box-outside": item((120, 10, 140, 50)),
    "box-overhanging": item((60, 10, 140, 50)),
    "box-thin": item((10, 10, 11, 50)),
    "box-vanishes": item((10, 10, 10.4, 10.4)),
    "box-covers-image": item((0, 0, 100, 80)),
    "box-long": item((0, 10, 100, 13)),
    "area-mismatch": item(area=5000.0),
    "box-off-outline": item(outline=(40.0, 40.0, 80.0, 70.0)),
    "broken-outline": item(fault="2 points"),
    "crowd": item(crowd=True),
    "only-ignored-objects": item(difficult=True),
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes(name):
    part = boxes(example(99, BOXES[name]))
    assert [file for file, _ in found(name, part, min_size=160)] == ["99.jpg"]


def test_objects_that_are_annotated_twice():
    again = example(99, item(where="one"), item((10, 10, 40, 50.2), where="two"))
    assert found("box-repeated", boxes(again)) == [("99.jpg", "two repeats one")]
    other = example(99, item(), item((10, 10, 40, 50.2), "dog"))
    assert found("box-repeated", boxes(other)) == []
    assert len(found("box-of-two-classes", boxes(other))) == 1


def test_images_and_their_annotations():
    assert found("no-objects", boxes(example(99))) == [("99.jpg", "no objects")]
    crowded = example(99, *[item((n, n, n + 5, n + 5)) for n in range(60)])
    assert [file for file, _ in found("many-objects", boxes(crowded))] == ["99.jpg"]
    bare = example(99, items=None, annotation=None)
    assert [f for f, _ in found("image-without-annotation", boxes(bare, stored="voc"))] == [
        "99.jpg"
    ]
    wrong = example(99, item(), size=(HIGH := 90, 100))
    assert found("size-mismatch", boxes(wrong)) == [
        ("99.jpg", f"annotated as 100 x {HIGH}, is 100 x 80")
    ]
    lying = example(99, item(), size=(100, 80), picture={"orientation": 6})
    assert [file for file, _ in found("annotated-lying", boxes(lying))] == ["99.jpg"]
    assert found("size-mismatch", boxes(lying)) == []


@pytest.mark.parametrize(
    "name",
    [name for name, check in CHECKS.items() if check.run.__qualname__.startswith("recorded")],
)
def test_recorded_defects(name):
    assert found(name, boxes(defects=[Defect(name, FILE, "text")])) == [("a.json", "text")]


def test_ids():
    assert len(found("category-id-gaps", boxes(ids=[1, 4]))) == 1
    assert found("category-id-gaps", boxes(ids=[3, 4])) == []
    shifted = [Defect("unknown-category", FILE, "0")] * 30
    only_first = [replace(e, items=(item(),)) for e in boxes().examples]
    part = replace(boxes(defects=shifted), examples=only_first)
    assert "one too small" in found("ids-off-by-one", part)[0][1]


def _stored(change, **changes):
    """Splits whose boxes were stored in another layout."""
    rows = [(20, 10, 60, 40), (55, 30, 95, 75), (3, 5, 90, 70), (40, 2, 99, 30), (60, 40, 70, 79)]
    examples = [example(n, item(change(*row))) for n, row in enumerate(rows)]
    return replace(boxes(**changes), examples=examples)


@pytest.mark.parametrize(
    ("name", "change", "stored"),
    [
        ("boxes-like-corners", lambda a, b, c, d: (a, b, a + c, b + d), "coco"),
        (
            "boxes-like-centres",
            lambda a, b, c, d: ((a + c) / 2, (b + d) / 2, c + (c - a) / 2, d + (d - b) / 2),
            "coco",
        ),
        ("boxes-like-sizes", lambda a, b, c, d: (a, b, c - a, d - b), "voc"),
        ("boxes-with-axes-swapped", lambda a, b, c, d: (b, a, d, c), "coco"),
        ("boxes-relative", lambda a, b, c, d: (a / 100, b / 80, c / 100, d / 80), "coco"),
        ("boxes-in-pixels", lambda a, b, c, d: (a * 100, b * 80, c * 100, d * 80), "yolo"),
        ("boxes-from-zero", lambda a, b, c, d: (-1, b, c, d), "voc"),
    ],
)
def test_layouts(name, change, stored):
    part = _stored(change, stored=stored)
    assert len(found(name, part)) == 1
    others = {other for other in names_of(part) if other.startswith("boxes-")}
    assert others == {name}


def test_classes():
    val = replace(boxes(), name="val", examples=[example(99, item(label="bird"))])
    train = boxes(classes=("cat", "dog", "bird", "cow"))
    val = replace(val, classes=train.classes)
    assert found("class-unused", train, val) == [("", "cow")]
    assert found("class-not-in-train", train, val) == [("", "bird: 1 images, none in train")]
    assert len(found("class-not-evaluated", train, val)) == 2
    few = boxes(example(99, item(label="bird")), classes=train.classes)
    assert found("class-rare", few) == [("", "bird: 1 images")]
    many = [example(n, item()) for n in range(100, 300)]
    assert len(found("classes-unbalanced", boxes(example(99, item(label="bird")), *many))) == 1
    assert len(found("classes-differ", boxes(), replace(boxes(), name="val"))) == 0
    assert len(found("classes-differ", boxes(), replace(val, classes=("dog", "cat")))) == 1
    assert len(found("classes-differ", boxes(), replace(boxes(ids=[2, 1]), name="val"))) == 1
    assert len(found("class-names-alike", boxes(classes=("cat", "Cat")))) == 1
    assert len(found("class-name-untidy", boxes(classes=("cat", "dog ")))) == 1
    cats = [example(n, item()) for n in range(100, 140)]
    shifted = replace(boxes(), name="val", examples=cats)
    assert len(found("classes-shifted", boxes(), shifted)) == 1


MASKS = {
    "missing-mask": {"missing": True, "error": "no such file"},
    "broken-mask": {"error": "cut"},
    "mask-size-mismatch": {"height": 90},
    "unknown-mask-value": {"values": {0: 5000, 7: 3000}},
    "empty-mask": {"values": {0: 8000}},
    "void-mask": {"values": {255: 8000}},
    "single-class-mask": {"values": {1: 8000}},
    "smoothed-mask": {"values": dict.fromkeys(range(0, 250, 5), 160)},
    "mixed-mask-modes": {"mode": "RGB"},
    "inverted-mask": {"values": {0: 2010, 1: 5990}},
    "repeated-mask": {"content": "values 3"},
    "mask-is-image": {"content": "pixels 99", "values": {0: 1, 1: 1, 255: 1}},
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    hits = found(name, masks(masked(99, **MASKS[name])))
    assert [Path(file).stem for file, _ in hits] == ["99"]


def test_masks_of_a_whole_split():
    part = masks(classes=["a", "b", "c"], values={0: "a", 1: "b", 2: "c", 255: ""})
    shifted = [replace(e, masks=(replace(e.masks[0], values={1: 5, 3: 5}),)) for e in part.examples]
    assert len(found("mask-values-off-by-one", replace(part, examples=shifted))) == 1
    assert len(found("lossy-mask", masks(masked(99, lossy=True)))) == 1


def test_categories():
    part = labelled(["a", "b"] * 10)
    equal = replace(part.examples[1], picture=part.examples[0].picture)
    both = replace(part, examples=[*part.examples[:1], equal, *part.examples[2:]])
    assert len(found("contradicting-labels", both)) == 1
    assert found("empty-class", labelled(["a", "b"], classes=["a", "b", "c"])) == [
        ("", "c: no image")
    ]
    assert len(found("one-label-only", labelled(["a"] * 5))) == 1
    none = replace(part, examples=[replace(part.examples[0], labels=())])
    assert len(found("no-label", none)) == 1
    assert names_of(part) == set()


def test_identities():
    train = labelled([f"p{n // 4}" for n in range(100)], "identity")
    opened = {"kind": "identity", "name": "test", "closed": False}
    assert len(found("identity-in-two-splits", train, labelled(["p1", "q"], **opened))) == 1
    closed = {**opened, "closed": True}
    assert found("identity-in-two-splits", train, labelled(["p1", "q"], **closed)) == []
    assert len(found("single-image-identity", labelled(["a", "b", "b"], "identity"))) == 1
    more = labelled([f"p{n // 4}" for n in range(100)] + ["x"] * 60, "identity")
    assert found("uneven-identity", more) == [("", "x: 60 images")]
    assert names_of(train) == set()


VOLUMES = {
    "broken-volume": {"error": "cut", "shape": (), "content": ""},
    "missing-volume": {"error": "no such file", "missing": True, "shape": (), "content": ""},
    "mixed-series": {"series": 2, "error": "2 series", "shape": (), "content": ""},
    "missing-slices": {"series": 1, "gap": "5 mm", "error": "x", "shape": (), "content": ""},
    "mixed-orientations": {"orientation": "LPS"},
    "spacing-outlier": {"spacing": (9.0, 1.0, 1.0)},
    "volume-size-outlier": {"shape": (100, 200, 300)},
    "frames-differ": {"frames_differ": "by 3"},
    "orientation-unknown": {"placed": False},
    "mixed-units": {"unit": ""},
    "voxels-not-finite": {"infinite": 3, "error": "3 voxels"},
    "constant-volume": {"spread": 0.0},
    "mixed-channels": {"channels": 2},
    "mixed-scales": {"low": -1000.0},
    "anisotropic-volume": {"spacing": (9.0, 1.0, 1.0)},
    "duplicate-image": {"content": "voxels 3"},
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name):
    part = volumes(volume(99, **VOLUMES[name]))
    assert [file for file, _ in found(name, part)] == ["99.nii.gz"]
    silent = {"mixed-series", "missing-slices", "missing-volume"}
    assert name not in silent or "broken-volume" not in names_of(part)


VOLUME_MASKS = {
    "volume-mask-size": {"shape": (9, 20, 30)},
    "volume-mask-moved": {"affine": (1, 0, 0, 9, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)},
    "mask-with-fractions": {"fractions": True},
    "unknown-volume-label": {"values": {0: 5, 7: 5}},
    "empty-volume-mask": {"values": {0: 6000}},
    "missing-volume": {"error": "no such file", "missing": True, "shape": ()},
}


@pytest.mark.parametrize("name", VOLUME_MASKS)
def test_masks_of_volumes(name):
    assert len(found(name, volumes(volume(99, mask=VOLUME_MASKS[name])))) == 1


def test_a_patient_in_two_splits():
    val = replace(volumes(), name="val", examples=[volume(99, group="patient 3")])
    assert [file for file, _ in found("patient-in-two-splits", volumes(), val)] == ["99.nii.gz"]


def test_outliers_are_far_and_minorities_small():
    assert outliers([1.0] * 30 + [1.9], 8) == []
    assert outliers([1.0] * 30 + [2.1], 8) == [30]
    assert outliers([1.0] * 5 + [99.0], 8) == []
    assert minority(["a"] * 9 + ["b"]) == [9]
    assert minority(["a"] * 5 + ["b"] * 5) == []
    assert minority([]) == []


def test_a_long_video_is_a_row_of_near_duplicates():
    look, frames = 0x9F3A5C7700112233, []
    for number in range(320):
        changed = f"{look ^ 1 << number % 64:016x}"
        shown = {"look": changed, "tones": picture(3).tones}
        frames.append(example(100 + number, item(), picture=shown))
    assert len(found("near-duplicate", boxes(*frames))) == 319


def test_every_pair_of_close_hashes_is_compared():
    rng = np.random.default_rng(0)
    hashes = [int(rng.integers(0, 1 << 62)) for _ in range(40)]
    for _ in range(40):
        flips = rng.choice(64, int(rng.integers(1, 9)), replace=False).tolist()
        hashes.append(hashes[int(rng.integers(40))] ^ sum(1 << bit for bit in flips))
    first, other = duplicates._candidates(hashes)
    expected = {
        (one, two)
        for two in range(80)
        for one in range(two)
        if (hashes[one] ^ hashes[two]).bit_count() < duplicates.FAR
    }
    assert set(zip(first.tolist(), other.tolist(), strict=True)) == expected
    assert expected
