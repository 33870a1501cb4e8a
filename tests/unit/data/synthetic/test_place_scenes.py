"""Scenes with three kinds of target: what each says of itself, and which places are seen when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from densekit.app.config.data_info import model_info
from densekit.data import PlaceScenes, Scenes, Source

SIZE = (64, 64)


def _scenes(split: str, length: int = 12, **settings: Any) -> PlaceScenes:
    return PlaceScenes(split, length, size=SIZE, places=4, **settings)


def test_training_has_every_target() -> None:
    sample = _scenes("train")[5]
    assert {"boxes", "mask", "identity"} <= set(sample)
    assert sample["identity"] == 1  # the sixth picture, of the second of four places
    assert set(np.unique(sample["mask"])) - {0} == set(sample["labels"] + 1)


def test_a_place_looks_alike_and_not_the_same() -> None:
    scenes = _scenes("train", objects=(1, 1))

    def grey(index: int) -> Any:
        sample = scenes[index]
        masked = np.where(sample["mask"][..., None] == 0, sample["image"], 0)
        return np.sort(masked.astype(float).mean(2).ravel())

    same = np.abs(grey(0) - grey(4)).mean()
    others = [np.abs(grey(0) - grey(k)).mean() for k in (1, 2, 3)]
    assert 0 < same < np.mean(others)
    assert not np.array_equal(scenes[0]["image"], scenes[4]["image"])


def test_evaluation_compares_neighbours_and_has_no_identity_to_learn() -> None:
    scenes = _scenes("test", length=9)
    samples = [scenes[index] for index in range(9)]
    assert all("identity" not in sample for sample in samples)
    truth: Any = [sample["truth"] for sample in samples]
    rows = [(i, *row) for i, t in enumerate(truth) for row in t["pairs"].tolist()]
    assert rows == [(0, 1, 1, 0), (2, 3, 0, 1), (4, 5, 1, 2), (6, 7, 0, 3)]
    for first, second, same, _ in rows:
        assert (truth[first]["identity"] == truth[second]["identity"]) == bool(same)
    singles = [t["identity"] for t in truth]
    assert len(set(singles)) == 9 - 2  # every place once, but for the two pairs of one place


def test_each_head_is_told_of_its_target() -> None:
    heads = {"detection": "boxes", "segmentation": "mask", "identity": "identity"}
    source = Source(_scenes("train"), heads=heads)
    known = model_info({"scenes": source}, dict.fromkeys(heads, {}), None)["heads"]
    assert known["detection"]["num_classes"] == 5
    assert known["segmentation"]["names"][0] == "background"
    assert known["segmentation"]["num_classes"] == 6
    assert known["identity"]["num_identities"] == 4
    other = PlaceScenes("train", 6, places=4, seed=9).describe()["targets"]["identity"]
    assert other["identities"] != known["identity"]["identities"]


def test_unknown_kind_of_target_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"heads\.parts: target of the data set: .* got 'masks'; did you mean 'mask'",
    ):
        Source(_scenes("train"), heads={"parts": "masks"})
    with pytest.raises(ValueError, match="got 'boxes'"):
        Source(Scenes("train", 2), heads={"detection": "boxes"})


def test_too_few_places() -> None:
    with pytest.raises(ValueError, match="places: expected at least 2, got 1"):
        PlaceScenes(places=1)
