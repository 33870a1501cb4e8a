"""Masks that show nothing to be learned are refused or said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from densekit.data import MaskFolder, MedicalVolumes, Repeat, Source, Split, SplitRule, VolumeSlices
from densekit.data.foreground import unseen_classes
from tests.unit.data.medical_files import write_msd


@pytest.fixture
def masks(tmp_path):
    """A folder of 4x4 images whose masks are of one value each."""

    def write(*values, split=".", **arguments):
        root = tmp_path / split
        for kind in ("i", "m"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        for number, value in enumerate(values):
            Image.new("RGB", (4, 4)).save(root / "i" / f"{number}.png")
            mask = np.zeros((4, 4), np.uint8)
            mask[0] = value
            Image.fromarray(mask).save(root / "m" / f"{number}.png")
        return MaskFolder(root / "i", root / "m", **arguments)

    return write


@pytest.mark.parametrize(
    "arguments",
    [{"names": ["cell"]}, {"names": ["background", "a", "b"]}, {"names": ["sky", "road"]}, {}],
)
def test_empty_masks_are_not_trained_on_and_said_elsewhere(masks, caplog, arguments):
    data = masks(0, 0, 0, **arguments)
    with pytest.raises(ValueError, match=r"i/0\.png: expected a pixel of a class .* in 3 masks"):
        Source(train=data)
    with caplog.at_level(logging.WARNING, "densekit.data"):
        Source(val=data, test=data)
    assert "none of the 3 masks of val" in caplog.text
    assert "none of the 3 masks of test" in caplog.text


def test_damaged_masks_are_left_to_the_look_at_all_files(masks, tmp_path):
    masks(1, 0)
    for number in range(2):
        (tmp_path / "m" / f"{number}.png").write_bytes(b"no")
    masks(0, 1)
    (tmp_path / "m" / "1.png").write_bytes(b"no")
    data = masks(0, names=["cell"])
    assert Source(train=data).train is data
    assert unseen_classes(data) == (["cell"], 1)


def test_void_alone_is_no_foreground(masks):
    with pytest.raises(ValueError, match="expected a pixel of a class"):
        Source(train=masks(255, 255, names=["background", "a", "b"]))


@pytest.mark.parametrize("part", [lambda d: Split(d, "train", SplitRule(every=2)), lambda d: d])
def test_only_the_images_of_a_split_count(masks, part):
    data = masks(1, 0, names=["cell"])  # the first one is held out
    if part(data) is data:
        Source(train=Repeat(data, 2))
        return
    with pytest.raises(ValueError, match="got none in 1 mask"):
        Source(train=part(data))


@pytest.mark.parametrize(
    ("names", "values", "missing"),
    [
        (["background", "a", "b"], [1, 1], ["b"]),
        (["a", "b", "c"], [2, 0], ["b"]),
        (["background", "a"], [1, 0], []),
        (["cell"], [255, 0], []),
    ],
)
def test_classes_that_are_never_seen(masks, names, values, missing):
    assert unseen_classes(masks(*values, names=names))[0] == missing


def test_volumes_and_their_slices(tmp_path):
    write_msd(tmp_path, count=2)
    labels = {"background": 0, "anterior": 1, "posterior": 2, "tail": 3}
    volumes = MedicalVolumes(tmp_path, labels=labels)
    for data in (volumes, VolumeSlices(volumes), Repeat(VolumeSlices(volumes), 2)):
        assert unseen_classes(data) == (["tail"], 2)
        Source(train=data, mean=[0.0], std=[1.0])


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("value", [255, 7])
def test_val_without_a_yes_goes_with_any_train(masks, caplog, several, value):
    train, val = masks(value, split="train"), masks(0, 0, split="val")
    if several:
        of = {split.path(0).parents[1] for split in (train, val)}
        val, train = (MaskFolder(f / "i", {n: f / "m" for n in "ab"}) for f in sorted(of)[::-1])
    with caplog.at_level(logging.WARNING, "densekit.data"):
        source = Source(train=train, val=val)
    assert source.describe()["ids"] == ([0, 1] if several else [value])
    assert source.describe().get("plane_values", [0, value]) == [0, value]
    assert "of val has a pixel of a class" in caplog.text
