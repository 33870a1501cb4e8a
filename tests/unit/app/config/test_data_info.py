"""What the data say of themselves: the resolver, the model's info."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from densekit.app.config.data_info import data_info_of, model_info
from densekit.app.errors import UsageError
from tests.unit.app.config.described import CELLS, ROADS, source


def resolved(sources: dict[str, Any], path: str, where: str = "heads.cells.num_classes") -> Any:
    cfg = OmegaConf.create({})
    OmegaConf.update(cfg, where, f"${{data_info:{path}}}", force_add=True)
    with data_info_of(sources):
        return OmegaConf.select(cfg, where)


def test_a_head_gets_the_data_that_trains_it() -> None:
    sources = {"a": CELLS, "b": ROADS}
    assert resolved(sources, "num_classes") == 3
    assert resolved(sources, "num_classes", "heads.signs.inner.deep.num_classes") == 2
    assert resolved(sources, "b.num_classes") == 2
    assert list(resolved(sources, "names", "heads.cars.names")) == ["car", "bike"]


def test_outside_heads_all_data_must_agree() -> None:
    assert resolved({"a": CELLS, "b": ROADS}, "channels", "backbone.width") == 3
    with pytest.raises(Exception, match=r"data\.a: 3; data\.b: 2"):
        resolved({"a": CELLS, "b": ROADS}, "num_classes", "backbone.width")


def test_two_sets_of_one_head_must_agree() -> None:
    other = source(["red", "white"], ["cells"])
    with pytest.raises(Exception, match="expected the same in all data sets"):
        resolved({"a": CELLS, "b": other}, "num_classes")


@pytest.mark.parametrize(
    ("path", "message"), [("num_clases", "'num_classes'"), ("aa.num_classes", "did you mean 'a'")]
)
def test_unknown_names_get_the_nearest(path: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        resolved({"a": CELLS}, path)


def test_model_info_is_what_the_data_say() -> None:
    heads = {"cells": {}, "cars": {}}
    info = model_info({"a": CELLS, "b": ROADS}, heads, {"min_size": 3, "max_size": 4})
    assert info["heads"]["cells"] == {
        "names": ["red", "white", "platelet"],
        "ids": [1, 2, 3],
        "num_classes": 3,
    }
    assert info["heads"]["cars"]["num_classes"] == 2
    assert info["mean"] == [1.0, 2.0, 3.0]
    assert info["resize"] == {"min_size": 3, "max_size": 4}


def test_frequencies_of_lvis_reach_the_head() -> None:
    rare = source(["aerosol", "car"], ["cells"], frequency=["r", "f"])
    info = model_info({"a": rare, "b": ROADS}, {"cells": {}, "cars": {}}, None)
    assert info["heads"]["cells"]["frequency"] == ["r", "f"]
    assert "frequency" not in info["heads"]["cars"]


def test_identities_are_those_of_the_data_that_train() -> None:
    faces = source([], ["identity"], num_identities=4, identities="digest")
    pairs = source([], ["identity"])
    pairs.train = None
    heads: dict[str, Any] = {"identity": {}}
    info = model_info({"pairs": pairs, "faces": faces}, heads, None)
    assert info["heads"]["identity"] == {"num_identities": 4, "identities": "digest"}


def test_data_that_disagree_on_the_mean_are_refused() -> None:
    other = source(["car"], ["cars"], mean=[9.0, 9.0, 9.0])
    with pytest.raises(UsageError, match="mean"):
        model_info({"a": CELLS, "b": other}, {"cells": {}, "cars": {}}, None)
