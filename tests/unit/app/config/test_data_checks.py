"""Checks of data sets against heads, callbacks and the resize rule."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densekit.app.config.data_checks import (
    check_heads,
    check_monitors,
    check_num_classes,
    check_object_masks,
    check_order,
    check_resize,
    check_trained,
    warn_of_unseen_classes,
)
from densekit.app.errors import UsageError
from densekit.data import CocoDetection, Concat, Dataset, Scenes, Shares, Source, Subset
from tests.unit.app.config.described import CELLS, ROADS, source

FASTER = {"_target_": "densekit.heads.FasterRCNN"}


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ({"spatial_dims": 1}, "series"),
        ({"spatial_dims": 3}, "volumes"),
        ({"spatial_dims": 2, "slices": {"axis": 0}}, "slices of volumes"),
    ],
)
def test_a_resize_rule_is_for_pictures(described: dict[str, Any], kind: str) -> None:
    sources = {"a": CELLS, "b": source(["car"], ["cars"], **described)}
    check_resize(None, sources)
    check_resize({"min_size": 3}, {"a": CELLS})
    with pytest.raises(
        UsageError, match=rf"data\.b: resize: expected null for {kind}, .*; set resize="
    ):
        check_resize({"min_size": 3}, sources)


@pytest.mark.parametrize(
    ("rule", "message"),
    [({"min_sise": 3}, "did you mean 'min_size'"), ({"max_size": 3}, "a rule with min_size")],
)
def test_a_wrong_resize_rule_is_refused(rule: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_resize(rule, {"a": CELLS})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 1}, r"Shares\.shares\.b: expected the share of this part, got none"),
        ({"a": 1, "c": 1}, "Shares.shares: part: expected one of a, b, got 'c'"),
    ],
)
def test_an_order_that_the_data_cannot_have_is_refused(
    shares: dict[str, float], message: str
) -> None:
    one = Scenes("train", 2, size=(64, 64))
    both = Concat({"a": one, "b": one})
    with pytest.raises(UsageError, match=rf"^data\.x: {message}"):
        check_order({"x": Source(train=both, sampling=Shares(shares))})
    with pytest.raises(UsageError, match="several parts, Concat, got Scenes"):
        check_order({"x": Source(train=one, sampling=Shares(shares))})
    check_order({"x": Source(train=both, sampling=Shares({"a": 1, "b": 2})), "y": Source(val=one)})


OUTLINED = """
from densekit.heads import FasterRCNN
class Outlined(FasterRCNN):
    target_keys = (*FasterRCNN.target_keys, "object_masks")
"""


def test_a_head_of_masks_needs_data_with_outlines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outlined_of_checks.py").write_text(OUTLINED)
    monkeypatch.syspath_prepend(str(tmp_path))
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    heads = {"mine": {"_target_": "outlined_of_checks.Outlined"}}

    def check(train: Any) -> None:
        source = Source(train=train, heads=["mine"])
        check_object_masks({"x": source}, heads, ["outlined_of_checks"])

    def coco(outline: Any, *, read: bool = True) -> CocoDetection:
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
            "annotations": [{**box, "segmentation": outline}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        return CocoDetection(tmp_path, ".", "a.json", instance_masks=read)

    good = [[1, 1, 9, 1, 9, 9]]
    check(Scenes("train", 2, size=(64, 64), instance_masks=True))
    check(Subset(coco(good), [0]))
    check_object_masks({"x": Source(train=coco([]), heads=["mine"])}, {"mine": FASTER}, [])
    for train in (Scenes("train", 2, size=(64, 64)), coco(good, read=False), coco([])):
        with pytest.raises(UsageError, match=r"data\.x\.train: .*heads\.mine \(Outlined\) learns"):
            check(train)


def test_heads_and_data_have_to_meet() -> None:
    with pytest.raises(UsageError, match=r"data\.a\.heads.*'cells'.*did you mean 'cell'"):
        check_heads({"a": CELLS}, {"cell": {}})
    with pytest.raises(UsageError, match=r"heads\.other: expected a data set .*data\.a\.heads"):
        check_trained({"a": CELLS}, {"cells": {}, "other": {}})
    with pytest.raises(UsageError, match="data: expected at least one"):
        check_heads({}, {"cells": {}})
    check_trained({"a": CELLS}, {"cells": {}})


def test_a_data_set_without_training_images_trains_no_head() -> None:
    only_evaluated = source(["red"], ["cells"])
    only_evaluated.train = None
    with pytest.raises(UsageError, match=r"heads\.cells: expected .*got none in data\.b\.train"):
        check_trained({"b": only_evaluated}, {"cells": {}})
    check_trained({"a": CELLS, "b": only_evaluated}, {"cells": {}})


def test_no_data_set_is_called_as_the_total_loss_is() -> None:
    with pytest.raises(UsageError, match=r"data\.loss: expected another name"):
        check_heads({"loss": CELLS}, {"cells": {}})


def test_monitors_name_what_is_there() -> None:
    heads = {"cells": {}, "cars": {}, "signs": {}}
    both = {"a": CELLS, "b": ROADS}
    check_monitors({"c": {"_target_": "x.Y", "monitor": "val/cells/AP"}}, {"a": CELLS}, heads)
    ours = {"_target_": "densekit.training.Checkpoint"}
    for monitor in ("val/loss", "train/loss", "main", None):
        check_monitors({"c": {**ours, "monitor": monitor}, "d": None, "e": ours}, both, heads)
    for monitor in ("accuracy", "epoch", "test/cells/AP", ""):
        with pytest.raises(UsageError, match=r"callbacks\.c\.monitor: expected main or a metric"):
            check_monitors({"c": {**ours, "monitor": monitor}}, both, heads)
    foreign = {"x": {"_target_": "mine.Logs"}, "c": {**ours, "monitor": "mine"}}
    check_monitors(foreign, both, heads)
    check_monitors({"c": {"_target_": "x.Y", "monitor": "val/a/cells/AP"}}, both, heads)
    with pytest.raises(UsageError, match=r"callbacks\.c\.monitor.*did you mean 'cells'"):
        check_monitors({"c": {"_target_": "x.Y", "monitor": "val/cell/AP"}}, {"a": CELLS}, heads)


class Masks(Dataset):
    """Three masks in which the second class is absent."""

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("masks are read without their images")

    def __len__(self) -> int:
        return 3

    def mask(self, index: int) -> Any:
        return np.asarray([[0, 2]])

    def describe(self) -> dict[str, Any]:
        return {"names": ["background", "liver", "tumour"], "num_classes": 3}


def test_classes_that_no_training_mask_shows_are_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unseen_classes(
        {
            "ct": SimpleNamespace(train=Masks()),
            "boxes": SimpleNamespace(train=Scenes(length=1)),
            "test": SimpleNamespace(train=None),
        }
    )
    assert caplog.messages == [
        "data.ct.train: no pixel of 'liver' in 3 masks: the network cannot learn it"
    ]


@pytest.mark.parametrize("part", [False, True])
def test_classes_without_an_object_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: bool
) -> None:
    """As Roboflow exports them: class 0 is a heading that no object has."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    categories = [{"id": i, "name": name} for i, name in enumerate(("cells", "red", "white"))]
    boxes = [
        {"id": i, "image_id": 1, "category_id": i, "bbox": [1, 1, 5, 5]} for i in range(1, 3 - part)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 20, "width": 20}]
    content = {"images": images, "categories": categories, "annotations": boxes}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    data: Any = CocoDetection(tmp_path, ".", "gt.json")
    data = Subset(data, [0]) if part else data
    warn_of_unseen_classes({"mine": SimpleNamespace(train=data)})
    missing = "2 of its classes: 'cells', 'white'" if part else "1 of its classes: 'cells'"
    assert f"data.mine.train: no object of {missing}" in caplog.messages[0]


def test_a_head_for_fewer_classes_than_its_data_is_refused() -> None:
    heads = {"cells": {"num_classes": 3}}
    three = source(["a", "b", "c"], ["cells"])
    check_num_classes({"mine": three}, heads)
    check_num_classes({"mine": three}, {"cells": {}})
    for given in (1, 2):
        with pytest.raises(UsageError, match=r"heads\.cells\.num_classes: expected 3 .*got [12]"):
            check_num_classes({"mine": three}, {"cells": {"num_classes": given}})
