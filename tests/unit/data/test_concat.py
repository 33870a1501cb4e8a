"""Several data sets of the same classes as one, drawn in given proportions."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import (
    CategoryScenes,
    Concat,
    Dataset,
    Scenes,
    SemanticScenes,
    Shares,
    Source,
    Subset,
)
from densekit.testing import check_data


class Named(Dataset):
    """One small image per label, with every kind of target, whose names are given."""

    def __init__(self, names: list[str], labels: list[int], **described: object) -> None:
        self.names, self.numbers, self.described = names, labels, described

    def __len__(self):
        return len(self.numbers)

    def describe(self):
        count = len(self.names)
        said = {"names": self.names, "ids": list(range(count)), "num_classes": count}
        return said | {"channels": 3, "multilabel": False, "background": False} | self.described

    def mask(self, index):
        if self.described.get("multilabel"):
            numbers = np.arange(len(self.names))[:, None, None]
            return np.repeat(numbers == self.numbers[index], 4, 1).repeat(4, 2).astype(np.uint8)
        return np.asarray([[self.numbers[index], 255]] * 2, np.uint8)

    def __getitem__(self, index):
        label, mask = self.numbers[index], self.mask(index)
        labels = np.asarray([label, label])
        category = np.asarray(label)
        if self.described.get("multilabel"):
            category = np.eye(len(self.names), dtype=np.float32)[label]
        truth = {"image_id": 0, "labels": labels, "mask": mask, "category": category}
        return {
            "image": np.zeros((2, 2, 3), np.uint8),
            **{"labels": labels, "mask": mask, "category": category, "index": index},
            "meta": {"path": f"{self.names[label]} {index}", "image_id": 0},
            "truth": truth,
        }


def test_classes_are_matched_by_name():
    first = Named(["cat", "dog", "cow"], [0, 1])
    data = Concat({"a": first, "b": Named(["cow", "cat", "dog"], [0, 1, 2])})
    assert len(data) == 5
    assert data.describe() == first.describe()
    for index, wanted in enumerate([0, 1, 2, 0, 1]):
        sample = data[index]
        for target in (sample, sample["truth"]):
            assert target["labels"].tolist() == [wanted, wanted]
            assert target["mask"].tolist() == [[wanted, 255]] * 2
            assert target["category"] == wanted
        assert sample["index"] == sample["meta"]["image_id"] == sample["truth"]["image_id"] == index
        assert data.mask(index).tolist() == [[wanted, 255]] * 2
        assert data.labels_in(index).tolist() == [wanted]
    stored = data.stored_masks()
    assert [stored.read(n)[0, 0] for n in stored.of_image] == [0, 1, 2, 0, 1]


def test_planes_of_several_labels_are_matched_by_name():
    parts = {
        "a": Named(["cat", "dog"], [0, 1], multilabel=True),
        "b": Named(["dog", "cat"], [0, 1], multilabel=True),
    }
    data = Concat(parts)
    assert [int(data[i]["category"].argmax()) for i in range(4)] == [0, 1, 1, 0]
    assert [int(data[i]["mask"][:, 0, 0].argmax()) for i in range(4)] == [0, 1, 1, 0]
    assert data[2]["category"].dtype == np.float32


def test_one_class_stays_as_it_is_stored():
    data = Concat({"a": Named(["crack"], [0]), "b": Named(["crack"], [0])})
    assert data.mask(1).tolist() == [[0, 255]] * 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            Named(["cat", "cows"], [0]),
            r"first has \['dog'\], only this one has \['cows'\]",
        ),
        (
            Named(["cat", "dog"], [0], channels=1),
            "channels 3 of the first part, got 1",
        ),
        (Named(["dog", "cat"], [0], background=True), "expected the background"),
        (Named(["cat", "dog"], [0], num_identities=9), "expected data with named classes"),
    ],
)
def test_parts_that_differ_are_refused(other, said):
    first = Named(["cat", "dog"], [0], background=bool(other.described.get("background")))
    with pytest.raises(ValueError, match=rf"Concat\.parts\.b: .*{said}"):
        Concat({"a": first, "b": other})


@pytest.mark.parametrize("kind", [Scenes, SemanticScenes, CategoryScenes])
def test_keeps_the_contract_of_data_sets(kind):
    check_data(Concat({"a": kind("train", 3, size=(64, 64)), "b": kind("val", 2, size=(64, 64))}))


def test_shares_set_how_often_parts_are_drawn():
    parts = {name: Scenes(name, n, size=(64, 64)) for name, n in {"train": 4, "val": 12}.items()}
    data = Concat(parts)
    factors = Shares({"train": 3, "val": 1}).factors(data)
    assert factors.tolist() == pytest.approx([3.0] * 4 + [1 / 3] * 12)  # 12 and 4 of 16 draws
    some = Subset(data, [0, 1, 5])
    assert Shares({"train": 1, "val": 1}).factors(some).tolist() == [0.75, 0.75, 1.5]
    source = Source(train=data, sampling=Shares({"train": 3, "val": 1}), batch_size=4)
    paths = [meta["path"] for batch in source.train_loader() for meta in batch["meta"]]
    assert sum("train" in path for path in paths) == 12
    assert sum("val" in path for path in paths) == 4


def test_shares_that_do_not_fit_are_refused():
    data = Concat({"a": Scenes("train", 2), "b": Scenes("val", 2)})
    with pytest.raises(ValueError, match=r"Shares\.shares\.b: expected the share of this part"):
        Shares({"a": 1}).factors(data)
    with pytest.raises(ValueError, match=r"expected one of a, b, got 'night'"):
        Shares({"a": 1, "b": 1, "night": 2}).factors(data)
    with pytest.raises(ValueError, match=r"Shares: expected training data of several parts"):
        Shares({"a": 1}).factors(Scenes("train", 2))
    with pytest.raises(ValueError, match=r"Shares\.shares\.b: expected images in this part"):
        Shares({"a": 1, "b": 1}).factors(Subset(data, [0, 1]))
    with pytest.raises(ValueError, match=r"Shares\.shares\.a: expected more than 0, got 0"):
        Shares({"a": 0})
    with pytest.raises(ValueError, match=r"Concat\.parts: expected at least one"):
        Concat({})
