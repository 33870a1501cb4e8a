"""Bad input through the commands: what `train`, `eval` and `predict` say, and that nothing is lost.

One row per case of files and annotations; the readers' own tests have many more of each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densekit.app.cli import main

SMALL = [
    *("data=coco_folder", "head=faster_rcnn_small", "backbone=resnet18", "backbone.width=8"),
    *(
        "neck.out_channels=16",
        "trainer.accelerator=cpu",
        "precision=32-true",
        "trainer.max_steps=1",
    ),
    *(
        "data.coco_folder.batch_size=2",
        "data.coco_folder.num_workers=0",
        "data.coco_folder.eval_batch_size=2",
    ),
    *("callbacks.pictures=null", "callbacks.progress=null", "callbacks.curves=null"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("resize.min_size=64", "resize.max_size=64", "backbone.weights=null"),
]


def write(folder: Path) -> None:
    """Four images with a box each, for training and validation."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
        content = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "height": 64, "width": 64} for n in range(4)
            ],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [9, 9, 30, 30]}
                for n in range(4)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))


@dataclass
class Trained:
    """A small run: its folder and its last checkpoint."""

    root: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    write(root / "data")
    assert (
        main(["train", *SMALL, f"paths.data={root / 'data'}", f"paths.runs={root / 'runs'}"]) == 0
    )
    (checkpoint,) = root.rglob("last.ckpt")
    return Trained(root, checkpoint)


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def annotation(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        edit(folder / "val.json", lambda content: content["annotations"][1].update(values))

    return damage


def record(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        edit(folder / "val.json", lambda content: content["images"][1].update(values))

    return damage


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "val.json").write_text(content) and None


def image(change: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "val" / "1.png") and None


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HALF = image(lambda path: path.write_bytes(path.read_bytes()[:9000] + bytes(3000)))
REFUSED: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    # name: damage, what is said, whether it concerns `predict`, which reads images alone
    "box that is NaN": (annotation(bbox=[float("nan"), 1, 2, 3]), "annotation 1", False),
    "unknown class": (annotation(category_id=9), "category_id: expected one of", False),
    "class by name": (annotation(category_id="cat"), "category_id: expected", False),
    "huge number": (annotation(bbox=[10**400, 1, 2, 3]), "val.json: expected JSON", False),
    "missing image": (record(file_name="9.png"), "9.png", False),
    "name without end": (record(file_name="x" * 5000), "val.json", False),
    "other size": (record(height=32), "1.png: expected the annotated height x width", False),
    "nested without end": (text("[" * 100_000), "val.json: expected JSON", False),
    "page of a portal": (text("<html>Sign in</html>"), "val.json: expected JSON", False),
    "half an image": (HALF, "1.png: expected a readable image", True),
    "empty image": (image(lambda path: path.write_bytes(b"")), "1.png: expected a readable", True),
    "pipe": (image(pipe), "1.png", True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_every_command_before_any_work(
    name: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message, of_images = REFUSED[name]
    data = tmp_path / "data"
    shutil.copytree(trained.root / "data", data)
    damage(data)
    runs = tmp_path / "runs"
    assert main(["train", *SMALL, f"paths.data={data}", f"paths.runs={runs}"]) == 2
    assert message in _error(capsys)
    assert not list(runs.rglob("*.ckpt"))
    words = [f"checkpoint={trained.checkpoint}", f"paths.data={data}", "split=val"]
    assert main(["eval", *words, f"output={tmp_path / 'eval'}"]) == 2
    assert message in _error(capsys)
    if of_images:
        words = [f"checkpoint={trained.checkpoint}", f"source={data / 'val'}"]
        assert main(["predict", *words, f"output={tmp_path / 'out'}"]) in (1, 2)
        said = capsys.readouterr()
        assert "1.png" in said.out + said.err or name == "pipe"


def _error(capsys: pytest.CaptureFixture[str]) -> str:
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


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "damaged"),
    "changed bit": (_flip, "damaged"),
    "text": (lambda path: path.write_text("weights: none\n"), "text: 'weights: none'"),
    "empty": (lambda path: path.write_bytes(b""), "expected a checkpoint"),
    "diverged": (_nan, "expected finite weights"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_bad_checkpoints_are_named(
    name: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = CHECKPOINTS[name]
    file = tmp_path / "bad.ckpt"
    shutil.copy(trained.checkpoint, file)
    damage(file)
    source, out = trained.root / "data" / "val", tmp_path / "out"
    for words in (
        ["eval", "split=val", f"output={out}"],
        ["predict", f"source={source}", f"output={out}"],
    ):
        assert main([*words, f"checkpoint={file}"]) == 2
        assert message in (said := _error(capsys))
        assert str(file) in said


KEPT: dict[str, Callable[[Path], None]] = {
    "no objects": lambda folder: edit(
        folder / "train.json", lambda content: content.update(annotations=[])
    ),
    "boxes outside and without an area": lambda folder: edit(
        folder / "train.json",
        lambda content: (
            [
                entry.update(bbox=box)
                for entry, box in zip(
                    content["annotations"],
                    ([-5, -5, 90, 90], [9, 9, 0, 5], [500, 500, 9, 9], [3, 3, 5, 5]),
                    strict=True,
                )
            ]
            and None
        ),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_can_be_used_is_trained_on(name: str, trained: Trained, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(trained.root / "data", data)
    KEPT[name](data)
    words = [*SMALL, f"paths.data={data}", f"paths.runs={tmp_path / 'runs'}"]
    assert main(["train", *words, "data.coco_folder.val=null"]) == 0
