"""A head is added to a trained model, and the others answer as before, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from densekit.app.cli import main
from densekit.artifact import model_from_artifact
from densekit.types import Batch

COMMON = [
    *("seed=3", "precision=32-true", "trainer.accelerator=cpu", "trainer.max_steps=2"),
    *(f"data.scenes.{split}.length=4" for split in ("train", "val", "test")),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val", "test")),
    *("data.scenes.batch_size=2", "test=false", "callbacks.pictures=null", "callbacks.curves=null"),
    *("callbacks.progress=null", "trainer.enable_progress_bar=false"),
    "trainer.enable_model_summary=false",
]
DETECTOR = ["head=faster_rcnn_small", "neck.out_channels=32", "resize={min_size:96,max_size:96}"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("keep"))
        assert main(["train", "data=scenes", "run_name=detector", *DETECTOR, *COMMON]) == 0
        yield _checkpoint("detector")


def _checkpoint(name: str) -> Path:
    (run,) = (Path.cwd() / "runs" / name).iterdir()
    return run / "checkpoints" / "last.ckpt"


def _add(checkpoint: Path, *words: str) -> int:
    added = ["data=semantic_scenes", "head=unet", f"checkpoint={checkpoint}", *words, *COMMON]
    return main(["train", *added])


def test_kept_head_answers_bit_for_bit(detector: Path) -> None:
    assert _add(detector, "keep_heads=[detection]", "run_name=both") == 0
    before, after = model_from_artifact(detector), model_from_artifact(_checkpoint("both"))
    assert list(after.heads) == ["segmentation", "detection"]
    assert after.info["heads"]["detection"] == before.info["heads"]["detection"]
    assert after.info["resize"] == {"min_size": 96, "max_size": 96}
    image = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    batch = Batch(image=image, size=torch.tensor([[96, 96], [96, 80]]))
    with torch.no_grad():
        expected = before.eval().predict(batch)["detection"]
        found = after.eval().predict(batch, heads=["detection"])["detection"]
    assert expected["valid"].any()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keep_heads=[detectoin]"], "got 'detectoin'; did you mean 'detection'"),
        (
            ["keep_heads=[detection]", "+head@heads.detection=fcn"],
            "not also configured as new ones, got detection",
        ),
    ],
)
def test_refuses(
    detector: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _add(detector, *words) == 2
    assert message in capsys.readouterr().err


def test_needs_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "head=unet", "data=semantic_scenes", "keep_heads=[detection]"]) == 2
    assert "checkpoint: expected the model whose heads are kept" in capsys.readouterr().err
