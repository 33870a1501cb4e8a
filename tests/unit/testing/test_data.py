"""Every check of a data set lets a good one pass and catches the defect it is there for."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from densekit.data import CategoryScenes, PanopticScenes, PlaceScenes, SemanticScenes
from densekit.data.protocols import as_dataset
from densekit.testing import check_data, report
from densekit.testing.data import CHECKS, DataSubject
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.types import Sample, TargetSpec

K = 3


class InMemory:
    """Samples with every kind of target."""

    def __init__(self) -> None:
        self.samples = synthetic_samples(K, side=16)
        for sample in self.samples:
            sample["extra"] = {"depth": np.zeros((16, 16), np.float32)}
            sample["truth"] = copy.deepcopy(sample["truth"])
        self.target_specs = {"depth": TargetSpec(0, ragged=False)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return copy.deepcopy(self.samples[index])

    def describe(self) -> dict[str, Any]:
        return synthetic_info(K) | {"channels": 3, "num_identities": K}

    @property
    def sizes(self) -> NDArray[Any]:
        return np.full((len(self), 2), 16)


class Undescribed(InMemory):
    def describe(self) -> dict[str, Any]:
        return super().describe() | {"ids": [1]}


class OtherSizes(InMemory):
    @property
    def sizes(self) -> NDArray[Any]:
        return np.full((len(self), 2), 17)


class FewLabels(InMemory):
    labels = np.zeros(1, np.int64)


class Random(InMemory):
    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        drawn = np.random.get_state()[1][0] % 7  # type: ignore[index]
        return {**sample, "image": sample["image"] + np.uint8(drawn)}


class Shared(InMemory):
    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "image": self.samples[index]["image"]}


class Forgets(InMemory):
    def __getstate__(self) -> dict[str, Any]:
        samples = copy.deepcopy(self.samples)
        for sample in samples:
            sample["image"][:] = 0
        return {**self.__dict__, "samples": samples}


class KeepsFiles(InMemory):
    def __init__(self) -> None:
        super().__init__()
        self.files: list[Any] = []

    def __getitem__(self, index: int) -> Sample:
        self.files.append(tempfile.TemporaryFile())  # noqa: SIM115
        return super().__getitem__(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "files": []}


class TooLargeExtra(InMemory):
    def __init__(self) -> None:
        super().__init__()
        self.samples[0]["extra"]["depth"] = np.zeros((40, 40), np.float32)


CHANGES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("keys", lambda s: s.update(depth=np.zeros(1))),
    ("keys", lambda s: s["meta"].pop("path")),
    ("keys", lambda s: s["extra"].update(other=np.zeros((16, 16)))),
    ("keys", lambda s: s.update(index=7)),
    ("image", lambda s: s.update(image=s["image"].astype(np.float32))),
    ("boxes", lambda s: s["labels"].fill(K)),
    ("boxes", lambda s: s.update(boxes=s["boxes"].astype(np.float64))),
    ("boxes", lambda s: s["boxes"].__setitem__((0, 2), 17)),
    ("boxes", lambda s: s["boxes"].__setitem__((0, slice(None)), 5)),
    ("boxes", lambda s: s.update(instance_masks=s["instance_masks"] > 0)),
    ("boxes", lambda s: s["instance_masks"].fill(2)),
    ("mask", lambda s: s["mask"].fill(K)),
    ("mask", lambda s: s.update(mask=s["mask"][:8])),
    ("category", lambda s: s.update(category=np.int64(K))),
    ("category", lambda s: s.update(identity=np.int32(0))),
    ("truth", lambda s: s.pop("truth")),
    ("truth", lambda s: s["truth"].update(image_id=77)),
    ("truth", lambda s: s["truth"].pop("masks")),
    ("truth", lambda s: s["truth"]["masks"].pop()),
    ("truth", lambda s: s["truth"]["masks"][0].update(size=[8, 16])),
    ("truth", lambda s: s["truth"].update(mask=s["truth"]["mask"][:8])),
    ("truth", lambda s: s["truth"]["boxes"].__setitem__((0, 2), -1)),
    ("truth", lambda s: s["truth"]["boxes"].__setitem__((0, 2), np.inf)),
)

DEFECTS = (
    ("describes", Undescribed),
    ("sizes", OtherSizes),
    ("optional declarations", FewLabels),
    ("same twice", Random),
    ("own arrays", Shared),
    ("copies", Forgets),
    ("closes files", KeepsFiles),
    ("batches", TooLargeExtra),
)


def changed(change: Callable[[Any], Any]) -> InMemory:
    data = InMemory()
    data.samples = copy.deepcopy(data.samples)
    for sample in data.samples:
        change(sample)
    return data


def failed(dataset: Any) -> list[str]:
    return [
        outcome.name
        for outcome in report(DataSubject(as_dataset(dataset)), CHECKS)
        if outcome.error
    ]


@pytest.mark.parametrize(
    "made", [InMemory, PlaceScenes, PanopticScenes, SemanticScenes, CategoryScenes]
)
def test_good_data_set_passes(made: Any) -> None:
    check_data(made() if made is InMemory else made("val", 4))


def test_truth_may_extend_beyond_the_image() -> None:
    def annotated_beyond(sample: Any) -> None:
        sample["truth"]["boxes"][0] = [9, 9, 70, 40]

    assert failed(changed(annotated_beyond)) == []


def test_every_check_can_fail() -> None:
    found = {name for name, _ in CHANGES} | {name for name, _ in DEFECTS}
    assert found == {check.name for check in CHECKS}


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_a_wrong_sample_is_found(name: str, change: Callable[[Any], Any]) -> None:
    first, *others = failed(changed(change))
    assert first == name
    assert set(others) <= {"batches"}


@pytest.mark.parametrize(("name", "made"), DEFECTS)
def test_a_defect_is_found_by_its_check_alone(name: str, made: type[InMemory]) -> None:
    assert failed(made()) == [name]
