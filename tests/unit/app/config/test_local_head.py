"""A head in a file of the working folder: every command that takes a checkpoint finds it."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from densekit import DenseModel
from densekit.app.cli import main
from densekit.app.run.job import _print_next_commands
from densekit.artifact import save_artifact
from densekit.backbones import ResNet

CODE = """
from densekit.heads import Embedding, UNet
class MyMasks(UNet): pass
class MyFaces(Embedding): pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file, a checkpoint of each of its heads, and pictures."""
    (tmp_path / "local_head_of_test.py").write_text(CODE)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        heads = importlib.import_module("local_head_of_test")
    masks = {"names": ["a", "b"], "ids": [0, 1], "num_classes": 2, "background": True}
    for name, head, known in (
        ("MyMasks", partial(heads.MyMasks, num_classes=2), masks),
        (
            "MyFaces",
            partial(heads.MyFaces, num_identities=2, embedding_size=4),
            {"num_identities": 2},
        ),
    ):
        model = DenseModel(ResNet(18, width=8), {"mine": head}, None, {"heads": {"mine": known}})
        node = {"_target_": f"local_head_of_test.{name}", **head.keywords}
        backbone = {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8}
        text = yaml.safe_dump({"backbone": backbone, "heads": {"mine": node}})
        save_artifact(tmp_path / f"{name}.ckpt", model, text)
    (tmp_path / "in").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    del sys.modules["local_head_of_test"]
    # As the command starts: its own folder is on the path, the working folder is not.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("predict checkpoint=MyMasks.ckpt source=in output=o", 0),
        ("predict checkpoint=MyMasks.ckpt source=in output=o inferer._recursive_=true", 0),
        ("export checkpoint=MyMasks.ckpt output=m.pt2 size=[32,32]", 0),
        ("export checkpoint=MyMasks.ckpt output=m.pt2 size=[32,32] heads=[mine]", 0),
        ("verify checkpoint=MyFaces.ckpt in/0.png in/1.png", 1),
        ("search checkpoint=MyFaces.ckpt in/0.png gallery=in", 0),
    ],
)
def test_commands_find_it(
    words: str, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert main(words.split()) == 2
        assert "trust=[local_head_of_test]" in capsys.readouterr().err
        assert main([*words.split(), "trust=[local_head_of_test]"]) == code
        said = capsys.readouterr().out
        if code == 1:  # no threshold: the command that measures one needs the word too
            assert "data=NAME 'trust=[local_head_of_test]'" in said
    finally:
        sys.modules.pop("local_head_of_test", None)


def test_the_next_commands_say_the_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"global_step": 4, "epoch": 0}, tmp_path / "checkpoints" / "last.ckpt")
    _print_next_commands(tmp_path, " 'trust=[my_head]'", {"trainer": {"max_epochs": 1}})
    lines = capsys.readouterr().out.replace("\n ", "").splitlines()
    assert [line.split(":")[0] for line in lines] == ["evaluate", "report", "predict", "continue"]
    assert all(line.endswith("'trust=[my_head]'") for line in lines)
