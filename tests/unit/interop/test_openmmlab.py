"""What a checkpoint of OpenMMLab holds besides tensors is read as text, or not at all."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from densekit.interop.openmmlab import parse_config
from densekit.interop.reading import read_source

CONFIG = """
norm_cfg = dict(requires_grad=True, type='SyncBN')
model = dict(
    backbone=dict(depth=50, dilations=(1, 1, 2, 4), strides=[1, 2, 1, 1], type='ResNetV1c'),
    decode_head=dict({'in_channels': 2048}, align_corners=False, **{'loss.weight': -0.4}),
    pretrained=None)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', transforms=[dict(keep_ratio=True, type='Resize')]),
]
work_dir = os.system('true')
"""


class HistoryBuffer:
    """As mmengine's: arrays, and functions of its own class."""

    def __init__(self) -> None:
        self._log_history = np.arange(3.0)
        self._statistics_methods = OrderedDict(min=HistoryBuffer.min)

    def min(self) -> float:
        return float(self._log_history.min())


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What mmengine saves; its module exists only until the file is written."""
    name = "mmengine.logging.history_buffer"
    module = ModuleType(name)
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmengine", ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, "mmengine.logging", ModuleType("mmengine.logging"))
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(HistoryBuffer, "__module__", name)
    return {
        "state_dict": OrderedDict(weight=torch.ones(2)),
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}},
        "meta": {
            "cfg": CONFIG,
            "iter": np.int64(7),
            "dataset_meta": {"classes": ("wall", "sky"), "reduce_zero_label": True},
        },
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["new", "old"])
def test_objects_of_a_training_are_replaced(
    content: dict[str, Any], zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert "mmengine" not in sys.modules
    tensors, recipe = read_source(tmp_path / "a.pth")
    assert tensors["weight"].tolist() == [1, 1]
    assert recipe.names == ["wall", "sky"]
    assert recipe.skips_zero
    assert recipe.model["backbone"]["dilations"] == (1, 1, 2, 4)
    assert [step["type"] for step in recipe.transforms()] == [
        "LoadImageFromFile",
        "MultiScaleFlipAug",
        "Resize",
    ]


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["new", "old"])
def test_nothing_runs(content: dict[str, Any], zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "ran"
    content["hook"] = Runs(exec, f"open({str(file)!r}, 'w')")
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert set(read_source(tmp_path / "a.pth")[0]) == {"weight"}
    assert not file.exists()


def test_files_of_mmcv_and_state_dicts_alone(tmp_path: Path) -> None:
    meta = {"CLASSES": ["road"], "config": "model = dict(type='EncoderDecoder')"}
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": meta}, tmp_path / "a.pth")
    recipe = read_source(tmp_path / "a.pth")[1]
    assert (recipe.names, recipe.model, recipe.skips_zero) == (
        ["road"],
        {"type": "EncoderDecoder"},
        False,
    )
    torch.save({"a": torch.ones(1)}, tmp_path / "b.pth")
    tensors, recipe = read_source(tmp_path / "b.pth")
    assert set(tensors) == {"a"}
    assert (recipe.names, recipe.model, list(recipe.transforms())) == (None, {}, [])


def test_a_configuration_is_parsed_not_executed() -> None:
    found = parse_config(CONFIG)
    assert set(found) == {"model", "test_pipeline"}
    assert found["model"]["decode_head"] == {
        "in_channels": 2048,
        "align_corners": False,
        "loss.weight": -0.4,
    }
    assert found["model"]["pretrained"] is None


@pytest.mark.parametrize(
    "text",
    [None, 3, "model = dict(", "model = open('a')", "(" * 5000, "model, a = 1, 2", "model[0] = 1"],
)
def test_what_is_no_configuration_is_empty(text: object) -> None:
    assert parse_config(text) == {}
