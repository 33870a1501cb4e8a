"""What the data say of themselves: the resolver, the model's info, what must fit together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from densekit.app.config.data_checks import (
    check_heads,
    check_monitors,
    check_num_classes,
    check_resize,
    check_trained,
    say_unseen_classes,
)
from densekit.app.config.data_info import model_info, register_data_info
from densekit.app.errors import UsageError
from densekit.app.run.stored import RUN_KEYS, keep_axes, reopen
from densekit.data import CocoDetection, Dataset, Scenes, Subset


def source(names: list[str], heads: list[str], **more: Any) -> Any:
    described = {
        "names": names,
        "ids": list(range(1, len(names) + 1)),
        "num_classes": len(names),
        "channels": 3,
        "mean": [1.0, 2.0, 3.0],
        "std": [1.0, 1.0, 1.0],
    } | more
    return SimpleNamespace(
        heads=tuple(heads), describe=lambda: dict(described), train=object(), val=object()
    )


CELLS = source(["red", "white", "platelet"], ["cells"])
ROADS = source(["car", "bike"], ["cars", "signs"])


def resolved(sources: dict[str, Any], path: str, where: str = "heads.cells.num_classes") -> Any:
    register_data_info(sources)
    cfg = OmegaConf.create({})
    OmegaConf.update(cfg, where, f"${{data_info:{path}}}", force_add=True)
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
    with pytest.raises(Exception, match="must agree"):
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
        UsageError, match=rf"data\.b: resize: .* the images are {kind}; set resize="
    ):
        check_resize({"min_size": 3}, sources)


@pytest.mark.parametrize(
    ("rule", "message"),
    [({"min_sise": 3}, "did you mean 'min_size'"), ({"max_size": 3}, "min_size is missing")],
)
def test_a_wrong_resize_rule_is_refused(rule: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_resize(rule, {"a": CELLS})


def test_data_that_disagree_on_the_mean_are_refused() -> None:
    other = source(["car"], ["cars"], mean=[9.0, 9.0, 9.0])
    with pytest.raises(UsageError, match="mean"):
        model_info({"a": CELLS, "b": other}, {"cells": {}, "cars": {}}, None)


def test_heads_and_data_have_to_meet() -> None:
    with pytest.raises(UsageError, match=r"data\.a\.heads.*'cells'.*did you mean 'cell'"):
        check_heads({"a": CELLS}, {"cell": {}})
    with pytest.raises(UsageError, match=r"heads\.other: no data set trains it.*data\.a\.heads"):
        check_trained({"a": CELLS}, {"cells": {}, "other": {}})
    with pytest.raises(UsageError, match="none chosen"):
        check_heads({}, {"cells": {}})
    check_trained({"a": CELLS}, {"cells": {}})


def test_a_data_set_without_training_images_trains_no_head() -> None:
    only_evaluated = source(["red"], ["cells"])
    only_evaluated.train = None
    with pytest.raises(UsageError, match=r"heads\.cells: no data set.* data\.b\.train"):
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


def test_a_stored_config_moves_to_its_new_run() -> None:
    plain = dict.fromkeys(RUN_KEYS) | {
        "command": "eval",
        "split": "val",
        "paths": {"run": "/old/run", "data": "/data"},
        "precision": "32-true",
        "trainer": {"precision": "32-true"},
        "callbacks": [{"folder": "/old/run/checkpoints"}, {"path": "/data/old/run"}],
    }
    opened = reopen(plain)
    assert opened["callbacks"] == [
        {"folder": "${paths.run}/checkpoints"},
        {"path": "/data/old/run"},
    ]
    assert opened["paths"] == {"run": None, "data": "/data"}
    assert opened["trainer"]["precision"] == "${precision}"
    assert not {"command", "split"} & opened.keys()
    assert plain["paths"]["run"] == "/old/run"
    with pytest.raises(UsageError, match=r"not of a run, trainer, inferer missing"):
        reopen({key: value for key, value in plain.items() if key not in ("trainer", "inferer")})
    own = reopen({**plain, "precision": "auto", "resume": "/old/run_2/last.ckpt"})
    assert (own["trainer"]["precision"], own["resume"]) == ("32-true", "/old/run_2/last.ckpt")


class Masks(Dataset):
    """Three masks in which the second class is absent."""

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("masks are read without their images")

    def __len__(self) -> int:
        return 3

    def mask(self, index: int) -> Any:
        return np.asarray([[0, 2]])

    def describe(self) -> dict[str, Any]:
        return {"names": ["background", "liver", "tumour"]}


def test_classes_that_no_training_mask_shows_are_named(caplog: pytest.LogCaptureFixture) -> None:
    say_unseen_classes(
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
    say_unseen_classes({"mine": SimpleNamespace(train=data)})
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


@pytest.mark.parametrize(
    ("info", "left"),
    [
        ({"spatial_dims": 3}, True),
        ({"spatial_dims": 2, "slices": {"axis": 0}}, True),
        ({"spatial_dims": 3, "orientation": None}, False),
        ({"spatial_dims": 2}, False),
    ],
)
def test_volumes_of_a_model_without_an_orientation_stay_as_stored(info, left, capsys) -> None:
    volumes = {"_target_": "densekit.data.MedicalVolumes", "root": "x"}
    said = {**volumes, "orientation": "LPS"}
    data = {"a": {"test": dict(volumes), "val": {"volumes": dict(volumes)}, "train": dict(said)}}
    keep_axes(data, info)
    expected = {**volumes, "orientation": None} if left else volumes
    assert data == {"a": {"test": expected, "val": {"volumes": expected}, "train": said}}
    assert (
        "axes of volumes are taken as stored" in " ".join(capsys.readouterr().out.split())
    ) is left
