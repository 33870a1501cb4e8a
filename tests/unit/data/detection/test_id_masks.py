"""Masks that number their objects: boxes, classes and outlines, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from densekit.data import IdMasks
from densekit.data.annotations.id_maps import numbered_objects
from densekit.testing import check_data


def write(root: Path, ids: NDArray[Any], name: str = "a", size: tuple[int, int] = (6, 4)) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(root / "images" / f"{name}.png")
    Image.fromarray(ids).save(root / "masks" / f"{name}_ids.png")
    return root


def number(*rows: str) -> NDArray[np.uint8]:
    return np.asarray([[int(pixel) for pixel in row] for row in rows], np.uint8)


IDS = number("110022", "110022", "000300", "100300")


@pytest.mark.parametrize("values", [1, 3, 400])
def test_objects_are_the_pixels_of_their_value(values: int) -> None:
    ids = np.random.default_rng(0).integers(0, values + 1, (13, 9))
    found = list(numbered_objects(ids))
    assert [one.value for one in found] == sorted(set(ids[ids > 0].tolist()))
    for one in found:
        plane = ids == one.value
        y, x = plane.nonzero()
        assert one.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert one.area == plane.sum()
        drawn = np.repeat(np.arange(len(one.counts)) % 2, one.counts).reshape(9, 13).T
        assert (drawn == plane).all()
    assert list(numbered_objects(np.zeros((3, 4), int))) == []


def test_one_class(tmp_path: Path) -> None:
    root = write(tmp_path, IDS)
    write(root, np.zeros((4, 6), np.uint8), "b")
    data = IdMasks(root, ["cell"], mask_suffix="_ids", instance_masks=True)
    sample = data[0]
    assert sample["boxes"].tolist() == [[0, 0, 2, 4], [4, 0, 6, 2], [3, 2, 4, 4]]
    assert sample["truth"]["area"].tolist() == [5, 4, 2]
    assert (sample["instance_masks"] == [value == IDS for value in (1, 2, 3)]).all()
    assert data[1]["boxes"].shape == (0, 4)
    assert data.has_outlines
    assert "instance_masks" not in IdMasks(root, ["cell"], mask_suffix="_ids")[0]
    assert len(IdMasks(root, ["cell"], mask_suffix="_ids", ignore=[2])[0]["boxes"]) == 2
    check_data(data)


def test_classes_by_their_codes(tmp_path: Path) -> None:
    """As in Cityscapes: 26001 is a car, 24 a group of people, 7 the road."""
    ids = np.asarray([[26001, 26002, 24], [7, 0, 24]], np.uint16)
    root = write(tmp_path, ids, size=(3, 2))
    data = IdMasks(root, {"person": 24, "car": 26}, mask_suffix="_ids", divisor=1000)
    assert data[0]["labels"].tolist() == [0, 1, 1]
    assert data[0]["crowd"].tolist() == [True, False, False]
    assert data.describe()["ids"] == [24, 26]


def test_a_list_of_images(tmp_path: Path) -> None:
    root = write(tmp_path, IDS)
    write(root, IDS, "b")
    (root / "val.txt").write_text("b.png\n\n")
    data = IdMasks(root, ["cell"], mask_suffix="_ids", listed="val.txt")
    assert [data.path(index).name for index in range(len(data))] == ["b.png"]
    for text, message in (("c\n", r"val\.txt: image: expected"), ("b\nb\n", "1 repeated line")):
        (root / "val.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            IdMasks(root, ["cell"], mask_suffix="_ids", listed="val.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["a", "b"]}, r"IdMasks\.divisor: expected the number"),
        ({"names": ["a"], "divisor": 1000}, r"IdMasks\.names: expected class names to codes"),
        ({"names": {"a": 1000}, "divisor": 1000}, "codes from 1 to 999"),
        ({"names": ["a"], "mask_suffix": "_other"}, r"expected a_other\.\* for .*a\.png, got none"),
        ({"names": ["a"], "listed": "no.txt"}, r"no\.txt"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        IdMasks(write(tmp_path, IDS), **{"mask_suffix": "_ids", **arguments})


def test_bad_masks_are_refused_by_file(tmp_path: Path) -> None:
    root = write(tmp_path, IDS, size=(7, 4))
    with pytest.raises(ValueError, match=r"a_ids\.png: expected a mask of the size \[4, 7\]"):
        IdMasks(root, ["cell"], mask_suffix="_ids")
    write(root, np.dstack([IDS, IDS, IDS * 2]))
    with pytest.raises(ValueError, match=r"a_ids\.png: expected grey values"):
        IdMasks(root, ["cell"], mask_suffix="_ids")
    (root / "masks" / "a_ids.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a_ids\.png"):
        IdMasks(root, ["cell"], mask_suffix="_ids")
