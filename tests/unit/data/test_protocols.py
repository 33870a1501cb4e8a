"""What a data set class of one's own must have, and what it may say besides."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import (
    Dataset,
    Source,
    Split,
    SplitRule,
    Subset,
    class_frequencies,
)
from densekit.data.foreground import shows_foreground, unseen_classes
from densekit.data.protocols import as_dataset
from densekit.data.reading.file_check import broken_files
from densekit.types import Sample, TargetSpec

NAMES = ["background", "bar", "spot"]


class Plain:
    """The three methods, and no base class."""

    def __len__(self):
        return 6

    def describe(self):
        return {"names": NAMES, "ids": [0, 1, 2], "num_classes": 3, "channels": 3, "dtype": "uint8"}

    def __getitem__(self, index):
        mask = np.full((8, 9), index % 2, np.uint8)
        meta = {"path": f"bar {index}", "image_id": index, "original_size": (8, 9)}
        image = np.zeros((8, 9, 3), np.uint8)
        return Sample(image=image, mask=mask, index=index, meta=meta, truth={"mask": mask})


class Bars(Plain, Dataset):
    """The same as a `Dataset`."""


class Telling(Bars):
    """All that a data set may say."""

    target_specs = {"depth": TargetSpec(fill=0, ragged=False)}
    labels = np.arange(6) // 2
    modalities = ("CT",)
    reads_files = False

    def __init__(self, files):
        self.files = files

    @property
    def sizes(self):
        return np.asarray([[8, 9 + index] for index in range(6)])

    @property
    def keys(self):
        return np.asarray([f"{index // 3}".encode() for index in range(6)])

    def path(self, index):
        return self.files[index]

    def mask(self, index):
        return np.full((8, 9), 2 * (index == 5), np.uint8)

    def origin(self, index):
        return [self.files[index]], "as text"

    def read(self, index):
        if not self.files[index].exists():
            raise ValueError(f"{self.files[index]}: cannot be read")


@pytest.fixture
def telling(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "densekit.data.reading.file_check._marks_file", lambda _: tmp_path / "memory" / "m"
    )
    files = [tmp_path / f"p{index % 3}_{index}.txt" for index in range(6)]
    for file in files[:4]:
        file.touch()
    return Telling(files)


@pytest.mark.parametrize("data", [Bars(), as_dataset(Plain())])
def test_three_methods_are_enough(data):
    assert data.sizes.tolist() == [[8, 9]] * 6
    assert (data.target_specs, data.labels, data.keys, data.path(0)) == ({}, None, None, None)
    assert data.mask(1).all()
    assert class_frequencies(data) == {"background": 216, "bar": 216, "spot": 0}
    assert data.stored_masks() is None
    assert shows_foreground(data)  # masks that need their images are not looked at
    assert broken_files(data) == {}
    assert Split(data, "test", SplitRule(every=5)).positions.tolist() == [0, 5]
    source = Source(data, Subset(data, [1]), heads=["segmentation"], group_by_aspect=True)
    assert next(iter(source.train_loader()))["mask"].shape == (4, 8, 9)


def test_a_class_of_another_kind_says_what_it_has(telling):
    class Other(Plain):
        path = telling.path
        mask = telling.mask
        sizes = telling.sizes
        origin = "a folder"  # no method: it means something else

    data = Source(train=Other(), heads=["segmentation"]).train
    assert data.path(3) == telling.path(3)
    assert data.sizes.tolist() == telling.sizes.tolist()
    assert (data.keys, data.origin(0)) == (None, None)
    assert unseen_classes(data) == (["bar"], 6)


class Assigned(Bars):
    """Assigns what it knows, as lists."""

    def __init__(self):
        self.sizes = [[8, 9 + index] for index in range(6)]
        self.labels = [0, 0, 1, 1, 2, 2]
        self.keys = ["ä", "ä", "ä", "b", "b", "b"]


def test_lists_may_be_assigned(caplog):
    data = Assigned()
    part = Subset(data, [5, 0])
    assert (part.sizes.tolist(), part.labels.tolist()) == ([[8, 14], [8, 9]], [2, 0])
    assert part.keys.tolist() == [b"b", "ä".encode()]
    named = {"heads": ["segmentation"], "batch_size": 2}
    by_identity = Source(data, part, **named, images_per_identity=2)
    assert "2 training images are also in val" in caplog.text
    assert next(iter(by_identity.train_loader()))["mask"].shape == (2, 8, 9)
    assert next(iter(Source(data, **named, group_by_aspect=True).train_loader()))
    assert Split(data, "test", SplitRule(every=2)).positions.tolist() == [3, 4, 5]


@pytest.mark.parametrize("data", [[1, 2], object(), None.__class__])
def test_what_is_no_data_set_is_refused(data):
    message = "val: expected a data set with __len__, __getitem__ and describe, got"
    with pytest.raises(ValueError, match=message):
        Source(Bars(), data, heads=["segmentation"])


@pytest.mark.parametrize("base", [Plain, Bars])
def test_sizes_as_a_method_are_refused(base):
    data = type("Own", (base,), {"sizes": lambda self: []})()
    with pytest.raises(ValueError, match=r"train\.sizes: expected an array, got a method"):
        Source(data, heads=["segmentation"])


def test_an_error_of_a_property_is_not_hidden():
    class Broken(Plain):
        @property
        def sizes(self):
            return self.table

    with pytest.raises(AttributeError, match="table"):
        _ = as_dataset(Broken()).sizes


def test_a_class_that_passes_members_on_is_a_data_set(telling):
    class Passing:
        def __len__(self):
            return len(telling)

        def __getitem__(self, index):
            return telling[index]

        def __getattr__(self, name):
            return getattr(telling, name)

    assert as_dataset(Passing()).sizes.tolist() == telling.sizes.tolist()


def test_a_part_says_what_the_whole_says(telling):
    part = Subset(Subset(telling, [5, 4, 3, 0]), [0, 3])
    assert part.target_specs == telling.target_specs
    assert (part.labels.tolist(), part.modalities, part.reads_files) == ([2, 0], ("CT",), False)
    assert part.sizes.tolist() == [[8, 14], [8, 9]]
    assert part.keys.tolist() == [b"1", b"0"]
    assert part.path(1) == telling.path(0)
    assert [int(part.mask(index).max()) for index in (0, 1)] == [2, 0]
    assert part.stored_masks().of_image.tolist() == [5, 0]
    assert list(broken_files(part)) == [0]
    assert list(broken_files(telling)) == [4, 5]


def test_masks_of_its_own_are_searched_before_training(telling):
    assert class_frequencies(telling) == {"background": 360, "bar": 0, "spot": 72}
    assert unseen_classes(telling) == (["bar"], 6)
    with pytest.raises(ValueError, match=r"p0_0\.txt: expected a pixel of a class .* in 5 masks"):
        Source(train=Subset(telling, range(5)), heads=["segmentation"])


def test_files_name_the_groups_of_a_split(telling):
    held = Split(telling, "test", SplitRule(every=3, group=r"(p[0-9])_"))
    assert held.positions.tolist() == [0, 3]
