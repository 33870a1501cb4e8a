"""Bad input through the commands: what `train`, `eval` and `predict` say, and that nothing is lost.

Each row of the design's table of bad inputs is a key of the tables in `bad_boxes.py` (boxes,
categories) and `bad_masks.py` (masks, volumes); those of losses, files of runs and misspelt words
are the tables below.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densekit.app.cli import main
from densekit.app.prediction import huge
from densekit.app.terminal import read_metrics
from tests.contract.bad_boxes import BOXES, CATEGORIES
from tests.contract.bad_masks import FLOATS, MASKS, VOLUMES
from tests.contract.small_sets import KINDS, Case, Done

TABLES = {"boxes": BOXES, "categories": CATEGORIES, "masks": MASKS, "volumes": VOLUMES}
CASES = {
    f"{kind}: {row}: {name}": (kind, case)
    for kind, table in TABLES.items()
    for row, cases in table.items()
    for name, case in cases.items()
}


@dataclass
class Trained:
    """A small run: its data and its last checkpoint."""

    data: Path
    checkpoint: Path


Runs = Callable[[str], Trained]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run on valid data of each kind, made when it is first asked for."""
    made: dict[str, Trained] = {}

    def train(kind: str) -> Trained:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            KINDS[kind].write(root / "data")
            words = [f"paths.data={root / 'data'}", f"paths.runs={root / 'runs'}"]
            assert main(["train", *KINDS[kind].words, *words]) == 0
            (checkpoint,) = root.rglob("last.ckpt")
            made[kind] = Trained(root / "data", checkpoint)
        return made[kind]

    return train


Said = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", CASES)
def test_inputs(
    name: str, trained: Runs, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, case = CASES[name]
    valid = trained(kind)
    data = tmp_path / "data"
    shutil.copytree(valid.data, data)
    case.damage(data)
    monkeypatch.setattr(huge, "HUGE", 60 * 60 if name.endswith("tiles") else huge.HUGE)
    capsys.readouterr()
    if case.refused:
        _refused(kind, case, data, valid.checkpoint, capsys)
    else:
        _used(kind, case, data, capsys)


def _refused(kind: str, case: Case, data: Path, checkpoint: Path, capsys: Said) -> None:
    runs = data.parent / "runs"
    words = [*KINDS[kind].words, *case.words, f"paths.data={data}", f"paths.runs={runs}"]
    assert main(["train", *words]) == 2
    assert case.refused in _error(capsys)
    assert not list(runs.rglob("*.ckpt"))
    if not case.words:  # else the checkpoint is one of other settings
        words = [f"checkpoint={checkpoint}", f"paths.data={data}", "split=val"]
        assert main(["eval", *words, f"output={data.parent / 'eval'}"]) == 2
        assert case.refused in _error(capsys)
    if case.predict:
        source, out = data / KINDS[kind].pictures, data.parent / "out"
        words = [f"checkpoint={checkpoint}", f"source={source}", f"output={out}"]
        assert main(["predict", *words]) in (1, 2)
        said = capsys.readouterr()
        assert case.refused in "".join((said.out + said.err).split("\n"))


def _used(kind: str, case: Case, data: Path, capsys: Said) -> None:
    root = data.parent
    words = [*KINDS[kind].words, *case.words, f"paths.data={data}", f"paths.runs={root / 'runs'}"]
    assert main(["train", *words]) == 0, _error(capsys)
    (checkpoint,) = root.rglob("last.ckpt")
    words = [f"checkpoint={checkpoint}", "split=val", f"output={root / 'eval'}"]
    assert main(["eval", *words]) == 0, _error(capsys)
    source = data / KINDS[kind].pictures
    words = [f"checkpoint={checkpoint}", f"source={source}", f"output={root / 'out'}"]
    assert main(["predict", *words]) == 0, _error(capsys)
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert case.says in text
    run = checkpoint.parents[1]
    metrics = read_metrics(root / "eval" / "metrics.json")
    case.check(Done(run, metrics, root / "out", text))


def _error(capsys: Said) -> str:
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def _nan(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.backbone.conv1.weight"][0] = torch.nan
    torch.save(content, path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class _Pickled:
    """An object whose pickle would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("unpickled",)


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "damaged"),
    "changed bit": (_flip, "damaged"),
    "text": (lambda path: path.write_text("weights: none\n"), "text: 'weights: none'"),
    "empty": (lambda path: path.write_bytes(b""), "expected a checkpoint"),
    "diverged": (_nan, "expected finite weights"),
    "hostile": (lambda path: torch.save({"config": _Pickled()}, path), "which can run code"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_bad_checkpoints_are_named(name: str, trained: Runs, tmp_path: Path, capsys: Said) -> None:
    damage, message = CHECKPOINTS[name]
    valid, file = trained("boxes"), tmp_path / "bad.ckpt"
    shutil.copy(valid.checkpoint, file)
    damage(file)
    source, out = valid.data / "val", tmp_path / "out"
    for words in (
        ["eval", "split=val", f"output={out}", f"checkpoint={file}"],
        ["predict", f"source={source}", f"output={out}", f"checkpoint={file}"],
        ["train", *KINDS["boxes"].words, f"paths.data={valid.data}", f"checkpoint={file}"],
    ):
        words += [f"paths.runs={tmp_path / 'runs'}"] * (words[0] == "train")
        assert main(words) == 2
        assert message in (said := _error(capsys))
        assert str(file) in said
        assert "unpickled" not in said


def test_a_damaged_run_goes_on_from_the_one_before(
    trained: Runs, tmp_path: Path, capsys: Said
) -> None:
    """The exact resume of runs that were killed is `tests/unit/app/run/test_stopped.py`."""
    valid = trained("boxes")
    run = tmp_path / "run"
    shutil.copytree(valid.checkpoint.parents[1], run)
    folder = run / "checkpoints"
    shutil.copy(folder / "last.ckpt", folder / "epoch_000.ckpt")
    _flip(folder / "last.ckpt")
    assert main(["train", f"resume={run}", "trainer.max_steps=2"]) == 0
    said = capsys.readouterr()
    assert "last.ckpt" in said.out + said.err
    assert "epoch_000.ckpt" in said.out + said.err


def test_a_loss_that_is_not_finite_ends_the_run_with_its_images(
    trained: Runs, tmp_path: Path, capsys: Said
) -> None:
    data = tmp_path / "data"
    shutil.copytree(trained("masks").data, data)
    enormous = Image.fromarray(np.full((64, 64), 3e38, np.float32))
    for file in (data / "images").iterdir():
        enormous.save(file, "TIFF")
    words = [
        *FLOATS,
        "backbone.norm=frozen",
        f"paths.data={data}",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    assert main(["train", *KINDS["masks"].words, *words]) == 2
    said = _error(capsys)
    assert "images/1.png" in said
    assert "First non-finite" in said
    assert list(tmp_path.rglob("non_finite/rank_0.pt"))
    assert not list(tmp_path.rglob("*.ckpt"))


MISSPELT = {
    "heads.detection.num_clases=3": "did you mean 'num_classes'",
    "trainer.max_stepz=3": "did you mean 'max_steps'",
    "head=faster_rcn": "faster_rcnn",
    "vars.train._target_=densekit.data.CocoDetectoin": "did you mean 'CocoDetection'",
    "vars.train.imagez=val": "did you mean 'images'",
    "neck._target_=acme.necks.FPN": "trust=[acme]",
    "trainr.max_steps=2": "trainr: expected",
}


@pytest.mark.parametrize("word", MISSPELT)
def test_misspelt_words_are_refused_with_the_nearest(
    word: str, trained: Runs, tmp_path: Path, capsys: Said
) -> None:
    words = [f"paths.data={trained('boxes').data}", f"paths.runs={tmp_path / 'runs'}", word]
    assert main(["train", *KINDS["boxes"].words, *words]) == 2
    said = _error(capsys)
    assert MISSPELT[word] in said
    assert re.split("[.=]", word)[0] in said
    assert not (tmp_path / "runs").exists()
